from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Self

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from effcore.energy.meter import RunMeter
from effcore.energy.sources.base import (
    SOURCES,
    EnergySource,
    EnergyUnavailable,
    Reading,
    error_text_without_paths,
)
from effcore.energy.sources.replay import ReplaySource
from effcore.energy.sources.survey import SourceStatus, survey_sources
from effcore.records import Energy, EnergyQuality
from tests.energy.fake_nvml import FakeNvml, install
from tests.energy.scripted import Clock, Scripted

# Readings ------------------------------------------------------------------------------


JOULES = st.none() | st.floats(min_value=0, max_value=1e15)


def test_the_measuring_source_is_tried_before_the_estimating_one() -> None:
    shipped = {
        "nvml": EnergyQuality.MEASURED,
        "rapl": EnergyQuality.MEASURED,
        "apple": EnergyQuality.MODELLED,
        "cpu-model": EnergyQuality.ESTIMATED,
    }
    assert [name for name in SOURCES.ids() if name in shipped] == list(shipped)
    assert {name: SOURCES.get(name).quality for name in shipped} == shipped
    order = [EnergyQuality.MEASURED, EnergyQuality.MODELLED, EnergyQuality.ESTIMATED]
    of_processors = [kind.quality for kind in SOURCES if kind.device_type == "cpu"]
    assert of_processors[-1] is EnergyQuality.ESTIMATED
    assert all(quality in order for quality in of_processors)
    assert all(kind.title and kind.summary and kind.hz > 0 for kind in SOURCES)


def test_unavailable_says_why_and_what_to_do() -> None:
    refusal = EnergyUnavailable("no driver", "install it")
    assert (refusal.reason, refusal.remedy, str(refusal)) == (
        "no driver",
        "install it",
        "no driver; install it",
    )


def test_an_interval_reading_has_no_points() -> None:
    reading = Reading.interval(1.0, (2.0, 3.0), (4.0, 5.0))
    assert math.isnan(reading.power_w)
    assert math.isnan(reading.energy_j)
    assert (reading.power_lo_w, reading.power_hi_w) == (2.0, 3.0)
    assert (reading.energy_lo_j, reading.energy_hi_j) == (4.0, 5.0)


@given(JOULES, JOULES, JOULES, st.sampled_from(EnergyQuality))
def test_energy_is_never_written_without_its_quality(
    joules: float | None, lo: float | None, hi: float | None, quality: EnergyQuality
) -> None:
    text = str(Energy(joules, lo, hi, 1.0, quality, "a meter", "a board"))
    assert quality.value.upper() in text
    assert "a meter" in text
    assert "a board" in text


def test_a_faults_words_name_no_folder() -> None:
    missing = FileNotFoundError(2, "No such file or directory", "/home/alice/lib/libx.so")
    assert error_text_without_paths(missing) == "No such file or directory"
    assert (
        error_text_without_paths(RuntimeError("cannot load /home/alice/lib/libx.so"))
        == "cannot load libx.so"
    )


# Survey --------------------------------------------------------------------------------


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


# Recordings ----------------------------------------------------------------------------


#: t_s, power_w, energy_j: ten seconds at 20 W, the power missing once.
TRACE = np.array(
    [np.arange(0.0, 10.5, 0.5), [math.nan] + [20.0] * 20, 500.0 + np.arange(0.0, 210.0, 10.0)]
)


class Still(ReplaySource):
    """Read by the test only: its meter's thread practically never wakes."""

    hz = 1e-6


def test_a_trace_is_played_in_its_own_time_and_called_recorded() -> None:
    clock = Clock()
    run = RunMeter(Still(TRACE, "GPU board of a test bench", clock), clock)
    run.start()
    for clock.now in (0.7, 5.0, 9.9):
        run.sample()
    energy = run.stop()
    assert (energy.joules, energy.seconds) == (190.0, 9.5)  # the last row that was due
    assert energy.quality is EnergyQuality.RECORDED
    assert str(energy) == "190.0 J RECORDED · GPU board of a test bench · recorded trace"
    rows = run.table.view()
    assert math.isnan(rows[1, 0])
    assert set(rows[1, 1:]) == {20.0}


def test_between_rows_the_last_one_stands_with_its_own_time() -> None:
    clock = Clock()
    source = ReplaySource(TRACE, "a bench", clock)
    clock.now = 1.4
    reading = source.read()
    assert (reading.t_mono, reading.energy_j, reading.power_w) == (1.0, 520.0, 20.0)


@pytest.mark.parametrize("now", [-0.1, 10.1])
def test_outside_of_the_recording_nothing_is_made_up(now: float) -> None:
    clock = Clock()
    source = ReplaySource(TRACE, "a bench", clock)
    clock.now = now
    with pytest.raises(EnergyUnavailable, match="covers 0 to 10 s"):
        source.read()


def test_a_recorded_reset_voids_the_window_as_a_real_one_does() -> None:
    trace = TRACE.copy()
    trace[2, 10:] -= 400.0
    clock = Clock()
    run = RunMeter(Still(trace, "a bench", clock), clock)
    run.start()
    clock.now = 8.0
    assert run.stop().quality is EnergyQuality.UNAVAILABLE


def test_no_run_finds_a_recording() -> None:
    assert "replay" not in SOURCES.ids()
    assert ReplaySource not in list(SOURCES)
    for device in ("cpu", "cuda", "cuda:1"):
        with pytest.raises(EnergyUnavailable, match="does not show the present energy of"):
            ReplaySource.open(device)


def changed(row: int, column: int, value: float) -> np.ndarray:
    trace = TRACE.copy()
    trace[row, column] = value
    return trace


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        (TRACE[:2], r"shape \(2, 21\): expected \(3, rows\)"),
        (TRACE[:, :0], "expected"),
        (TRACE[0], "shape"),
        (changed(0, 3, 1.0), "times of trace do not rise"),
        (changed(0, 3, math.nan), "times of trace do not rise"),
        (changed(2, 3, math.nan), "an estimate has no values to record"),
    ],
)
def test_a_trace_that_is_none_is_refused(trace: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReplaySource(trace, "a bench")


def test_the_trace_is_the_sources_own() -> None:
    trace = TRACE.copy()
    source = ReplaySource(trace, "a bench", Clock())
    trace[2] = 0.0
    assert source.read().energy_j == 500.0
