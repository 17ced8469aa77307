"""Published rows of equal-compute comparisons on scikit-learn's small tables, trained anew."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.goldens.runs import GOLDENS, conditions, printed

RECORDED_ON = json.loads(GOLDENS.read_text(encoding="utf-8"))["recorded_on"]
#: README's rows: full training, dense training at 60%, confident skip at 60%, then the paired
#: differences of the last to the first, the last to the second, and the first to the second. They
#: are rounded once from the results; README rounds one number of wine twice (0.446, 0.45, 0.5).
ROWS = {
    "tabular-diabetes": "| `tabular-diabetes`, R² | 0.489 | 0.475 | 0.476 "
    "| −0.013 (−0.022 to −0.005) | +0.001 (−0.004 to +0.005) | +0.014 (+0.003 to +0.025) |",
    "tabular-cancer": "| `tabular-cancer`, balanced accuracy in % | 96.8 | 96.4 | 96.7 "
    "| −0.1 (−0.3 to +0.1) | +0.3 (0.0 to +0.6) | +0.4 (0.0 to +0.8) |",
    "tabular-wine": "| `tabular-wine`, accuracy in % | 96.7 | 93.6 | 95.8 "
    "| −0.9 (−1.9 to +0.1) | +2.2 (−0.2 to +4.6) | +3.1 (+0.4 to +5.8) |",
}
#: How a metric is named in a row, its factor and its digits.
METRICS = {
    "r2": ("R²", 1, 3),
    "accuracy": ("accuracy in %", 100, 1),
    "balanced_accuracy": ("balanced accuracy in %", 100, 1),
}
DIFFERENCES = ("against D100", "against D-B", "D100 against D-B")


def row_of(result: Mapping[str, Any]) -> str:
    """Return what ``bench matched`` found as a row of README's table."""
    name, factor, digits = METRICS[result["metric"]]

    def signed(value: float) -> str:
        text = f"{factor * value:+z.{digits}f}"
        return text.removeprefix("+") if float(text) == 0 else text.replace("-", "−")

    means = [sum(each) / len(each) for each in result["metrics"].values()]
    cells = [f"`{result['settings']['task']}`, {name}"]
    cells += [f"{factor * mean:.{digits}f}" for mean in means]
    for against in DIFFERENCES:
        mean, lo, hi = (signed(result[against][end]) for end in ("diff", "diff_lo", "diff_hi"))
        cells.append(f"{mean} ({lo} to {hi})")
    return f"| {' | '.join(cells)} |"


def numbers(row: str) -> list[float]:
    """Return the numbers in a row, its first cell left out."""
    return [float(text) for text in re.findall(r"-?\d+\.\d+", row.replace("−", "-"))]


@pytest.mark.slow
@pytest.mark.parametrize("task", ROWS)
def test_a_published_row_comes_out_again(
    task: str, record_property: Callable[[str, object], None]
) -> None:
    result = printed("bench", "matched", "--task", task, "--seeds", "20")
    row, same = row_of(result), conditions() == RECORDED_ON
    # Elsewhere runs are rounded otherwise: no number may move by more than the margin, and the
    # last digit.
    _, factor, digits = METRICS[result["metric"]]
    limit = factor * result["margin"] + 10**-digits
    by = "every digit" if same else f"numbers within {limit:g}"
    record_property("compared_by", by)
    print(f"{task}: compared by {by}: {row}")  # noqa: T201 - pytest -rA shows it
    if same:
        assert row == ROWS[task]
    else:
        assert numbers(row) == pytest.approx(numbers(ROWS[task]), abs=limit)


def test_a_row_is_rounded_once_and_zero_has_no_sign() -> None:
    difference = {"diff": -0.00046, "diff_lo": 0.004456, "diff_hi": -0.0226}
    result = {
        "settings": {"task": "t"},
        "metric": "accuracy",
        "metrics": {"D100": [0.5, 0.7], "D-B": [0.25], "policy": [1.0]},
        **dict.fromkeys(DIFFERENCES, difference),
    }
    cell = "0.0 (+0.4 to −2.3)"
    row = row_of(result)
    assert row == f"| `t`, accuracy in % | 60.0 | 25.0 | 100.0 | {cell} | {cell} | {cell} |"
    assert numbers(row) == [60, 25, 100, *(0, 0.4, -2.3) * 3]
