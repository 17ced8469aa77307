"""The result of a race as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


def published_baselines_text(result: Mapping[str, Any]) -> str:
    """Return the result as Markdown: a table of all runs, and one of the ratios."""
    metric, seeds = result["metric"], result["seeds"]
    lines = [
        f"| method | side | seconds | {metric}, validation | seconds to target | trained on | "
        "host reads per step |",
        "|-|-|-|-|-|-|-|",
    ]
    lines += [_entry_row_text(row) for row in result["rows"]]
    lines += ["", "| ours ÷ published | whole run | to target |", "|-|-|-|"]
    for name, ratios in result["ratios"].items():
        cells = [_speed_ratio_text(ratios, kind) for kind in ("seconds", "seconds_to_target")]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    lines.append(
        f"\nMedians over {len(seeds)} seeds, ratios with 95% bootstrap interval; target: the dense "
        f"run's final {metric} less its margin of {result['margin']:g}; evaluations take no time. "
        "Composer selects in one batch of five, our policy beside it in all."
    )
    return "\n".join(lines)


def _entry_row_text(row: Mapping[str, Any]) -> str:
    reached = [value for value in row["seconds_to_target"] if value is not None]
    of = f"({len(reached)} of {len(row['seconds_to_target'])})"
    cells = [
        row["name"],
        row["side"],
        f"{np.median(row['seconds']):.2f}",
        f"{np.median(row['metric']):.4f}",
        f"{np.median(reached):.2f} {of}" if reached else f"never {of}",
        f"{np.median(row['trained_share']):.1%}",
        f"{row['reads_per_step']:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def _speed_ratio_text(ratios: Mapping[str, Any], kind: str) -> str:
    known = [ratio for ratio in ratios[kind] if ratio is not None]
    if not known:
        return "–"
    interval = ratios[f"{kind}_interval"]
    return f"{np.median(known):.3f} n={len(known)}" if interval is None else str(interval)
