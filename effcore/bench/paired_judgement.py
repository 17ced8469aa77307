"""What follows from a paired difference: not inferior, better, or too few seeds to say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from effcore.studies.statistics import paired_difference
from effcore.studies.verdict import MIN_SEEDS
from effcore.tasks.base import Metric

#: How an answer is written.
ANSWER_TEXT = {True: "yes", False: "no", None: "too few seeds"}


def metric_sign(metric: Metric) -> float:
    """Return the factor that makes more of the metric better."""
    return 1.0 if metric.higher_is_better else -1.0


def judge_pair(metric: Metric, own: Sequence[float], other: Sequence[float]) -> dict[str, Any]:
    """Compare an arm with another over the same seeds, at least two.

    Args:
        metric: What both are judged by; its margin decides.
        own: Values of the arm, by seed.
        other: Values of the other.

    Returns:
        ``diff`` with its 95% t interval ``diff_lo, diff_hi`` and its lower one-sided 95%
        ``bound``, the better the higher; ``noninferior`` where the bound lies above minus the
        margin and ``better`` where the interval lies above zero, both ``None`` where the seeds
        are too few to say.
    """
    way = metric_sign(metric)
    told = paired_difference([way * value for value in own], [way * value for value in other])
    enough = told.n >= MIN_SEEDS
    return {
        "diff": told.mean,
        "diff_lo": told.lo,
        "diff_hi": told.hi,
        "bound": told.bound,
        "noninferior": told.bound > -metric.margin if enough else None,
        "better": told.lo > 0 if enough else None,
    }


def matched_columns(told: dict[str, Any]) -> dict[str, Any]:
    """Return a comparison under the names that one with D-B has in a row."""
    row = {"diff_db": told["diff"], "diff_db_lo": told["diff_lo"], "diff_db_hi": told["diff_hi"]}
    return row | {"beats_db": told["better"]}
