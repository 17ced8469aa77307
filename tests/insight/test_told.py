"""What a race says: bars, captions and the end; joules never without how they are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings

from effcore.energy.arithmetic import has_joules
from effcore.insight.race_narration import (
    duration_text,
    energies_comparable,
    race_ending,
    race_rows,
    stage_caption,
)
from effcore.insight.race_recording import RaceStage, race_stage
from effcore.records import Energy, EnergyQuality, RunStatus
from tests.energy.labels import unlabelled
from tests.energy.test_labels import claims, energies
from tests.fakes import ESTIMATED, UNAVAILABLE
from tests.insight.races import METERED, race, training, waiting

LESS = replace(METERED, joules=6.0, lo=5.4, hi=6.6)


def test_bars_are_on_the_scale_of_the_dense_run() -> None:
    flops, seconds, energy = race_rows(*race(own=LESS))
    assert (flops.name, flops.dense.hi, flops.efficient.hi) == ("Computation", 1.0, 0.6)
    assert (flops.dense.text, flops.efficient.text) == ("100 GFLOP", "60.0 GFLOP")
    assert (seconds.dense.text, seconds.efficient.text) == ("10 s", "6.0 s")
    assert seconds.efficient.hi == pytest.approx(0.6)
    assert energy.efficient.lo == energy.efficient.hi == pytest.approx(0.6)
    assert energy.note == "measured"


def test_while_the_dense_run_trains_its_bars_fill_with_its_progress() -> None:
    dense, efficient = race()
    flops, seconds, energy = race_rows(training(dense, 0.5), waiting(efficient))
    for row in (flops, seconds, energy):
        assert row.dense.hi == pytest.approx(0.5)
        assert (row.efficient.text, row.efficient.hi) == ("–", 0.0)
    assert [row.dense.hi for row in race_rows(training(dense, 0.001), waiting(efficient))] == [
        0.0
    ] * 3


def test_an_efficient_run_that_takes_more_sets_the_scale() -> None:
    _, seconds, _ = race_rows(*race(seconds=20.0))
    assert (seconds.dense.hi, seconds.efficient.hi) == (0.5, 1.0)


def test_an_estimate_is_a_band_and_what_does_not_compare_is_no_bar() -> None:
    *_, energy = race_rows(*race(ESTIMATED, ESTIMATED))
    assert (energy.dense.lo, energy.dense.hi) == (0.25, 1.0)
    assert energy.dense.text == "≈ 5–20 J ESTIMATED"
    for own, dense in ((ESTIMATED, METERED), (METERED, UNAVAILABLE), (UNAVAILABLE, UNAVAILABLE)):
        assert [row.name for row in race_rows(*race(own, dense))] == ["Computation", "Time"]


@settings(max_examples=60)
@given(energies(), energies())
def test_joules_are_named_with_their_quality_and_an_estimate_saves_none(
    own: Energy, dense: Energy
) -> None:
    both = race(own, dense)
    drawn = [bar for row in race_rows(*both) for bar in (row.dense, row.efficient)]
    assert all(0.0 <= bar.lo <= bar.hi <= 1.0 for bar in drawn)
    said = race_ending(*both).saved
    for text in [bar.text for bar in drawn] + list(said):
        assert unlabelled(text) == []
    *_, energy = said
    assert energy.startswith("Energy: ")
    assert "energy" not in " ".join(said[:-1]).lower(), "a saving of FLOPs is none of energy"
    if " joules, " in energy:
        assert has_joules(own)
        assert own.quality is dense.quality is not EnergyQuality.ESTIMATED
        assert own.quality in claims(energy)
        assert ("not measured" in energy) == (own.quality is not EnergyQuality.MEASURED)
    elif own.quality is EnergyQuality.ESTIMATED and energies_comparable(own, dense):
        assert "no saving of energy is claimed" in energy


def test_the_end_says_what_was_saved_in_words() -> None:
    saved, cost, sure = race_ending(*race(own=LESS, metric=0.919))
    assert saved[0].startswith("Computation: 40% less. 60.0 GFLOP instead of 100 GFLOP")
    assert saved[1] == "Time: 40% less. 6.0 s instead of 10 s."
    assert saved[2].startswith("Energy: 27% to 51% fewer joules, measured. 6.0 J MEASURED")
    assert cost == (
        "Nothing that matters: 0.10 points, within the margin of 0.50 points.",
        "Accuracy, the share it gets right; higher is better: 91.90 % against 92.00 %.",
        "In short: −40% computation, −0.10 points, one seed.",
    )
    assert "one seed" in sure[0]
    assert "normal training on the same budget" in sure[1]


@pytest.mark.parametrize(
    ("metric", "headline", "cost"),
    [
        (0.95, "result is better", "Nothing: the result is even better, by 3.00 points."),
        (0.92, "result is as good", "Nothing that matters: 0.00 points"),
        (0.90, "result is worse", "The result is worse by 2.00 points"),
        (None, "not known", "not both known"),
    ],
)
def test_losses_are_said_as_plainly_as_gains(metric: float, headline: str, cost: str) -> None:
    both = race(metric=metric)
    assert headline in stage_caption(RaceStage.RESULT, *both)
    assert "40% less computation" in stage_caption(RaceStage.RESULT, *both)
    assert cost in race_ending(*both).cost[0]


def test_more_is_called_more() -> None:
    more = replace(METERED, joules=15.0, lo=14.0, hi=16.0)
    saved = race_ending(*race(own=more, seconds=15.0)).saved
    assert saved[1] == "Time: 50% more. 15 s instead of 10 s."
    assert saved[2].startswith("Energy: 27% to 78% more joules, measured. 15.0 J MEASURED")
    unclear = race_ending(*race(own=replace(METERED, joules=10.0, lo=8.0, hi=12.0))).saved[2]
    assert unclear.startswith("Energy: between 33% more and 27% fewer joules, measured.")


def test_a_race_is_told_from_the_question_to_its_end() -> None:
    dense, efficient = race()
    wait = waiting(efficient)
    looks = [
        (training(dense, 0.1), wait), (training(dense, 0.5), wait), (training(dense, 0.9), wait),
        (dense, training(efficient, 0.2)), (dense, training(efficient, 0.8)), (dense, efficient),
    ]  # fmt: skip
    told_so_far = [stage_caption(race_stage(*look), *look) for look in looks]
    assert len(set(told_so_far)) == len(looks)
    assert "all 1,000 digits every time" in told_so_far[0]
    assert "trained on again every 8 epochs" in told_so_far[3]
    assert "it has skipped 50% of the digits" in told_so_far[4]
    assert "It stops at 60% of full training's computation" in told_so_far[4]


def test_a_race_that_broke_off_says_which_run_and_why() -> None:
    dense, efficient = race()
    gone = replace(dense, status=RunStatus.FAILED, reason="the disk is full")
    words = stage_caption(RaceStage.BROKEN, gone, waiting(efficient))
    assert words.startswith("Full training failed, so there is nothing to compare. The disk")


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.21, "3.2 s"), (41.4, "41 s"), (125.0, "2:05 min")]
)
def test_durations_are_written_as_people_say_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
