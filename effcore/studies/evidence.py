"""The differences behind a verdict in words: what decides, and what is shown beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

#: What a policy is asked to be against each dense arm, as a record has it and in words.
_ASKED = {"D100": ("noninferior", "not inferior"), "D-B": ("superior", "better")}


def difference_cells(row: Mapping[str, Any], write: Callable[[float], str]) -> dict[str, str]:
    """Return a difference of a study's record, by what each number is.

    The one-sided bound against D100 and the t interval against D-B decide; the bootstrap
    interval and the sign-flip test are shown beside them.

    Args:
        row: Of a study's record.
        write: Writes a difference in the metric's scale as a number with its sign.
    """
    asked, words = _ASKED[row["against"]]
    answer = {None: "too few seeds", True: "yes", False: "not shown"}[row[asked]]
    return {
        "policy": row["arm"],
        "against": row["against"],
        "mean": write(row["mean"]),
        "95% t interval": f"{write(row['lo'])} to {write(row['hi'])}",
        "one-sided 95% bound": write(row["bound"]),
        "p": _p(row["p"]),
        "shown": f"{words}: {answer}",
        "95% bootstrap (BCa)": f"{write(row['bca'][0])} to {write(row['bca'][1])}",
        "sign-flip p": _p(row["sign_flip_p"]),
    }


def _p(value: float) -> str:
    return "<0.0001" if value < 1e-4 else f"{value:.4f}"
