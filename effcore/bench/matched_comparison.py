"""A policy against same-budget training and full training, over paired seeds.

Every variant trains until it has spent its share of full training's FLOPs, with its learning rate
decayed to zero over that share, and is judged by its final parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from effcore.bench.bench_store import BenchStore
from effcore.bench.json_records import JsonRecord, difference_columns, format_difference
from effcore.policies.combination import POLICY_REGISTRIES
from effcore.records import RunConfig, RunEnd
from effcore.records.settings import Settings
from effcore.studies.comparison import StudyResult, policy_sentence, study_result
from effcore.studies.difference_table import ANSWER_TEXT
from effcore.studies.plan import StudyPlan, policy_knob_names, resolve_margin
from effcore.studies.verdict import (
    DENSE_FULL,
    DENSE_MATCHED,
    PairAnswer,
    compare_pair,
    verdict_text,
)
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
            name = title if title.startswith(DENSE_FULL) else f"policy {title}"
            lines.append(
                f"\n{name}: {paired.mean:+.4f} (95% t interval {paired.lo:+.4f} to "
                f"{paired.hi:+.4f}; lower one-sided 95% bound {paired.bound:+.4f})"
            )
    lines += [f"\n{run}: {reason}" for run, reason in _failures(result).items()]
    full, matched = pairs["against D100"], pairs["against D-B"]
    if full is not None and matched is not None:
        lines.append(
            f"\nn={full.paired.n}; higher is better; margin {result.plan.margin:g}: not "
            f"inferior to D100: {ANSWER_TEXT[full.noninferior]}, better than D-B: "
            f"{ANSWER_TEXT[matched.better]}"
        )
    lines.append(f"\n{comparison.sentence}")
    return "\n".join(lines)
