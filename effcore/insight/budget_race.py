"""Why it matters which dense run a policy is compared with: four arms of one small race.

Kaddour et al. 2023, *No Train No Gain*: dense training whose learning rate is decayed over the
budget is what a policy has to beat. A dense run that is merely cut off still has a high
learning rate when it ends, and is beaten by nearly anything.
"""

from __future__ import annotations

import functools
from typing import Final, NamedTuple

import numpy as np

from effcore.insight.multi_seed_learner import MultiSeedLearner, steps_for_frac
from effcore.policies.selection.base import SELECTIONS
from effcore.records import FloatArray
from effcore.studies.statistics import PairedDifference, paired_difference
from effcore.training.optimizer import learning_rate_factor

POLICY: Final = "confident-skip"
#: Looks at the validation split on the way of a whole run.
_EVALUATIONS = 20


class BudgetRaceCurve(NamedTuple):
    """One arm: how it went, and what it came to.

    Attributes:
        spent: Share of the whole computation at each look, (looks,).
        rate: Share of the peak learning rate there, (looks,).
        validation: Accuracy on the validation split, mean over seeds, (looks,).
        test: Accuracy on the test split at its end, by seed, (seeds,).
    """

    spent: FloatArray
    rate: FloatArray
    validation: FloatArray
    test: FloatArray

    @property
    def mean_test_accuracy(self) -> float:
        """Accuracy on the test split, mean over seeds."""
        return float(self.test.mean())


class BudgetRace(NamedTuple):
    """Four arms; all but the first spend the budget.

    Attributes:
        full: Dense, all of the computation.
        cut: The same run, cut off at the budget.
        matched: Dense, its learning rate decayed over the budget.
        policy: Confident skip, likewise.
    """

    full: BudgetRaceCurve
    cut: BudgetRaceCurve
    matched: BudgetRaceCurve
    policy: BudgetRaceCurve

    def gain(self, baseline: str) -> PairedDifference:
        """Return by how much the policy is better than another arm, paired by seed."""
        other: BudgetRaceCurve = getattr(self, baseline)
        return paired_difference(self.policy.test.tolist(), other.test.tolist())

    def conclusion(self) -> str:
        """Return in one sentence what the choice of baseline decides here, from both intervals."""
        cut, matched = self.gain("cut"), self.gain("matched")
        if cut.lo <= 0:
            return "At this budget it is not clearly better than even the cut-off run."
        if matched.lo > 0:
            return "It is better than both, so something is left once the baseline is fair."
        if matched.hi < 0:
            return "Against the cut-off run it looks like a win; against the fair one it is a loss."
        return "Against the cut-off run it looks like a win; against the fair one it is a tie."


def run_budget_race(budget: float) -> BudgetRace:
    """Train the four arms.

    Args:
        budget: Share of the whole computation, in (0, 1].
    """
    whole, steps = steps_for_frac(1.0), steps_for_frac(budget)
    return BudgetRace(
        _train_curve("dense", whole, whole),
        _train_curve("dense", steps, whole),
        _train_curve("dense", steps, steps),
        _train_curve(POLICY, steps, steps),
    )


@functools.lru_cache(maxsize=64)
def _train_curve(selection: str, steps: int, decayed_over: int) -> BudgetRaceCurve:
    """Train for so many steps; deciding costs a thousandth of a pass here and is left out."""
    learner, every = (
        MultiSeedLearner(SELECTIONS.get(selection)(), decayed_over),
        steps_for_frac(1.0 / _EVALUATIONS),
    )
    rows = [_curve_point(learner, decayed_over)]
    while learner.steps < steps:
        learner.step()
        if learner.steps % every == 0 or learner.steps == steps:
            rows.append(_curve_point(learner, decayed_over))
    spent, rate, validation = np.array(rows).T
    return BudgetRaceCurve(spent, rate, validation, learner.accuracy("test"))


def _curve_point(learner: MultiSeedLearner, decayed_over: int) -> tuple[float, float, float]:
    rate = learning_rate_factor(learner.steps / decayed_over)
    return learner.steps / steps_for_frac(1.0), rate, float(learner.accuracy("validation").mean())
