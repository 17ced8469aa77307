"""``bench length``: for how many epochs full training of a task should train.

Full training that is too long makes savings look better than they are: training for fewer epochs
would do. So it uses the fewest epochs that reach the plateau of the metric on the validation split.
The test split is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from effcore.bench.bench_store import BenchStore
from effcore.bench.json_records import JsonRecord
from effcore.config import resolve
from effcore.records import RunConfig
from effcore.records.settings import Settings
from effcore.tasks.base import TASKS, Metric

#: Numbers of epochs tried by default, relative to the model's own.
LENGTH_FACTORS = (0.44, 0.67, 1.0, 1.5)
#: Budget of the shorter training that is shown beside them.
SHORTER_BUDGET = 0.6
#: Gain of longer training, in margins of the metric, that makes the shorter one too short.
ALLOWED_GAIN_MARGINS = 0.5


@dataclass(frozen=True)
class ReferenceLength:
    """The metric by number of epochs, and the plateau.

    Attributes:
        settings: Settings of all runs.
        metric: The task's metric.
        seeds: Seeds of every length.
        by_epochs: Metric on validation by number of epochs, then seed.
        default_epochs: The model's own number of epochs.
        shorter: Metric on validation by seed with ``SHORTER_BUDGET`` of the model's own epochs.
    """

    settings: Settings
    metric: Metric
    seeds: Sequence[int]
    by_epochs: Mapping[int, Sequence[float]]
    default_epochs: int
    shorter: Sequence[float]

    @property
    def plateau(self) -> int | None:
        """The fewest epochs on the plateau; ``None`` where more epochs still help."""
        means = [float(np.mean(values)) for values in self.by_epochs.values()]
        return plateau_length(list(self.by_epochs), means, self.metric)

    def to_record(self) -> JsonRecord:
        """Return the result as JSON."""
        return {
            "settings": {name: value for name, value in self.settings.items()
                         if value is not None and not isinstance(value, list | tuple)},
            "metric": self.metric.name,
            "margin": self.metric.margin,
            "seeds": list(self.seeds),
            "epochs": {str(epochs): values for epochs, values in self.by_epochs.items()},
            "plateau": self.plateau,
            "in force": self.default_epochs,
            "shorter": {"budget": SHORTER_BUDGET, "values": self.shorter},
        }  # fmt: skip


def plateau_length(epochs: Sequence[int], values: Sequence[float], metric: Metric) -> int | None:
    """Return the fewest epochs that no longer training beats by more than half the margin.

    Args:
        epochs: Numbers of epochs, ascending.
        values: The metric of each, with the learning rate decayed over its own length.
        metric: The metric, which has the margin and says whether higher is better.

    Returns:
        ``None`` where the longest training beats all others: the plateau is further off.

    Raises:
        ValueError: Fewer than two lengths, not one value for each, or a value that is not finite.
    """
    if len(epochs) < 2 or len(epochs) != len(values) or not np.isfinite(values).all():
        raise ValueError(
            f"lengths {list(epochs)} and values {list(values)} show no plateau: give two or more "
            "lengths, and a number for each"
        )
    for place in range(len(epochs) - 1):
        gain = max(metric.sign * (later - values[place]) for later in values[place + 1 :])
        if gain <= ALLOWED_GAIN_MARGINS * metric.margin:
            return epochs[place]
    return None


def measure_reference_length(
    settings: Settings,
    epochs: Sequence[int],
    seeds: Sequence[int],
    store: BenchStore,
    jobs: int,
    say: Callable[[str], None],
) -> ReferenceLength:
    """Train without policies for several numbers of epochs.

    Args:
        settings: Task, model and other settings that differ from the defaults.
        epochs: Numbers of epochs; where empty, the model's own times ``LENGTH_FACTORS``.
        seeds: Seeds of every length.
        store: The store of the runs.
        jobs: Runs at a time, each in a process of its own.
        say: Takes progress messages.

    Raises:
        ValueError: Fewer than two lengths, or a setting that is not allowed.
        ArithmeticError: A run broke down.
    """
    base: Settings = {**settings, "selection": "dense", "threads": 1}
    usual = resolve(base)
    lengths = sorted(set(epochs) or {max(1, round(f * usual.epochs)) for f in LENGTH_FACTORS})
    if len(lengths) < 2:
        raise ValueError(f"epochs {lengths} show no plateau: give two lengths or more")
    variants: list[Settings] = [{"epochs": length} for length in lengths]
    variants.append({"epochs": usual.epochs, "budget": SHORTER_BUDGET})
    configs = [resolve({**base, **own, "seed": seed}) for seed in seeds for own in variants]
    values = validation_metrics(configs, store, jobs, say)
    *by_length, shorter = (values[place :: len(variants)] for place in range(len(variants)))
    return ReferenceLength(
        settings=settings,
        metric=TASKS.get(usual.task).metric,
        seeds=seeds,
        by_epochs=dict(zip(lengths, by_length, strict=True)),
        default_epochs=usual.epochs,
        shorter=shorter,
    )


def validation_metrics(
    configs: Sequence[RunConfig], store: BenchStore, jobs: int, say: Callable[[str], None]
) -> list[float]:
    """Train the missing runs, and return the metric of each on validation.

    Raises:
        ArithmeticError: A run broke down.
    """
    values = []
    for config, run in zip(configs, store.results(configs, jobs, say), strict=True):
        if run.validation is None:
            raise ArithmeticError(
                f"{config.selection} with {config.epochs} epochs, seed {config.seed}, failed: "
                f"{run.reason}"
            )
        values.append(run.validation)
    return values


def reference_length_text(length: ReferenceLength) -> str:
    """Return the result as Markdown."""
    lines = [f"| epochs | {length.metric.name}, validation | per seed |", "|-|-|-|"]
    rows = {str(epochs): values for epochs, values in length.by_epochs.items()}
    rows[f"{length.default_epochs} at {SHORTER_BUDGET:.0%}"] = length.shorter
    for name, values in rows.items():
        by_seed = " ".join(f"{value:.4f}" for value in values)
        lines.append(f"| {name} | {np.mean(values):.4f} | {by_seed} |")
    plateau = length.plateau
    answer = (
        "no plateau yet: more epochs still help" if plateau is None else f"plateau at {plateau}"
    )
    lines.append(
        f"\n{answer} (tolerance: half of the margin {length.metric.margin:g}); default: "
        f"{length.default_epochs}"
    )
    return "\n".join(lines)
