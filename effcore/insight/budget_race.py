"""Small race of a policy and three dense baselines, to show why the baseline matters.

Kaddour et al. 2023, *No Train No Gain*: the fair baseline is dense training whose learning rate
decays over the same budget. A dense run that is merely cut off ends with a high learning rate,
and nearly any policy beats it.
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
#: Evaluations on the validation split during full training.
_EVALUATIONS = 20


class BudgetRaceCurve(NamedTuple):
    """Learning curve and final accuracy of one variant.

    Attributes:
        spent: Share of full training's computation at each evaluation, (evaluations,).
        rate: Learning rate there, as a share of its peak, (evaluations,).
        validation: Accuracy on the validation split, mean over seeds, (evaluations,).
        test: Final accuracy on the test split, by seed, (seeds,).
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
    """The four variants; all but the first spend the budget.

    Attributes:
        full: Full training.
        cut: Full training, cut off at the budget.
        matched: Same-budget training: dense, with the learning rate decayed over the budget.
        policy: Confident skip, with the learning rate decayed over the budget.
    """

    full: BudgetRaceCurve
    cut: BudgetRaceCurve
    matched: BudgetRaceCurve
    policy: BudgetRaceCurve

    def gain(self, baseline: str) -> PairedDifference:
        """Return the policy's test accuracy less that of another variant, paired by seed."""
        baseline_curve: BudgetRaceCurve = getattr(self, baseline)
        return paired_difference(self.policy.test.tolist(), baseline_curve.test.tolist())

    def conclusion(self) -> str:
        """Return a sentence on how the verdict depends on the baseline, from both intervals."""
        cut, matched = self.gain("cut"), self.gain("matched")
        if cut.lo <= 0:
            return "At this budget the policy is not clearly better, not even than the cut-off run."
        if matched.lo > 0:
            return "The policy is better than both, so it also beats the fair baseline."
        if matched.hi < 0:
            return (
                "Against the cut-off run the policy looks like a win; against the fair baseline it "
                "is a loss."
            )
        return (
            "Against the cut-off run the policy looks like a win; against the fair baseline it is "
            "a tie."
        )


def run_budget_race(budget: float) -> BudgetRace:
    """Train the four variants.

    Args:
        budget: Share of full training's computation, in (0, 1].
    """
    all_steps, steps = steps_for_frac(1.0), steps_for_frac(budget)
    return BudgetRace(
        _train_curve("dense", all_steps, all_steps),
        _train_curve("dense", steps, all_steps),
        _train_curve("dense", steps, steps),
        _train_curve(POLICY, steps, steps),
    )


@functools.lru_cache(maxsize=64)
def _train_curve(selection: str, steps: int, decay_steps: int) -> BudgetRaceCurve:
    """Train for ``steps``; the cost of decisions, a thousandth of an epoch, is not counted."""
    learner, steps_per_evaluation = (
        MultiSeedLearner(SELECTIONS.get(selection)(), decay_steps),
        steps_for_frac(1.0 / _EVALUATIONS),
    )
    rows = [_curve_point(learner, decay_steps)]
    while learner.steps < steps:
        learner.step()
        if learner.steps % steps_per_evaluation == 0 or learner.steps == steps:
            rows.append(_curve_point(learner, decay_steps))
    spent, rate, validation = np.array(rows).T
    return BudgetRaceCurve(spent, rate, validation, learner.accuracy("test"))


def _curve_point(learner: MultiSeedLearner, decay_steps: int) -> tuple[float, float, float]:
    lr_factor = learning_rate_factor(learner.steps / decay_steps)
    return (
        learner.steps / steps_for_frac(1.0),
        lr_factor,
        float(learner.accuracy("validation").mean()),
    )
