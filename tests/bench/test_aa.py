from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import pytest
from click.testing import CliRunner

from effcore.__main__ import main
from effcore.bench import error_rates as module
from effcore.bench.error_rates import run_aa_test
from effcore.energy.meter import RunMeter
from effcore.energy.sources.base import SharedUse
from effcore.records import EnergyQuality
from effcore.testing.tiny_task import tiny_task
from tests.energy.scripted import Clock, Estimating, Scripted, measured


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(module, "train", lambda config: [])
    with tiny_task():
        yield


def meters(joules: Sequence[float]) -> Callable[[str], RunMeter]:
    """Return what opens meters: one to ask whether there is any, then of 10 s and these joules."""
    draws = iter([1.0, *joules])
    return lambda device: RunMeter(Scripted([measured(0, 0), measured(10, next(draws))]), Clock())


def test_pairs_interleave_and_the_interval_is_of_the_ratio() -> None:
    joules = [100.0, 101.0, 103.0, 100.0] * 4  # ABBA: B takes 1 %, then 3 % more
    messages: list[str] = []
    result = run_aa_test("tiny", 1, 8, "cpu", messages.append, meters(joules))
    assert result.pairs[:2] == ((100.0, 101.0), (100.0, 103.0))
    assert result.ratio == pytest.approx((1.01 * 1.03) ** 0.5)
    assert 1.0 < result.lo < result.ratio < result.hi < 1.03
    assert (result.holds_one, result.quality, result.seconds) == (
        False,
        EnergyQuality.MEASURED,
        10.0,
    )
    assert "does not hold 1" in str(result)
    assert "MEASURED · a bench · script" in str(result)
    assert len(messages) == 8


def test_random_differences_of_equal_trainings_are_no_saving() -> None:
    joules = list(itertools.islice(itertools.cycle([100.0, 101.0]), 16))  # the second one warmer
    result = run_aa_test("tiny", 1, 8, "cpu", lambda _: None, meters(joules))
    assert result.holds_one
    assert "holds 1, as it should" in str(result)


@pytest.mark.parametrize(
    ("meter", "words"),
    [
        (lambda: RunMeter(None, Clock(), "no driver"), "nothing meters 'cpu': no driver"),
        (lambda: RunMeter(Estimating(), Clock()), "script is no measurement"),
    ],
)
def test_without_a_measurement_it_refuses_before_it_trains(
    meter: Callable[[], RunMeter], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "train", lambda config: 1 / 0)
    with pytest.raises(RuntimeError, match=words):
        run_aa_test("tiny", 1, 8, "cpu", lambda _: None, lambda device: meter())


def test_a_board_that_other_processes_used_makes_no_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scripted, "shared_use_hz", 0.2)
    monkeypatch.setattr(Scripted, "shared_use", lambda self: SharedUse(True, "process 77"))
    with pytest.raises(RuntimeError, match="other processes used the device"):
        run_aa_test("tiny", 1, 8, "cpu", lambda _: None, meters([100.0] * 16))


def test_few_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="pairs=7 is not allowed: expected 8 or more"):
        run_aa_test("tiny", 1, 7, "cpu", lambda _: None)


def test_the_command_reports_in_a_line_that_nothing_measures() -> None:
    result = CliRunner().invoke(main, ["bench", "aa", "--task", "tiny", "--device", "cpu"])
    assert result.exit_code == 1
    # Where counters may be read, it trains; but here that takes no time.
    assert "nothing measures 'cpu'" in result.stderr or "no joules of its own" in result.stderr
