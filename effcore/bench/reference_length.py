"""How long the dense reference of a task should train: until longer no longer helps.

A saving measured against a reference that trained too long is no saving: shortening alone
would do. So the reference is the shortest of some lengths that has reached its plateau,
judged on the validation split; the test split is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from effcore.bench.bench_store import BenchStore
from effcore.bench.runner import metrics_or_raise
from effcore.config import resolve
from effcore.tasks.base import TASKS, Metric

#: Lengths tried by default, relative to the one in force.
LENGTH_FACTORS = (0.44, 0.67, 1.0, 1.5)
#: Share of the compute at which the reference is also trained, for comparison.
SHORTER_BUDGET = 0.6
#: What a longer run may gain, in margins of the metric, before the shorter one is too short:
#: a reference must not give away by its length what a verdict is about.
ALLOWED_GAIN_MARGINS = 0.5


def plateau_length(lengths: Sequence[int], values: Sequence[float], metric: Metric) -> int | None:
    """Return the shortest length that no longer one beats by more than half the margin.

    Args:
        lengths: Epochs, ascending.
        values: The metric reached by each, its learning rate decayed over its own length.
        metric: Says which way is better, and what difference is of no consequence.

    Returns:
        ``None`` where even the longest but one is still beaten: the plateau is further off.

    Raises:
        ValueError: Fewer than two lengths, not one value for each, or a value that is none.
    """
    if len(lengths) < 2 or len(lengths) != len(values) or not np.isfinite(values).all():
        raise ValueError(
            f"lengths {list(lengths)} and values {list(values)} show no plateau: give two or more "
            "lengths, and a number for each"
        )
    sign = 1.0 if metric.higher_is_better else -1.0
    for place in range(len(lengths) - 1):
        gain = max(sign * (later - values[place]) for later in values[place + 1 :])
        if gain <= ALLOWED_GAIN_MARGINS * metric.margin:
            return lengths[place]
    return None


def measure_reference_length(
    settings: Mapping[str, Any],
    epochs: Sequence[int],
    seeds: range,
    store: BenchStore,
    jobs: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Train densely at several lengths; returns what each reached and which is the reference.

    Args:
        settings: Task, model and what else is to differ from the defaults.
        epochs: Lengths to try; the defaults' own by ``FACTORS`` where there are none.
        seeds: Seeds, the same for every length.
        store: Where runs are kept.
        jobs: Runs at a time, each in a process of its own.
        say: Takes progress messages.

    Raises:
        ValueError: Fewer than two lengths, or a setting that cannot be used.
        ArithmeticError: A run broke down.
    """
    base = {**settings, "selection": "dense", "threads": 1}
    usual = resolve(base)
    lengths = sorted(set(epochs) or {max(1, round(f * usual.epochs)) for f in LENGTH_FACTORS})
    if len(lengths) < 2:
        raise ValueError(f"epochs {lengths} show no plateau: give two lengths or more")
    arms: list[dict[str, Any]] = [{"epochs": n} for n in lengths]
    arms.append({"epochs": usual.epochs, "budget": SHORTER_BUDGET})
    plan = [resolve({**base, **arm, "seed": seed}) for seed in seeds for arm in arms]
    found = metrics_or_raise(plan, "validation", store, jobs, say)
    values = [found[place :: len(arms)] for place in range(len(arms))]
    metric = TASKS.get(usual.task).metric
    means = [float(np.mean(each)) for each in values]
    return {
        "settings": {k: v for k, v in settings.items() if v is not None},
        "metric": metric.name,
        "margin": metric.margin,
        "seeds": list(seeds),
        "epochs": dict(zip(lengths, values[:-1], strict=True)),
        "plateau": plateau_length(lengths, means[:-1], metric),
        "in force": usual.epochs,
        "shorter": {"budget": SHORTER_BUDGET, "values": values[-1]},
    }


def reference_length_text(result: Mapping[str, Any]) -> str:
    """Return the result as Markdown."""
    lines = [f"| epochs | {result['metric']}, validation | per seed |", "|-|-|-|"]
    rows = {str(n): values for n, values in result["epochs"].items()}
    rows[f"{result['in force']} at {SHORTER_BUDGET:.0%}"] = result["shorter"]["values"]
    for name, values in rows.items():
        each = " ".join(f"{value:.4f}" for value in values)
        lines.append(f"| {name} | {np.mean(values):.4f} | {each} |")
    found = result["plateau"]
    said = "none of these has reached its plateau" if found is None else f"plateau at {found}"
    lines.append(
        f"\n{said} (half of the margin {result['margin']:g}); in force: {result['in force']}"
    )
    return "\n".join(lines)
