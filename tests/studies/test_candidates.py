"""What of a sweep is looked at again, and what of that becomes the candidate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from effcore.studies.candidates import (
    MOST_AGAIN,
    again_left,
    again_missing,
    candidate,
    proposed,
    scatter,
    second_looks,
)
from effcore.studies.frontier import (
    Confirmed,
    conclusion,
    settled,
    sweep_record,
)
from effcore.studies.points import Point
from effcore.studies.sweep import (
    again_seeds,
    confirming_seeds,
)
from effcore.verdict import Kind
from tests.studies.sweeps import AGAIN_SEEDS, DENSE, again, look, plan, point

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
    names = [p.name for p in proposed(plan(margin=0.02), [*DENSE, *trials])]
    assert names == ["trial 5", "trial 0", "trial 4"], "of equals the cheaper"
    assert proposed(plan(margin=0.001), [*DENSE, *trials[2:4]]) == []
    assert proposed(plan(), trials) == [], "nothing is as good as what is not there"
    many = [point(f"trial {n}", 0.25 + n / 10, 0.95) for n in range(6)]
    assert [p.number for p in proposed(plan(), [*DENSE, *many])] == list(range(MOST_AGAIN))
    better = [point(f"trial {n}", 0.25 + n / 10, 0.95 + n / 1000) for n in range(6)]
    assert [p.number for p in proposed(plan(), [*DENSE, *better])] == [2, 3, 4, 5], "the best four"


def test_a_trial_that_luck_may_have_put_below_the_margin_is_proposed() -> None:
    def seeds(of: Point, *metrics: float) -> Point:
        return of._replace(looks={n: look(m, of.budget) for n, m in enumerate(metrics)})

    task, full = plan(seeds=(0, 1), margin=0.01), seeds(DENSE[0], 0.95, 0.97)
    near = seeds(point("trial 0", 0.5, 0.0), 0.95, 0.94)  # -0.015, scattered by 0.02
    far = seeds(point("trial 1", 0.3, 0.0), 0.90, 0.88)
    steady = seeds(point("trial 2", 0.4, 0.0), 0.935, 0.955)  # the same, and shown
    points = [full, near, far]
    differences = [[0.0, -0.03], [-0.05, -0.09]]
    pooled = np.mean([np.var(each, ddof=1) for each in differences])
    width = stats.t.ppf(0.95, 2) * np.sqrt(pooled / 2)
    assert scatter(task, points) == pytest.approx(width)
    assert [p.name for p in proposed(task, points)] == ["trial 0"]
    assert proposed(task, [full, steady]) == [], "where nothing scatters the mean decides"
    assert scatter(plan(margin=0.01), [DENSE[0], near]) == 0.0, "one seed shows no scatter"


def test_the_candidate_is_the_cheapest_that_fresh_seeds_find_not_inferior() -> None:
    task = plan(margin=0.02)
    cheap, middle, dear = (point(f"trial {n}", 0.3 + n / 5, 0.95) for n in range(3))
    seen = [again(DENSE[0], 0.95), *DENSE[1:]]
    found = candidate(task, [*seen, again(cheap, 0.95)])
    assert found is not None
    assert found.name == "trial 0"
    # A mean within the margin is not enough; what is dearer is then asked.
    lost = again(cheap, 0.94, scatter=0.02)
    points = [*seen, lost, again(middle, 0.949, scatter=0.01), again(dear, 0.99)]
    (one, two) = second_looks(task, points)
    assert (one.passed, two.passed, two.point.name) == (False, True, "trial 1")
    assert one.paired is not None
    assert one.paired.bound < -0.02 < one.paired.mean
    assert again_missing(task, points) == []
    # What is not over stops the asking: the cheapest comes first.
    short = [*seen, again(cheap, 0.99, count=3), again(middle, 0.99), dear]
    assert candidate(task, short) is None
    cells = again_missing(task, short)
    assert [(c.arm, c.seed) for c in cells] == [("trial 0", s) for s in again_seeds(task)[3:]]
    assert again_left(task, short) == AGAIN_SEEDS - 3 + 2 * AGAIN_SEEDS
    fresh = again_missing(task, [*DENSE, cheap])
    assert {c.arm for c in fresh} == {"dense 1", "trial 0"}
    assert len(fresh) == 2 * AGAIN_SEEDS


def test_a_point_that_breaks_down_again_is_no_candidate() -> None:
    cheap = again(point("trial 0", 0.3, 0.95), 0.99)
    broken = cheap._replace(again={**cheap.again, 50: look(math.nan)})
    full = again(DENSE[0], 0.95)
    assert candidate(plan(), [full, broken]) is None
    both = full._replace(again={**full.again, 50: look(math.nan)})
    assert candidate(plan(), [both, broken]) is not None, "such a seed says nothing"


def test_the_seeds_of_each_stage_are_its_own() -> None:
    for seeds in ((0,), (50, 57, 58, 101)):
        task = plan(seeds=seeds)
        stages = [set(seeds), set(again_seeds(task)), set(confirming_seeds(task, 20))]
        assert [len(each) for each in stages[1:]] == [AGAIN_SEEDS, 20]
        assert len(set.union(*stages)) == sum(map(len, stages))


def test_a_candidate_that_test_does_not_confirm_gives_way_to_the_next() -> None:
    full = again(DENSE[0], 0.95)
    cheap, dear = again(point("trial 0", 0.3, 0.95), 0.95), point("trial 1", 0.5, 0.95)
    points, task = [full, cheap, dear], plan(trials=2)
    lost = {"trial 0": Confirmed("s", Kind.LOSS.value, False, "Worse.")}
    assert not settled(task, points, {}), "it is to be confirmed"
    assert not settled(task, points, lost), "the next is to be looked at"
    assert {cell.arm for cell in again_missing(task, points, lost)} == {"trial 1"}
    assert "is not over" in conclusion(task, points, lost)
    points[-1] = again(dear, 0.95)
    assert conclusion(task, points, lost).startswith("Trial 1 skips 50%")
    assert not settled(task, points, lost), "the next is to be confirmed"
    won = lost | {"trial 1": Confirmed("t", Kind.WIN.value, True, "As good.")}
    assert settled(task, points, won)
    assert sweep_record("x", task, points, won)["recommended"] == "trial 1"
    assert "looked at again" not in conclusion(task, points, won)
    joined = [again(point(f"trial {n}", 0.9, 0.5), 0.5) for n in range(2, 5)]
    assert "5 trials were looked at again" in conclusion(task, [*points, *joined], won)
    both = lost | {"trial 1": lost["trial 0"]}
    assert settled(task, points, both)
    assert conclusion(task, points, both).count("on test: Worse.") == 2
    # Where shortening does as well, a dearer point has no better case.
    short = {"trial 0": Confirmed("s", Kind.OVERTRAINED.value, False, "So.")}
    assert settled(task, points, short)
