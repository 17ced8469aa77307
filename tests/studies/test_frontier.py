"""Results of a sweep: its front, its pruned trials and its conclusion."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from effcore.records import Energy, EnergyQuality, RunStatus
from effcore.studies.candidates import (
    point_cost,
)
from effcore.studies.frontier import (
    Confirmation,
    SweepOutcome,
    hypervolume_history,
    knob_importances,
    pareto_front,
    sweep_record,
    sweep_result,
    sweep_text,
)
from effcore.studies.sweep import SweepPlan
from effcore.studies.trials import PruningReference, SweepPoint, pruning_reference, sweep_points
from effcore.studies.verdict import Outcome
from tests.store.samples import ESTIMATE
from tests.studies.sweeps import DENSE, again, concluded, look, plan, point

pytestmark = pytest.mark.usefixtures("tiny_sweeps")


def test_the_front_leaves_out_what_another_beats() -> None:
    trials = [point("trial 0", 0.6, 0.95), point("trial 1", 0.5, 0.94), point("trial 2", 0.7, 0.94),
              point("trial 3", 0.3, 0.7)]  # fmt: skip
    names = [p.name for p in pareto_front(plan(), [*DENSE, *trials])]
    assert names == ["trial 3", "trial 1", "trial 0"]


def test_a_cost_that_is_not_known_disturbs_nothing() -> None:
    own = replace(ESTIMATE, joules=50.0, lo=None, hi=None, quality=EnergyQuality.MEASURED)
    costs = (1.0, 0.8, 0.6, 0.5, 0.4)
    metered = [
        point(f"trial {n}", 0.5, 0.9 + c / 10, energy=replace(own, joules=50 * c))
        for n, c in enumerate(costs)
    ]
    by, full = plan(by="joules", trials=5), point("dense 1", 1.0, 0.95, energy=own)
    lost = [p._replace(snapshots={0: replace(p.snapshots[0], energy=ESTIMATE)}) for p in metered]
    mixed = [full, *metered[:2], lost[2], *metered[3:]]
    assert [p.name for p in pareto_front(by, mixed)] == ["trial 4", "trial 3", "trial 1", "trial 0"]
    none = [full, *lost]
    assert (pareto_front(by, none), hypervolume_history(by, none)) == ([], [])
    told = sweep_result("x", by, none, {})
    assert told.outcome is SweepOutcome.COST_UNKNOWN
    assert sweep_record(told)["conclusion"].startswith("No conclusion: joules are not known")
    assert sweep_text(told).count("unknown  ") == 5


def test_nothing_wins_is_said() -> None:
    one = plan(trials=1)
    bad = [*DENSE, point("trial 0", 0.5, 0.5)]
    assert concluded(one, bad, {}).startswith("Nothing wins: none of 1 trials")
    assert concluded(plan(), bad, {}).startswith("1 of 4 trials have ended")
    assert concluded(one, bad[1:], {}).startswith("Full training has not finished on all seeds")
    broken = replace(look(0.9), status=RunStatus.FAILED, reason="the loss is no number")
    lost_full = [DENSE[0]._replace(snapshots={0: broken}, is_complete=False), *bad[1:]]
    assert "full training broke down (the loss is no number)" in concluded(one, lost_full, {})
    pending = [*DENSE, point("trial 0", 0.5, 0.95)]
    assert "The second look" in concluded(one, pending, {}), "as of a sweep before there was one"
    full = again(DENSE[0], 0.95)
    lost = [full, *DENSE[1:], again(pending[-1], 0.9)]
    assert "no trial that was rerun on fresh seeds (trial 0) is shown to match" in concluded(
        one, lost, {}
    )
    good = [full, *DENSE[1:], again(pending[-1], 0.95)]
    assert "not confirmed yet" in concluded(plan(), good, {})
    for kind, noninferior, begins in [
        (Outcome.WIN, True, "Recommended: trial 0 saves 50% of full training's computation"),
        (Outcome.TIE, True, "Recommended"),
        (
            Outcome.OVERTRAINED,
            True,
            "Nothing wins: trial 0 saves 50% of full training's computation",
        ),
        (
            Outcome.INCONCLUSIVE,
            False,
            "Nothing wins: no trial that was rerun on fresh seeds (tri",
        ),
        (Outcome.TOO_FEW_SEEDS, None, "Nothing wins"),
        (Outcome.BROKE_DOWN, False, "Nothing wins"),
    ]:
        told = Confirmation("s", kind, noninferior, "Because.")
        tried = {"trial 0": told}
        assert concluded(one, good, tried).startswith(begins), kind
        assert told.sentence in concluded(one, good, tried)
        recommended = sweep_record(sweep_result("x", one, good, tried))["recommended"]
        assert (recommended == "trial 0") is (kind in (Outcome.WIN, Outcome.TIE))


def test_each_conclusion_has_an_outcome_of_its_own() -> None:
    one, two = plan(trials=1), plan(trials=2)
    full, near = again(DENSE[0], 0.95), point("trial 0", 0.5, 0.95)
    broken = replace(look(0.9), status=RunStatus.FAILED, reason="the loss is no number")
    lost_full = DENSE[0]._replace(snapshots={0: broken}, is_complete=False)
    good = [full, again(near, 0.95)]

    def confirmed(verdict: Outcome, noninferior: bool) -> dict[str, Confirmation]:
        return {"trial 0": Confirmation("s", verdict, noninferior, "Because.")}

    cases: list[tuple[SweepOutcome, SweepPlan, list[SweepPoint], dict[str, Confirmation]]] = [
        (SweepOutcome.FULL_TRAINING_UNFINISHED, one, [near], {}),
        (SweepOutcome.FULL_TRAINING_FAILED, one, [lost_full, near], {}),
        (SweepOutcome.TRIALS_UNFINISHED, two, [full, near], {}),
        (SweepOutcome.NONE_PROPOSED, one, [full, point("trial 0", 0.5, 0.5)], {}),
        (SweepOutcome.REPLICATION_UNFINISHED, one, [full, near], {}),
        (SweepOutcome.NONE_REPLICATED, one, [full, again(near, 0.5)], {}),
        (SweepOutcome.UNCONFIRMED, one, good, {}),
        (SweepOutcome.RECOMMENDED, one, good, confirmed(Outcome.TIE, True)),
        (SweepOutcome.SHORTENING_DOES_AS_WELL, one, good, confirmed(Outcome.OVERTRAINED, True)),
        (SweepOutcome.NOT_CONFIRMED, one, good, confirmed(Outcome.OVERTRAINED, False)),
        (SweepOutcome.NONE_REPLICATED, one, good, confirmed(Outcome.LOSS, False)),
    ]
    for outcome, task, points, confirmations in cases:
        result = sweep_result("x", task, points, confirmations)
        assert result.outcome is outcome
        record = sweep_record(result)
        assert record["outcome"] == outcome.value
        assert record["conclusion"].startswith("Nothing wins") is outcome.nothing_wins
        assert (record["recommended"] == "trial 0") is (outcome is SweepOutcome.RECOMMENDED)
    untested = set(SweepOutcome) - {outcome for outcome, *_ in cases}
    assert untested == {SweepOutcome.COST_UNKNOWN}, "which has a test of its own"


def test_cost_is_of_joules_only_where_both_are_known_in_the_same_way() -> None:
    def joules(value: float, quality: EnergyQuality = EnergyQuality.MEASURED) -> Energy:
        return Energy(value, value, value, 1.0, quality, "meter", "board")

    by = plan(by="joules")
    full = point("dense 1", 1.0, 0.95, energy=joules(200.0))
    same = point("trial 0", 0.6, 0.95, energy=joules(100.0))
    assert point_cost(by, [full, same], same) == 0.5
    assert point_cost(plan(), [full, same], same) == pytest.approx(0.6)
    other = point("trial 0", 0.6, 0.95, energy=joules(100.0, EnergyQuality.SUSPECT))
    assert math.isnan(point_cost(by, [full, other], other))
    shared = point("trial 0", 0.6, 0.95, energy=replace(joules(100.0), contended=True))
    assert math.isnan(point_cost(by, [full, shared], shared)), "others used the board"
    seen = [again(full, 0.95), again(same, 0.95)]
    assert concluded(by, seen, {}).startswith(
        "Trial 0 saves 50% of full training's MEASURED joules and"
    )
    won = {"trial 0": Confirmation("s", Outcome.WIN, True, "As good.")}
    assert "Recommended: trial 0 saves 50% of full training's MEASURED joules" in concluded(
        by, seen, won
    )
    assert sweep_record(sweep_result("x", by, seen, {}))["cost"].endswith("MEASURED joules")
    guessed = [p._replace(snapshots={0: replace(p.snapshots[0], energy=ESTIMATE)}) for p in DENSE]
    assert math.isnan(point_cost(by, guessed, guessed[1])), "an estimate is no cost"


def test_a_trial_is_pruned_by_the_next_smaller_dense_run() -> None:
    task = plan(margin=0.01)
    rival = pruning_reference(task, DENSE, 0.7, 0)
    assert rival is not None
    assert rival.metrics[-1] == 0.93
    assert rival.should_prune(look(0.8, 0.7))
    assert not rival.should_prune(look(0.84, 0.7)), "ten margins are allowed"
    assert not rival.should_prune(look(0.1, 0.7, way=0.45)), "it may still come round"
    least = pruning_reference(task, DENSE, 0.2, 0)
    assert least is not None
    assert least.metrics[-1] == 0.8, "below the curve its least budget"
    assert pruning_reference(task, [], 0.5, 0) is None
    lower = PruningReference(np.array([0.0, 1.0]), np.array([2.0, 1.0]), -1.0, 0.5)
    assert lower.should_prune(look(1.6))
    assert not lower.should_prune(look(0.2))


def test_points_say_what_became_of_them() -> None:
    broken = replace(look(0.9), status=RunStatus.FAILED, reason="the loss is no number")
    runs = {"trial 1": {0: replace(look(0.9), status=RunStatus.STOPPED)}, "trial 0": {0: broken},
            "dense 1": {0: look(0.9)}}  # fmt: skip
    found = sweep_points(plan(), runs)
    assert [p.name for p in found] == ["dense 1", "trial 0", "trial 1"]
    told = sweep_record(sweep_result("x", plan(), found, {}))["points"]
    assert [each["state"] for each in told] == ["done", "failed", "stopped as hopeless"]
    assert told[1]["why"] == "the loss is no number"
    assert found[0].knobs == {}
    json.dumps(told, allow_nan=False)
    assert not sweep_points(plan(seeds=(0, 1)), {"trial 0": {0: look(0.9)}})[0].is_complete


def test_hypervolume_grows_and_importance_finds_the_knob_that_matters() -> None:
    draw = np.random.default_rng(0)
    trials = []
    for number in range(12):
        mass, budget = draw.uniform(0, 0.9), draw.uniform(0.3, 0.9)
        each = point(f"trial {number}", budget, 0.9 - mass / 10)
        trials.append(each._replace(knobs={"mass": mass, "revisit": int(draw.integers(2, 20))}))
    volumes = hypervolume_history(plan(), [*DENSE, *trials])
    assert len(volumes) == 12
    assert volumes == sorted(volumes)
    assert volumes[-1] > 0
    shares = knob_importances(plan(), [*DENSE, *trials])
    assert max(shares, key=shares.__getitem__) == "mass"
    assert sum(shares.values()) == pytest.approx(1.0)
    assert knob_importances(plan(), trials[:7]) == {}
    assert hypervolume_history(plan(), trials) == []
