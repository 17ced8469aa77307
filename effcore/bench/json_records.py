"""Results of benches as JSON: the columns that a verdict or a difference has in a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from effcore.studies.statistics import PairedDifference
from effcore.studies.verdict import Verdict, verdict_text

JsonValue = str | float | bool | None | Sequence["JsonValue"] | Mapping[str, "JsonValue"]
JsonRecord = dict[str, JsonValue]


def difference_columns(paired: PairedDifference | None) -> JsonRecord:
    """Return a mean difference, its 95% t interval and its lower one-sided 95% bound."""
    if paired is None:
        return dict.fromkeys(("diff", "diff_lo", "diff_hi", "bound"), float("nan"))
    return {
        "diff": paired.mean,
        "diff_lo": paired.lo,
        "diff_hi": paired.hi,
        "bound": paired.bound,
    }


def matched_columns(paired: PairedDifference | None) -> JsonRecord:
    """Return the difference from same-budget training, under its names in a row."""
    if paired is None:
        return dict.fromkeys(("diff_db", "diff_db_lo", "diff_db_hi"), float("nan"))
    return {"diff_db": paired.mean, "diff_db_lo": paired.lo, "diff_db_hi": paired.hi}


def verdict_columns(verdict: Verdict) -> JsonRecord:
    """Return both differences of a policy, both answers and the outcome.

    ``outcome`` and ``verdict`` are equal, as in ``compare --json``.
    """
    return {
        **difference_columns(verdict.against_full.paired),
        "noninferior": verdict.noninferior,
        "p": verdict.against_full.p,
        **matched_columns(verdict.against_matched.paired),
        "beats_db": verdict.superior,
        "p_db": verdict.against_matched.p,
        "overtrained": verdict.overtrained,
        "outcome": verdict.outcome.value,
        "verdict": verdict.outcome.value,
        "sentence": verdict_text(verdict, format_difference),
    }


def format_difference(value: float) -> str:
    """Write a difference in the metric's own scale."""
    return f"{value:+.4f}"
