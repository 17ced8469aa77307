"""Verdicts of studies as columns of the rows that benches print."""

from __future__ import annotations

from typing import Any

from effcore.studies.verdict import ArmDifference, Verdict, verdict_text


def difference_columns(difference: ArmDifference) -> dict[str, float]:
    """Return a mean difference, its 95% t interval and its lower one-sided 95% bound."""
    paired = difference.paired
    return {
        "diff": paired.mean,
        "diff_lo": paired.lo,
        "diff_hi": paired.hi,
        "bound": paired.bound,
    }


def matched_columns(difference: ArmDifference) -> dict[str, float]:
    """Return the difference to D-B under the names that it has in a row."""
    paired = difference.paired
    return {"diff_db": paired.mean, "diff_db_lo": paired.lo, "diff_db_hi": paired.hi}


def verdict_columns(verdict: Verdict) -> dict[str, Any]:
    """Return a policy's row: both differences, both answers, and the verdict.

    ``outcome`` and ``verdict`` hold the same: the word of ``compare --json``.
    """
    return {
        **difference_columns(verdict.against_full),
        "noninferior": verdict.noninferior,
        "p": verdict.against_full.p,
        **matched_columns(verdict.against_matched),
        "beats_db": verdict.superior,
        "p_db": verdict.against_matched.p,
        "overtrained": verdict.overtrained,
        "outcome": verdict.outcome.value,
        "verdict": verdict.outcome.value,
        "sentence": verdict_text(verdict, format_difference),
    }


def format_difference(value: float) -> str:
    """Write a difference in the metric's own scale, as the tables of benches do."""
    return f"{value:+.4f}"
