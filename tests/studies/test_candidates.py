"""Which trials of a sweep are replicated, and which becomes the candidate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from effcore.studies.candidates import (
    MAX_REPLICATIONS,
    find_candidate,
    missing_replication_runs,
    proposed_trials,
    replication_runs_left,
    replications,
    scatter_allowance,
)
from effcore.studies.frontier import (
    Confirmation,
    search_is_settled,
    sweep_record,
    sweep_result,
)
from effcore.studies.sweep import (
    confirmation_seeds,
    replication_seeds,
)
from effcore.studies.trials import SweepPoint
from effcore.studies.verdict import Outcome
from tests.studies.sweeps import AGAIN_SEEDS, DENSE, again, concluded, look, plan, point

pytestmark = pytest.mark.usefixtures("tiny_sweeps")


def test_the_search_proposes_the_best_of_each_tenth_of_the_cost() -> None:
    trials = [
        point("trial 0", 0.6004, 0.96),
        point("trial 1", 0.55, 0.95),
        point("trial 2", 0.4, 0.932),
        point("trial 3", 0.42, 0.92),
        point("trial 4", 0.78, 0.97),
        point("trial 5", 0.31, 0.94),
        point("trial 6", 0.32, 0.94),
    ]
    names = [p.name for p in proposed_trials(plan(margin=0.02), [*DENSE, *trials])]
    assert names == ["trial 5", "trial 0", "trial 4"], "of equals the cheaper"
    assert proposed_trials(plan(margin=0.001), [*DENSE, *trials[2:4]]) == []
    assert proposed_trials(plan(), trials) == [], "nothing is as good as what is not there"
    many = [point(f"trial {n}", 0.25 + n / 10, 0.95) for n in range(6)]
    assert [p.trial_number for p in proposed_trials(plan(), [*DENSE, *many])] == list(
        range(MAX_REPLICATIONS)
    )
    better = [point(f"trial {n}", 0.25 + n / 10, 0.95 + n / 1000) for n in range(6)]
    assert [p.trial_number for p in proposed_trials(plan(), [*DENSE, *better])] == [2, 3, 4, 5], (
        "the best four"
    )


def test_a_trial_that_luck_may_have_put_below_the_margin_is_proposed() -> None:
    def seeds(of: SweepPoint, *metrics: float) -> SweepPoint:
        return of._replace(snapshots={n: look(m, of.budget) for n, m in enumerate(metrics)})

    task, full = plan(seeds=(0, 1), margin=0.01), seeds(DENSE[0], 0.95, 0.97)
    near = seeds(point("trial 0", 0.5, 0.0), 0.95, 0.94)  # -0.015, scattered by 0.02
    far = seeds(point("trial 1", 0.3, 0.0), 0.90, 0.88)
    steady = seeds(point("trial 2", 0.4, 0.0), 0.935, 0.955)  # the same, and shown
    points = [full, near, far]
    differences = [[0.0, -0.03], [-0.05, -0.09]]
    pooled = np.mean([np.var(each, ddof=1) for each in differences])
    width = stats.t.ppf(0.95, 2) * np.sqrt(pooled / 2)
    assert scatter_allowance(task, points) == pytest.approx(width)
    assert [p.name for p in proposed_trials(task, points)] == ["trial 0"]
    assert proposed_trials(task, [full, steady]) == [], "where nothing scatters the mean decides"
    assert scatter_allowance(plan(margin=0.01), [DENSE[0], near]) == 0.0, (
        "one seed shows no scatter"
    )


def test_the_candidate_is_the_cheapest_that_fresh_seeds_find_not_inferior() -> None:
    task = plan(margin=0.02)
    cheap, middle, dear = (point(f"trial {n}", 0.3 + n / 5, 0.95) for n in range(3))
    seen = [again(DENSE[0], 0.95), *DENSE[1:]]
    found = find_candidate(task, [*seen, again(cheap, 0.95)])
    assert found is not None
    assert found.name == "trial 0"
    # A mean within the margin is not enough; what is dearer is then asked.
    lost = again(cheap, 0.94, scatter=0.02)
    points = [*seen, lost, again(middle, 0.949, scatter=0.01), again(dear, 0.99)]
    (one, two) = replications(task, points)
    assert (one.passed, two.passed, two.point.name) == (False, True, "trial 1")
    assert one.paired is not None
    assert one.paired.bound < -0.02 < one.paired.mean
    assert missing_replication_runs(task, points) == []
    # What is not over stops the asking: the cheapest comes first.
    short = [*seen, again(cheap, 0.99, count=3), again(middle, 0.99), dear]
    assert find_candidate(task, short) is None
    cells = missing_replication_runs(task, short)
    assert [(c.variant, c.seed) for c in cells] == [
        ("trial 0", s) for s in replication_seeds(task)[3:]
    ]
    assert replication_runs_left(task, short) == AGAIN_SEEDS - 3 + 2 * AGAIN_SEEDS
    fresh = missing_replication_runs(task, [*DENSE, cheap])
    assert {c.variant for c in fresh} == {"dense 1", "trial 0"}
    assert len(fresh) == 2 * AGAIN_SEEDS


def test_a_point_that_breaks_down_again_is_no_candidate() -> None:
    cheap = again(point("trial 0", 0.3, 0.95), 0.99)
    broken = cheap._replace(
        replication_snapshots={**cheap.replication_snapshots, 50: look(math.nan)}
    )
    full = again(DENSE[0], 0.95)
    assert find_candidate(plan(), [full, broken]) is None
    both = full._replace(replication_snapshots={**full.replication_snapshots, 50: look(math.nan)})
    assert find_candidate(plan(), [both, broken]) is not None, "such a seed says nothing"


def test_a_replication_on_too_few_seeds_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("effcore.studies.sweep.REPLICATION_SEEDS", 8)
    seeds = replication_seeds(plan())
    good = again(point("trial 0", 0.3, 0.95), 0.95, 0.001, count=8)
    full = again(DENSE[0], 0.95, count=8)
    (passed,) = replications(plan(margin=0.02), [full, *DENSE[1:], good])
    assert passed.passed is True
    broken = {seed: look(0.95) if place < 2 else look(math.nan) for place, seed in enumerate(seeds)}
    lost = full._replace(replication_snapshots=broken)
    (replication,) = replications(plan(margin=0.02), [lost, *DENSE[1:], good])
    assert (len(replication.seeds), replication.passed) == (2, False)


def test_the_seeds_of_each_stage_are_its_own() -> None:
    for seeds in ((0,), (50, 57, 58, 101)):
        task = plan(seeds=seeds)
        stages = [set(seeds), set(replication_seeds(task)), set(confirmation_seeds(task, 20))]
        assert [len(each) for each in stages[1:]] == [AGAIN_SEEDS, 20]
        assert len(set.union(*stages)) == sum(map(len, stages))


def test_a_candidate_that_test_does_not_confirm_gives_way_to_the_next() -> None:
    full = again(DENSE[0], 0.95)
    cheap, dear = again(point("trial 0", 0.3, 0.95), 0.95), point("trial 1", 0.5, 0.95)
    points, task = [full, cheap, dear], plan(trials=2)
    lost = {"trial 0": Confirmation("s", Outcome.LOSS, False, "Worse.")}
    assert not search_is_settled(task, points, {}), "it is to be confirmed"
    assert not search_is_settled(task, points, lost), "the next is to be looked at"
    assert {cell.variant for cell in missing_replication_runs(task, points, lost)} == {"trial 1"}
    assert "second look has not finished" in concluded(task, points, lost)
    points[-1] = again(dear, 0.95)
    assert concluded(task, points, lost).startswith("Trial 1 saves 50% of")
    assert not search_is_settled(task, points, lost), "the next is to be confirmed"
    won = lost | {"trial 1": Confirmation("t", Outcome.WIN, True, "As good.")}
    assert search_is_settled(task, points, won)
    assert sweep_record(sweep_result("x", task, points, won))["recommended"] == "trial 1"
    assert "trials were rerun on fresh seeds" not in concluded(task, points, won)
    joined = [again(point(f"trial {n}", 0.9, 0.5), 0.5) for n in range(2, 5)]
    assert "5 trials were rerun on fresh seeds" in concluded(task, [*points, *joined], won)
    both = lost | {"trial 1": lost["trial 0"]}
    assert search_is_settled(task, points, both)
    assert concluded(task, points, both).count("on test: Worse.") == 2
    # Where same-budget training matches too, a costlier trial is no better.
    short = {"trial 0": Confirmation("s", Outcome.OVERTRAINED, False, "So.")}
    assert search_is_settled(task, points, short)
