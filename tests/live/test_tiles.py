from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from effcore.live.tiles import run_tiles, status_with_tiles
from effcore.records import RunEnd, RunStatus, Snapshot
from effcore.records.units import clock_text, si_number_and_prefix
from effcore.testing.tiny_task import tiny_task
from tests.fakes import ESTIMATED, INFO, N_TRAIN, UNAVAILABLE, config, snapshot, step_table


def tile(id: str, look: Snapshot, reference: Snapshot | None = None) -> dict[str, Any]:
    return next(t for t in run_tiles(look, INFO, reference) if t["id"] == id)


def dense(n: int = 60) -> Snapshot:
    """Every example trained on, twice the power, as long a step."""
    power = snapshot(n).power.copy()
    power[[1, 4]] *= 2
    steps = step_table(n, skip=0.0, selection=0.0)
    evals = snapshot(n).evals.copy()
    evals[1] = [100.0, 6000.0]
    return snapshot(n, run_id="dense", steps=steps, power=power, evals=evals)


def test_status_is_json_and_says_where_the_run_is() -> None:
    state = json.loads(json.dumps(status_with_tiles(snapshot(), INFO), allow_nan=False))
    assert (state["status"], state["step"], state["passes"]) == ("running", 20, "Epoch 4.0 of 4")
    assert state["eta"] == "0:06"  # a quarter took 2 s
    assert [t["id"] for t in state["tiles"]] == ["metric", "skip", "energy", "time", "saving"]


def test_before_the_first_step_tiles_are_dashes() -> None:
    empty = snapshot(0, start=None, steps=np.empty((8, 0)), progress=0.0)
    state = status_with_tiles(empty, INFO)
    assert {t["value"] for t in state["tiles"]} == {"–"}
    assert (state["step"], state["eta"]) == (0, "")


def test_a_finished_run_has_no_time_left() -> None:
    done = snapshot(status=RunStatus.FINISHED, progress=0.99)
    assert (status_with_tiles(done, INFO)["eta"], status_with_tiles(done, INFO)["progress"]) == (
        "",
        1.0,
    )
    assert tile("time", done)["lines"][0] == "finished"


def test_passes_are_whole_at_the_end_but_where_a_budget_ends_them() -> None:
    end = RunEnd(RunStatus.FINISHED, "", "accuracy", 0.9, 4, 4 * N_TRAIN, 390, 1e9, 1e9, 6.0, None)
    look = snapshot(steps=step_table(39, skip=0.0), end=end, status=RunStatus.FINISHED)

    def passes(of: Snapshot) -> str:
        return str(status_with_tiles(of, INFO)["passes"])

    assert passes(look) == "Epoch 4 of 4"
    assert passes(replace(look, end=None, status=RunStatus.RUNNING)) == "Epoch 3.9 of 4"
    budgeted = replace(look, config=config(budget=0.6))
    assert passes(budgeted) == "4.0 epochs on a budget of 60% of full training"
    assert passes(replace(budgeted, status=RunStatus.STOPPED)) == (
        "Epoch 4.0, budget 60% of full training"
    )


def test_metric_is_compared_with_dense_at_the_same_passes() -> None:
    alone = tile("metric", snapshot())
    assert (alone["value"], alone["unit"]) == ("90.0", "%")
    assert alone["lines"] == ["no reference yet"]
    at = 0.5 + 0.4 * (4000 - 100) / 5900  # between dense's two evaluations
    expected = f"{100 * (0.9 - at):+.1f} points against full training, same epoch"
    assert tile("metric", snapshot(), dense())["lines"] == [expected]


def ended(look: Snapshot, metric: float | None, considered: int = 4000) -> Snapshot:
    end = RunEnd(
        RunStatus.FINISHED, "", "accuracy", metric, 4, considered, 2000, 1.0, 2.0, 2.0, None
    )
    return replace(look, end=end, status=RunStatus.FINISHED)


def test_past_the_end_of_dense_the_metric_is_compared_with_that_end() -> None:
    few = dense()
    few.evals[1] = [100.0, 3000.0]
    assert tile("metric", snapshot(), few)["lines"] == ["+0.0 points against full training so far"]
    over = replace(few, status=RunStatus.FINISHED)
    assert tile("metric", snapshot(), over)["lines"] == [
        "+0.0 points against the end of full training"
    ]


@pytest.mark.parametrize("how", [RunStatus.STOPPED, RunStatus.FAILED, RunStatus.INTERRUPTED])
def test_a_dense_run_cut_short_is_compared_as_far_as_it_went(how: RunStatus) -> None:
    few = replace(dense(), status=how)
    assert tile("metric", snapshot(), few)["lines"][0].endswith("against full training, same epoch")
    few.evals[1] = [100.0, 3000.0]
    gone = [f"the reference ended earlier ({how})"]
    assert tile("metric", snapshot(), few)["lines"] == gone
    stub = replace(ended(dense(), 0.2, 1000), status=how)
    assert tile("metric", ended(snapshot(), 0.85), stub)["lines"] == gone


def test_a_run_that_is_over_shows_the_figures_of_its_end() -> None:
    over = tile("skip", ended(snapshot(), 0.85))
    assert over["lines"][0] == "50.0% since the start"  # spent 1 of 2; the last step said 45%


def test_the_final_metric_replaces_the_validation_and_says_so() -> None:
    before, after = tile("metric", snapshot()), tile("metric", ended(snapshot(), 0.85))
    assert (before["label"], before["value"]) == ("Accuracy, validation", "90.0")
    assert (after["label"], after["value"]) == ("Accuracy, test", "85.0")
    failed = tile("metric", ended(snapshot(), None))
    assert (failed["label"], failed["value"]) == ("Accuracy, validation", "90.0")


def test_of_a_fit_the_metric_says_over_which_pixels() -> None:
    fit = replace(INFO, is_fit=True)
    looks = (snapshot(), ended(snapshot(), 0.85))
    labels = [
        next(t for t in run_tiles(look, fit) if t["id"] == "metric")["label"] for look in looks
    ]
    assert labels == ["Accuracy on a grid of pixels", "Accuracy on all pixels"]


def test_the_final_metric_is_compared_with_the_final_metric_of_dense() -> None:
    look = ended(snapshot(), 0.85)
    same, longer = (ended(dense(), 0.8, considered) for considered in (4000, 6000))
    assert tile("metric", look, same)["lines"] == ["+5.0 points against full training, same epoch"]
    assert tile("metric", look, longer)["lines"] == ["+5.0 points against the end of full training"]
    assert tile("metric", look, dense())["lines"] == ["the reference has no value here"]


def test_skip_tile_has_now_total_and_the_cost_of_selecting() -> None:
    found = tile("skip", snapshot())
    assert found["value"] + found["unit"] == "45% now"
    assert found["lines"] == ["45.0% since the start", "selection costs 5.0%"]


def test_a_share_that_rounds_to_nothing_has_no_sign() -> None:
    look = snapshot(steps=step_table(20, skip=0.0, selection=0.0004))
    found = tile("skip", look)
    assert (found["value"], found["lines"][0]) == ("0", "0.0% since the start")
    over = ended(look, 0.9)
    assert over.end is not None
    over = replace(over, end=replace(over.end, flops_spent=100.3, flops_full=100.0))
    assert tile("saving", over)["value"] == "0%"
    reference = replace(ended(dense(), 0.9), config=FULL)
    assert tile("saving", over, reference)["value"] == "±0%"


def test_a_run_under_way_says_what_it_spent_and_calls_nothing_saved() -> None:
    found = tile("saving", snapshot(), dense())
    assert (found["label"], found["value"]) == ("Computation spent", "110")
    assert found["unit"] == "kFLOP, 55% of full training"
    assert found["lines"] == ["−2.0 s, −50% so far", "−6.0 J measured, −75% so far"]


FULL = config(selection="dense", knobs={})


def compared(own: float, reference: float, **changes: Any) -> dict[str, Any]:
    """The tile of a run that spent 60% beside full training, by their metrics."""
    runs = []
    for metric, spent, seconds in ((own, 60.0, 8.0), (reference, 100.0, 10.0)):
        look = ended(snapshot(), metric)
        assert look.end is not None
        end = replace(look.end, flops_spent=spent, flops_full=100.0, seconds=seconds)
        runs.append(replace(look, end=end, **changes))
    return tile("saving", runs[0], replace(runs[1], config=FULL))


def test_saved_stands_beside_what_it_cost_and_is_red_beyond_the_margin() -> None:
    with tiny_task():
        met = replace(snapshot().energy, lo=10.0, hi=10.0)
        found = compared(0.9, 0.9, energy=met)
        assert (found["label"], found["value"], found["unit"]) == ("Saved", "−40%", "computation")
        assert found["lines"] == ["±0.0 points, one seed", "−20% time, ±0% joules measured"]
        assert found["tone"] == ""
        worse = compared(0.7, 0.9, energy=ESTIMATED)
        assert worse["lines"] == [
            "−20.0 points, one seed: beyond the margin",
            "−20% time, 8.0 s against 10.0 s",
        ]
        assert worse["tone"] == "worse"


def test_without_a_finished_reference_nothing_is_called_saved() -> None:
    look = ended(snapshot(), 0.9)
    assert look.end is not None
    look = replace(look, end=replace(look.end, flops_spent=60.0, flops_full=100.0))
    for reference in (None, dense(), replace(dense(), status=RunStatus.STOPPED)):
        found = tile("saving", look, reference)
        assert (found["label"], found["value"]) == ("Computation not spent", "40%")
        assert found["lines"] == [
            "No reference of seed 0 yet",
            "Run again with the reference first",
        ]
    full = tile("saving", replace(look, config=FULL))
    assert (full["label"], full["lines"][0]) == (
        "Computation spent",
        "This is full training: other runs",
    )


def test_estimated_joules_are_never_a_saving() -> None:
    lines = tile("saving", snapshot(energy=ESTIMATED), dense())["lines"]
    assert lines == ["−2.0 s, −50% so far", "joules: not measured"]
    met = dense().energy
    for elsewhere in (
        replace(met, source="another counter"),
        replace(met, device_uuid="GPU-1"),
        replace(met, card="another"),
    ):
        other = replace(dense(), energy=elsewhere)
        assert tile("saving", snapshot(), other)["lines"][1] == "joules: not from the same meter"
    assert tile("saving", snapshot())["lines"][0] == "seconds, joules: no reference"
    assert tile("saving", snapshot(), dense(30))["lines"][0] == "the reference had fewer epochs"


def test_energy_never_comes_without_its_quality() -> None:
    measured, guess, none = (tile("energy", snapshot(energy=e)) for e in _ENERGIES)
    assert (measured["value"], measured["lines"]) == ("10", ["measured", "GPU board"])
    assert (guess["value"], guess["lines"][0]) == ("5–20", "estimated")
    assert (none["label"], none["value"] + none["unit"]) == ("FLOPs spent", "110kFLOP")
    assert none["lines"] == ["energy unavailable", "No TDP."]
    assert [t["quality"] for t in (measured, guess, none)] == [e.quality for e in _ENERGIES]


_ENERGIES = (snapshot().energy, ESTIMATED, UNAVAILABLE)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3661, "1:01:01")]
)
def test_clock(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, ("0", "")), (999.6, ("1", "k")), (1.234e9, ("1.23", "G")), (5e24, ("5e+06", "E"))],
)
def test_si(value: float, text: tuple[str, str]) -> None:
    assert si_number_and_prefix(value) == text
