"""Tables of the differences behind a verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from effcore.studies.verdict import DENSE_FULL, DENSE_MATCHED, ArmDifference, Verdict

#: Question that decides against each baseline.
_QUESTIONS = {DENSE_FULL: "matches", DENSE_MATCHED: "beats"}
#: Text of an answer.
ANSWER_TEXT = {True: "yes", False: "not shown", None: "too few seeds"}


def difference_table_row(
    verdict: Verdict,
    difference: ArmDifference,
    format_difference: Callable[[float], str],
) -> dict[str, str]:
    """Return one difference of a verdict as a table row, by column.

    The one-sided bound decides against full training, the t interval against same-budget training.
    The bootstrap interval and the sign-flip test are shown but do not decide.

    Args:
        verdict: The verdict on a policy.
        difference: One of the verdict's two differences.
        format_difference: Writes a difference in the metric's scale as a number with its sign.
    """
    paired, answer = difference.paired, ANSWER_TEXT[verdict.answer(difference)]
    return {
        "policy": verdict.arm,
        "against": difference.against,
        "mean": format_difference(paired.mean),
        "95% t interval": f"{format_difference(paired.lo)} to {format_difference(paired.hi)}",
        "one-sided 95% bound": format_difference(paired.bound),
        "p": _p_value_text(difference.p),
        "shown": f"{_QUESTIONS[difference.against]}: {answer}",
        "95% bootstrap (BCa)": " to ".join(map(format_difference, difference.bca_interval())),
        "sign-flip p": _p_value_text(difference.sign_flip_p_value()),
    }


def difference_table(
    verdicts: Sequence[Verdict], format_difference: Callable[[float], str]
) -> list[dict[str, str]]:
    """Return a row for each difference of each verdict."""
    return [
        difference_table_row(verdict, difference, format_difference)
        for verdict in verdicts
        for difference in verdict.differences
    ]


def _p_value_text(value: float) -> str:
    return "<0.0001" if value < 1e-4 else f"{value:.4f}"
