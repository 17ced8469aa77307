"""The answers of ``bench claim`` as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from effcore.studies.difference_table import ANSWER_TEXT

Rows = Sequence[Mapping[str, Any]]


def families_text(rows: Rows) -> str:
    """Return what is saved without a loss, and what is lost at each budget."""
    budgets = [each["budget"] for each in rows[0]["by_budget"] if each["arm"] == "auto"]
    heads = [f"`auto` at {budget:.0%}" for budget in budgets]
    lines = [
        "| task, model | saved by `auto` | by training for less | " + " | ".join(heads) + " |",
        "|-|-|-|" + "-|" * len(heads),
    ]
    for row in rows:
        told = [each for each in row["by_budget"] if each["arm"] == "auto"]
        words = [
            _saving_text(row["auto"]),
            _saving_text(row["dense"]),
            *(_difference_text(t) for t in told),
        ]
        lines.append(f"| `{row['task']}`, {row['model']} | " + " | ".join(words) + " |")
    return "\n".join(lines)


def _saving_text(value: float | None) -> str:
    if value is None:
        return "too few seeds"
    return f"{value:.0%}" if value else "nothing"


def _difference_text(told: Mapping[str, Any]) -> str:
    return f"{told['diff']:+.4f} (bound {told['bound']:+.4f})"


def fault_grid_text(rows: Rows) -> str:
    """Return a line for each cell of the grid of faults."""
    lines = [
        "| copies | wrong labels | imbalance | dense, all of it | `auto` against all of it "
        "| not inferior | against equal compute | better | training for less |",
        "|-|-|-|-|-|-|-|-|-|",
    ]
    for row in rows:
        lines.append(
            f"| {row['redundancy']:.0%} | {row['label_noise']:.0%} | {row['imbalance']:g} | "
            f"{row['full']:.4f} | {_difference_text(row)} | {ANSWER_TEXT[row['noninferior']]} | "
            f"{row['diff_db']:+.4f} ({row['diff_db_lo']:+.4f} to {row['diff_db_hi']:+.4f}) | "
            f"{ANSWER_TEXT[row['beats_db']]} | {row['shortening']:+.4f} |"
        )
    return "\n".join(lines)


def time_saved_grid_text(rows: Rows) -> str:
    """Return a line for each size, batch and number of threads."""
    lines = [
        "| task | size | batch | threads | computation skipped | time saved ÷ that |",
        "|-|-|-|-|-|-|",
    ]
    for row in rows:
        ratio = row["ratio"]
        lines.append(
            f"| `{row['task']}` | {row['size']} | {row['batch_size']} | {row['threads']} | "
            f"{row['skipped']:.1%} | {ratio['median']:.2f} ({ratio['lo']:.2f} to "
            f"{ratio['hi']:.2f}) |"
        )
    return "\n".join(lines)
