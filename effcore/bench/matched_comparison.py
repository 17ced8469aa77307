"""A policy against dense training of equal compute and of full length, over paired seeds.

Every arm runs until it has spent exactly its share of the dense FLOPs, its learning rate
decayed to zero over that share, and is judged by its final parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from effcore.bench.bench_store import BenchStore
from effcore.bench.runner import metrics_or_raise
from effcore.bench.verdict_columns import difference_columns, format_difference
from effcore.config import resolve
from effcore.knobs import knobs_of
from effcore.policies.combination import POLICY_REGISTRIES, registered_policies
from effcore.records import RunConfig, RunEnd
from effcore.studies.difference_table import ANSWER_TEXT
from effcore.studies.verdict import (
    NONINFERIORITY_ALPHA,
    SUPERIORITY_ALPHA,
    Verdict,
    judge_arms,
    judge_difference,
    verdict_text,
)
from effcore.tasks.base import TASKS, Metric
from effcore.training.trainer import train


def comparison_variants(settings: Mapping[str, Any], budget: float) -> dict[str, dict[str, Any]]:
    """Return the settings of the three arms: full dense, budget-matched dense, the policy.

    The dense ones share all but the policies and what these can be set to.
    """
    own = {spec.name for policy in registered_policies() for spec in knobs_of(policy)} | set(
        POLICY_REGISTRIES
    )
    dense = {name: value for name, value in settings.items() if name not in own}
    dense |= {"selection": "dense"}
    return {
        "D100": dense | {"budget": 1.0},
        "D-B": dense | {"budget": budget},
        "policy": {**settings, "budget": budget},
    }


def train_to_end(config: RunConfig) -> RunEnd:
    """Train to the end and return what came of it."""
    *_, end = train(config)
    assert isinstance(end, RunEnd), "a run ends with its RunEnd"
    return end


def compare_matched(
    settings: Mapping[str, Any],
    budget: float,
    seeds: range,
    store: BenchStore,
    jobs: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Run all arms over all seeds; returns metrics, paired differences and settings.

    Args:
        settings: Settings of the policy's arm, as for :func:`~effcore.config.resolve`.
        budget: Share of the dense FLOPs.
        seeds: Seeds, the same for every arm.
        store: Where runs are kept.
        jobs: Runs at a time, each in a process of its own.
        say: Takes progress messages.

    Raises:
        ConfigError: A setting that cannot be used.
        ArithmeticError: A run broke down.
    """
    by_name = comparison_variants(settings, budget)
    plan = [resolve({**arm, "seed": seed}) for seed in seeds for arm in by_name.values()]
    found = metrics_or_raise(plan, "metric", store, jobs, say)
    metrics = {name: found[place :: len(by_name)] for place, name in enumerate(by_name)}
    metric = TASKS.get(plan[0].task).metric
    return {
        "settings": {k: v for k, v in settings.items() if v is not None},
        "budget": budget,
        "seeds": list(seeds),
        "metric": metric.name,
        "margin": metric.margin,
        "metrics": metrics,
        **_judged(metric, metrics),
    }


def _judged(metric: Metric, metrics: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return the verdict on the policy, and every pair of arms with what is shown of it."""
    better = {arm: [metric.sign * value for value in own] for arm, own in metrics.items()}
    (verdict,) = judge_arms(
        {"policy": better["policy"]}, better["D100"], better["D-B"], metric.margin
    )
    return {
        "outcome": verdict.outcome.value,
        "verdict": verdict.outcome.value,
        "sentence": verdict_text(verdict, format_difference),
        **{
            name: _pair_record(verdict, better[own], better[other])
            for name, own, other in (
                ("against D100", "policy", "D100"),
                ("against D-B", "policy", "D-B"),
                ("D100 against D-B", "D100", "D-B"),
            )
        },
    }


def _pair_record(verdict: Verdict, own: Sequence[float], other: Sequence[float]) -> dict[str, Any]:
    """Return a difference, and whether it shows a match and an improvement."""
    above = judge_difference("", own, other, -verdict.margin, NONINFERIORITY_ALPHA)
    better = judge_difference("", own, other, 0.0, SUPERIORITY_ALPHA)
    enough = len(own) >= verdict.min_seeds
    return {
        **difference_columns(above),
        "noninferior": above.p < NONINFERIORITY_ALPHA if enough else None,
        "better": better.p < SUPERIORITY_ALPHA if enough else None,
    }


def matched_comparison_text(result: Mapping[str, Any]) -> str:
    """Return the result as Markdown; in differences more is better, whatever the metric."""
    lines = [f"| arm | mean {result['metric']} | per seed |", "|-|-|-|"]
    for arm, each in result["metrics"].items():
        by_seed = " ".join(f"{value:.4f}" for value in each)
        lines.append(f"| {arm} | {sum(each) / len(each):.4f} | {by_seed} |")
    for name in ("against D100", "against D-B", "D100 against D-B"):
        d = result[name]
        who = name if name.startswith("D100") else f"policy {name}"
        lines.append(
            f"\n{who}: {d['diff']:+.4f} (95% t interval {d['diff_lo']:+.4f} to "
            f"{d['diff_hi']:+.4f}; lower one-sided 95% bound {d['bound']:+.4f})"
        )
    lines.append(
        f"\nn={len(result['seeds'])}; the better the higher; margin {result['margin']:g}: not "
        f"inferior to D100: {ANSWER_TEXT[result['against D100']['noninferior']]}, better than D-B: "
        f"{ANSWER_TEXT[result['against D-B']['better']]}"
    )
    lines.append(f"\n{result['sentence']}")
    return "\n".join(lines)
