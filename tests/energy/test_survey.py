from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import pytest
import torch

from effcore.energy.sources.base import SOURCES, EnergySource, EnergyUnavailable
from effcore.energy.sources.replay import ReplaySource
from effcore.energy.sources.survey import SourceStatus, survey_sources
from effcore.records import EnergyQuality
from tests.energy.fake_nvml import FakeNvml, install
from tests.energy.scripted import Scripted


class Probe(Scripted):
    """A registered source that says what it is told to, and counts its openings."""

    id = "probe"
    title = "Probe"
    summary = "For tests."
    rank = 99
    fault: Exception | None = None
    live: list[EnergySource] = []
    closing: Exception | None = None

    @classmethod
    def open(cls, device: str) -> Self:
        if cls.fault is not None:
            raise cls.fault
        opened = cls()
        opened.scope = device
        cls.live.append(opened)
        return opened

    def close(self) -> None:
        Probe.live.remove(self)
        if self.closing is not None:
            raise self.closing


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Probe]]:
    monkeypatch.setattr(Probe, "live", [])
    monkeypatch.setattr(Probe, "fault", None)
    monkeypatch.setattr(Probe, "closing", None)
    SOURCES.discover()
    SOURCES.add(Probe)
    yield Probe
    SOURCES.remove("probe")


def of(name: str, answers: list[SourceStatus]) -> list[SourceStatus]:
    return [answer for answer in answers if answer.id == name]


def cards(patch: pytest.MonkeyPatch, n: int) -> None:
    patch.setattr(torch.cuda, "device_count", lambda: n)


def test_every_registered_source_answers_in_the_order_of_rank() -> None:
    assert [answer.id for answer in survey_sources("cpu")] == SOURCES.ids()
    assert list(dict.fromkeys(answer.id for answer in survey_sources())) == SOURCES.ids()


def test_what_opens_says_what_it_covers_and_what_does_not_says_why() -> None:
    for answer in survey_sources():
        words = (answer.reason, answer.remedy), (answer.scope, answer.source)
        silent, said = words if answer.available else words[::-1]
        assert silent == ("", "")
        assert all(said)
    (estimate,) = of("cpu-model", survey_sources())
    assert (estimate.quality, estimate.available) == (EnergyQuality.ESTIMATED, True)
    assert estimate.scope == "CPU, as this process loads it"


@pytest.mark.parametrize("n", [0, 2])
def test_a_source_of_another_device_gives_the_reason_of_its_own(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards(monkeypatch, n)
    answers = {answer.id: answer.reason for answer in survey_sources()}
    assert "torch cannot use" in answers["nvml"], "and not that it does not see the CPU"
    assert "not installed" in answers["apple"]
    assert "not see" not in "".join(answers.values())


def test_asked_for_one_device_each_answers_for_that_one() -> None:
    answers = {answer.id: answer for answer in survey_sources("cuda:0")}
    assert len(answers) == len(SOURCES.ids())
    assert not any(answer.available for answer in answers.values())
    assert "'cuda:0', which an estimate for the CPU does not cover" in answers["cpu-model"].reason


def test_each_card_has_an_answer_of_its_own(
    probe: type[Probe], monkeypatch: pytest.MonkeyPatch
) -> None:
    cards(monkeypatch, 2)
    assert [answer.scope for answer in of("probe", survey_sources())] == ["cpu", "cuda:0", "cuda:1"]
    assert [answer.scope for answer in of("probe", survey_sources("cuda:1"))] == ["cuda:1"]
    assert probe.live == [], "what was opened is closed"


def test_a_card_that_cannot_be_read_beside_one_that_can_says_why(
    probe: type[Probe], monkeypatch: pytest.MonkeyPatch
) -> None:
    cards(monkeypatch, 2)
    usual = probe.open

    def open_one(device: str) -> Probe:
        if device != "cuda:0":
            words = "is split" if device == "cuda:1" else f"{device!r} is not mine"
            raise EnergyUnavailable(words, "mend it")
        return usual(device)

    monkeypatch.setattr(probe, "open", open_one)
    first, second = of("probe", survey_sources())
    assert (first.available, first.scope) == (True, "cuda:0")
    assert (second.available, second.reason) == (False, "of 'cuda:1': is split")


def test_a_board_that_can_be_read_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    cards(monkeypatch, 1)
    nvml = FakeNvml(lambda t: 200.0)
    with install(nvml):
        (board,) = of("nvml", survey_sources())
    assert (board.available, board.quality) == (True, EnergyQuality.MEASURED)
    assert board.scope == "GPU board NVIDIA Fake"
    assert nvml.users == 0


@pytest.mark.parametrize(
    ("fault", "reason", "remedy"),
    [
        (EnergyUnavailable("no wire", "plug it in"), "no wire", "plug it in"),
        (KeyError("odd"), "it failed: KeyError: 'odd'", "report it"),
        (
            PermissionError(13, "Permission denied", "/home/someone/secret"),
            "it failed: PermissionError: Permission denied",
            "report it",
        ),
        (
            ImportError("cannot import name 'x' from 'y' (/home/someone/env/lib/y/__init__.py)"),
            "it failed: ImportError: cannot import name 'x' from 'y' (__init__.py)",
            "report it",
        ),
        (OSError("C:\\Users\\someone\\y.dll is missing"), "OSError: y.dll is missing", "report"),
    ],
)
def test_a_source_that_breaks_hides_no_other_and_names_no_folder(
    probe: type[Probe],
    fault: Exception,
    reason: str,
    remedy: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probe, "fault", fault)
    answers = survey_sources()
    (broken,) = of("probe", answers)
    assert not broken.available
    assert reason in broken.reason
    assert remedy in broken.remedy
    assert of("cpu-model", answers)[0].available


def test_a_source_that_breaks_on_closing_has_still_answered(
    probe: type[Probe], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "closing", RuntimeError("stuck"))
    assert of("probe", survey_sources("cpu"))[0].available


def test_a_source_without_words_is_a_fault_and_closed(
    probe: type[Probe], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wordless(device: str) -> Probe:
        opened = Probe()
        del opened.scope
        probe.live.append(opened)
        return opened

    monkeypatch.setattr(probe, "open", wordless)
    (broken,) = of("probe", survey_sources("cpu"))
    assert "it failed: AttributeError" in broken.reason
    assert probe.live == []


def test_a_recording_is_no_instrument_of_this_machine() -> None:
    assert ReplaySource.id not in {answer.id for answer in survey_sources()}
