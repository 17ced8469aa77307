"""A policy against dense training of equal compute and of full length, over paired seeds.

Every arm runs until it has spent exactly its share of the dense FLOPs, its learning rate
decayed to zero over that share, and is judged by its final parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from effcore.bench.journal import Journal
from effcore.bench.paired_judgement import ANSWER_TEXT, judge_pair
from effcore.bench.runner import metrics_or_raise
from effcore.config import resolve
from effcore.knobs import knobs_of
from effcore.policies.combination import POLICY_REGISTRIES, registered_policies
from effcore.records import RunConfig, RunEnd
from effcore.tasks.base import TASKS
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
    journal: Journal,
    jobs: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Run all arms over all seeds; returns metrics, paired differences and settings.

    Args:
        settings: Settings of the policy's arm, as for :func:`~effcore.config.resolve`.
        budget: Share of the dense FLOPs.
        seeds: Seeds, the same for every arm.
        journal: Where results are kept.
        jobs: Runs at a time, each in a process of its own.
        say: Takes progress messages.

    Raises:
        ConfigError: A setting that cannot be used.
        ArithmeticError: A run broke down.
    """
    by_name = comparison_variants(settings, budget)
    plan = [resolve({**arm, "seed": seed}) for seed in seeds for arm in by_name.values()]
    found = metrics_or_raise(plan, "metric", journal, jobs, say)
    metrics = {name: found[place :: len(by_name)] for place, name in enumerate(by_name)}
    metric = TASKS.get(plan[0].task).metric
    return {
        "settings": {k: v for k, v in settings.items() if v is not None},
        "budget": budget,
        "seeds": list(seeds),
        "metric": metric.name,
        "margin": metric.margin,
        "metrics": metrics,
        "against D100": judge_pair(metric, metrics["policy"], metrics["D100"]),
        "against D-B": judge_pair(metric, metrics["policy"], metrics["D-B"]),
        "D100 against D-B": judge_pair(metric, metrics["D100"], metrics["D-B"]),
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
    return "\n".join(lines)
