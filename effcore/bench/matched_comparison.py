"""A policy against same-budget training and full training, and how long full training should be.

Every variant trains until it has spent its share of full training's FLOPs, with its learning rate
decayed to zero over that share, and is judged by its final parameters, over paired seeds.

Full training that is too long makes savings look better than they are: training for fewer epochs
would do. So it uses the fewest epochs that reach the plateau of the metric on the validation
split, which ``bench length`` finds. The test split is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import click
import numpy as np

from effcore.bench.bench_store import BenchStore, open_bench_store
from effcore.bench.command_line import (
    bench,
    device_option,
    echo_progress,
    given_or_default,
    journal_option,
    parse_whole_numbers,
    print_result,
    quick_settings,
    shared_setting_options,
)
from effcore.bench.json_records import JsonRecord, difference_columns, format_difference
from effcore.cli.knob_options import KnobCommand, jobs_option, json_option
from effcore.config import resolve
from effcore.policies.combination import POLICY_REGISTRIES
from effcore.records import RunConfig, RunEnd
from effcore.records.settings import Settings
from effcore.studies.comparison import StudyResult, policy_sentence, study_result
from effcore.studies.difference_table import ANSWER_TEXT
from effcore.studies.plan import StudyPlan, policy_knob_names, resolve_margin, validate_budget
from effcore.studies.verdict import (
    DENSE_FULL,
    DENSE_MATCHED,
    PairAnswer,
    compare_pair,
    verdict_text,
)
from effcore.tasks.base import TASKS, Metric
from effcore.training.trainer import train

#: Name of the policy's variant.
POLICY = "policy"
#: The comparisons that are shown, by title.
_PAIRS = {
    "against D100": (POLICY, DENSE_FULL),
    "against D-B": (POLICY, DENSE_MATCHED),
    "D100 against D-B": (DENSE_FULL, DENSE_MATCHED),
}


def plan_comparison(settings: Settings, budget: float, seeds: Sequence[int]) -> StudyPlan:
    """Plan the study of one policy; the dense variants share all settings but the policy's.

    Args:
        settings: Settings of the policy's runs, as for :func:`~effcore.config.resolve`.
        budget: Share of full training's FLOPs.
        seeds: Seeds of every variant.

    Raises:
        ConfigError: The task does not exist.
    """
    policy_names = policy_knob_names() | set(POLICY_REGISTRIES)
    return StudyPlan(
        shared={name: value for name, value in settings.items() if name not in policy_names},
        arms={POLICY: {n: value for n, value in settings.items() if n in policy_names}},
        budget=budget,
        seeds=tuple(seeds),
        margin=resolve_margin(str(settings["task"]), None),
        baselines={DENSE_FULL: {}, DENSE_MATCHED: {}},
    )


def train_to_end(config: RunConfig) -> RunEnd:
    """Train a run to its end and return the end."""
    *_, end = train(config)
    assert isinstance(end, RunEnd), "a run ends with its RunEnd"
    return end


@dataclass(frozen=True)
class MatchedComparison:
    """The result of comparing one policy.

    Attributes:
        settings: Settings of the policy's runs.
        result: The study's result.
    """

    settings: Settings
    result: StudyResult

    @cached_property
    def metrics(self) -> Mapping[str, tuple[float, ...]]:
        """Final metrics of each variant over its counted seeds."""
        return {variant.name: variant.metrics for variant in self.result.variants}

    @cached_property
    def pairs(self) -> Mapping[str, PairAnswer | None]:
        """Every comparison by its title; ``None`` where it has fewer than two seeds."""
        sign = self.result.metric.sign
        scores = {name: [sign * value for value in own] for name, own in self.metrics.items()}
        return {
            title: compare_pair(scores[first], scores[second], self.result.plan.margin)
            if len(scores[first]) == len(scores[second]) >= 2
            else None
            for title, (first, second) in _PAIRS.items()
        }

    @property
    def sentence(self) -> str:
        """The verdict in words, or why there is none."""
        (policy,) = self.result.policies
        if policy.verdict is None:
            return policy_sentence(policy)
        return verdict_text(policy.verdict, format_difference)

    def to_record(self) -> JsonRecord:
        """Return the result as JSON."""
        (policy,) = self.result.policies
        return {
            "settings": {k: str(v) if isinstance(v, list | tuple) else v
                         for k, v in self.settings.items() if v is not None},
            "budget": self.result.plan.budget,
            "seeds": self.result.completed.counted_seeds,
            "metric": self.result.metric.name,
            "margin": self.result.plan.margin,
            "metrics": self.metrics,
            "failed": _failures(self.result),
            "outcome": policy.outcome.value,
            "verdict": policy.outcome.value,
            "sentence": self.sentence,
            **{title: _pair_record(answer) for title, answer in self.pairs.items()},
        }  # fmt: skip


def compare_matched(
    settings: Settings,
    budget: float,
    seeds: Sequence[int],
    store: BenchStore,
    jobs: int,
    say: Callable[[str], None],
) -> MatchedComparison:
    """Run all variants over all seeds, and judge the policy.

    Args:
        settings: Settings of the policy's runs, as for :func:`~effcore.config.resolve`.
        budget: Share of full training's FLOPs.
        seeds: Seeds of every variant.
        store: The store of the runs.
        jobs: Runs at a time, each in a process of its own.
        say: Takes progress messages.

    Raises:
        ConfigError: A setting that is not allowed.
        ArithmeticError: Full or same-budget training broke down on all seeds but one.
    """
    validate_budget(budget)
    ((plan, completed),) = store.complete([plan_comparison(settings, budget, seeds)], jobs, say)
    result = study_result("", plan, completed)
    if not result.policies:
        reasons = [f"{run}, failed: {reason}" for run, reason in _failures(result).items()]
        raise ArithmeticError("; ".join(reasons))
    return MatchedComparison(settings, result)


def _failures(result: StudyResult) -> JsonRecord:
    return {
        f"{variant.name}, seed {seed}": reason
        for variant in result.variants
        for seed, reason in variant.failures.items()
    }


def _pair_record(answer: PairAnswer | None) -> JsonRecord | None:
    if answer is None:
        return None
    return {
        **difference_columns(answer.paired),
        "noninferior": answer.noninferior,
        "better": answer.better,
    }


def matched_comparison_text(comparison: MatchedComparison) -> str:
    """Return the result as Markdown; differences have the sign that makes higher better."""
    result, pairs = comparison.result, comparison.pairs
    lines = [f"| variant | mean {result.metric.name} | per seed |", "|-|-|-|"]
    for name, values in comparison.metrics.items():
        by_seed = " ".join(f"{value:.4f}" for value in values)
        mean = f"{sum(values) / len(values):.4f}" if values else ""
        lines.append(f"| {name} | {mean} | {by_seed} |")
    for title, answer in pairs.items():
        if answer is not None:
            paired = answer.paired
            name = f"policy {title}" if _PAIRS[title][0] == POLICY else title
            lines.append(
                f"\n{name}: {paired.mean:+.4f} (95% t interval {paired.lo:+.4f} to "
                f"{paired.hi:+.4f}; lower one-sided 95% bound {paired.bound:+.4f})"
            )
    lines += [f"\n{run}: {reason}" for run, reason in _failures(result).items()]
    full, matched = pairs["against D100"], pairs["against D-B"]
    if full is not None and matched is not None:
        lines.append(
            f"\nn={full.paired.n}; higher is better; margin {result.plan.margin:g}: matches full "
            f"training: {ANSWER_TEXT[full.noninferior]}, beats same-budget training: "
            f"{ANSWER_TEXT[matched.better]}"
        )
    lines.append(f"\n{comparison.sentence}")
    return "\n".join(lines)


# Length of full training ------------------------------------------------------------------


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
    """Return the fewest epochs such that longer training gains at most half the margin.

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


# Commands ---------------------------------------------------------------------------------


@bench.command(cls=KnobCommand)
@click.option("--task", default="photo", help="Task.")
@click.option("--policy", default="confident-skip", help="Selection policy.")
@click.option("--model", help="One of the task's models; the first by default.")
@shared_setting_options
@click.option(
    "--budget",
    default=0.6,
    help="Budget of the policy and of same-budget training, as a share of full training's FLOPs.",
)
@click.option("--seeds", type=click.IntRange(2), help="Paired seeds; 6 by default.")
@click.option("--first-seed", default=100, help="The first of the seeds; tune on other seeds.")
@device_option
@jobs_option
@journal_option
@click.option("--quick", is_flag=True, help="A small model, a quarter of the epochs, two seeds.")
@json_option
def matched(
    budget: float,
    seeds: int | None,
    first_seed: int,
    jobs: int,
    journal: str | None,
    quick: bool,
    as_json: bool,
    policy: str,
    **settings: Any,
) -> None:
    """Compare one policy with dense training.

    The references are full training and same-budget training. Resumable.
    """
    chosen = quick_settings({**settings, "selection": policy, "threads": 1}, quick)
    fresh = range(first_seed, first_seed + given_or_default(seeds, quick, 2, 6))
    result = compare_matched(chosen, budget, fresh, open_bench_store(journal), jobs, echo_progress)
    record = {**result.to_record(), "quick": quick}
    print_result(record, as_json, matched_comparison_text(result))


@bench.command(cls=KnobCommand)
@click.option("--task", default="digits", help="Task, trained densely.")
@click.option("--model", help="One of the task's models; the first by default.")
@click.option("--size", help="Size of the model.")
@click.option(
    "--epochs", default="", callback=parse_whole_numbers, help="Epochs to try, with commas."
)
@click.option("--batch-size", type=int, help="Examples per step.")
@click.option("--learning-rate", type=float, help="Peak learning rate.")
@click.option("--seeds", type=click.IntRange(1), help="Seeds; 2 by default.")
@click.option("--first-seed", default=0, help="The first of the seeds.")
@device_option
@jobs_option
@journal_option
@click.option("--quick", is_flag=True, help="A small model, a quarter of the epochs, one seed.")
@json_option
def length(
    epochs: tuple[int, ...],
    seeds: int | None,
    first_seed: int,
    jobs: int,
    journal: str | None,
    quick: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Find how many epochs full training needs.

    These are the fewest that more epochs do not improve on. Resumable.
    """
    chosen = quick_settings({**settings, "epochs": None}, quick)
    among = range(first_seed, first_seed + given_or_default(seeds, quick, 1, 2))
    result = measure_reference_length(
        chosen, epochs, among, open_bench_store(journal), jobs, echo_progress
    )
    record = {**result.to_record(), "quick": quick}
    print_result(record, as_json, reference_length_text(result))
