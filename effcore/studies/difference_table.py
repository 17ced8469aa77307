"""The differences behind a verdict in words: what decides, and what is shown beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

#: What a policy is asked to be against each dense arm, as a record has it and in words.
_QUESTIONS = {"D100": ("noninferior", "not inferior"), "D-B": ("superior", "better")}
#: How an answer is written.
ANSWER_TEXT = {True: "yes", False: "not shown", None: "too few seeds"}


def difference_table_row(
    row: Mapping[str, Any], format_difference: Callable[[float], str]
) -> dict[str, str]:
    """Return a difference of a study's record, by what each number is.

    The one-sided bound against D100 and the t interval against D-B decide; the bootstrap
    interval and the sign-flip test are shown beside them.

    Args:
        row: Of a study's record.
        format_difference: Writes a difference in the metric's scale as a number with its sign.
    """
    asked, words = _QUESTIONS[row["against"]]
    answer = ANSWER_TEXT[row[asked]]
    return {
        "policy": row["arm"],
        "against": row["against"],
        "mean": format_difference(row["mean"]),
        "95% t interval": f"{format_difference(row['lo'])} to {format_difference(row['hi'])}",
        "one-sided 95% bound": format_difference(row["bound"]),
        "p": _p_value_text(row["p"]),
        "shown": f"{words}: {answer}",
        "95% bootstrap (BCa)": " to ".join(map(format_difference, row["bca"])),
        "sign-flip p": _p_value_text(row["sign_flip_p"]),
    }


def _p_value_text(value: float) -> str:
    return "<0.0001" if value < 1e-4 else f"{value:.4f}"
