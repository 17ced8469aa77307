"""The differences behind a verdict in words: what decides, and what is shown beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from effcore.studies.verdict import ArmDifference, Verdict

#: What a policy is asked to be against each dense arm.
_QUESTIONS = {"D100": "not inferior", "D-B": "better"}
#: How an answer is written.
ANSWER_TEXT = {True: "yes", False: "not shown", None: "too few seeds"}


def difference_table_row(
    verdict: Verdict,
    difference: ArmDifference,
    format_difference: Callable[[float], str],
) -> dict[str, str]:
    """Return a difference of a verdict, by what each number is.

    The one-sided bound against D100 and the t interval against D-B decide; the bootstrap
    interval and the sign-flip test are shown beside them.

    Args:
        verdict: What was shown of a policy.
        difference: One of the verdict's two.
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
