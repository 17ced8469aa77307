"""A policy against dense training of equal compute and of full length, over paired seeds.

Every arm runs until it has spent exactly its share of the dense FLOPs, its learning rate
decayed to zero over that share, and is judged by its final parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from joblib import Parallel, delayed

from effcore.config import resolve
from effcore.events import RunConfig, RunEnd
from effcore.knobs import knobs_of
from effcore.policies import KINDS, every_policy
from effcore.stats import Paired, paired
from effcore.trainer import train


def arms(settings: Mapping[str, Any], budget: float) -> dict[str, dict[str, Any]]:
    """Return the settings of the three arms: full dense, budget-matched dense, the policy.

    The dense ones share all but the policies and what these can be set to.
    """
    own = {spec.name for policy in every_policy() for spec in knobs_of(policy)} | set(KINDS)
    dense = {name: value for name, value in settings.items() if name not in own}
    dense |= {"selection": "dense"}
    return {
        "D100": dense | {"budget": 1.0},
        "D-B": dense | {"budget": budget},
        "policy": {**settings, "budget": budget},
    }


def final(config: RunConfig) -> RunEnd:
    """Train to the end and return what came of it."""
    *_, end = train(config)
    assert isinstance(end, RunEnd), "a run ends with its RunEnd"
    return end


def matched(
    settings: Mapping[str, Any],
    budget: float,
    seeds: range,
    jobs: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Run all arms over all seeds; returns metrics, paired differences and settings.

    Args:
        settings: Settings of the policy's arm, as for :func:`~effcore.config.resolve`.
        budget: Share of the dense FLOPs.
        seeds: Seeds, the same for every arm.
        jobs: Runs at a time, each in a process of its own.
        say: Takes progress messages.
    """
    plan = [(arm, seed) for seed in seeds for arm in arms(settings, budget)]
    configs = [resolve({**arms(settings, budget)[arm], "seed": seed}) for arm, seed in plan]
    ends = Parallel(n_jobs=jobs, return_as="generator")(delayed(final)(c) for c in configs)
    metrics: dict[str, list[float]] = {arm: [] for arm in arms(settings, budget)}
    for (arm, seed), end in zip(plan, ends, strict=True):
        if end.metric is None:
            raise ArithmeticError(f"arm {arm}, seed {seed} failed: {end.reason}")
        metrics[arm].append(end.metric)
        say(f"seed {seed} {arm}: {end.metric_name} {end.metric:.4f} in {end.seconds:.0f} s")
    return {
        "settings": {k: v for k, v in settings.items() if v is not None},
        "budget": budget,
        "seeds": list(seeds),
        "metrics": metrics,
        "against D100": paired(metrics["policy"], metrics["D100"]),
        "against D-B": paired(metrics["policy"], metrics["D-B"]),
        "D100 against D-B": paired(metrics["D100"], metrics["D-B"]),
    }


def matched_text(result: Mapping[str, Any]) -> str:
    """Return the result as Markdown."""
    lines = ["| arm | mean | per seed |", "|-|-|-|"]
    for arm, values in result["metrics"].items():
        each = " ".join(f"{value:.4f}" for value in values)
        lines.append(f"| {arm} | {sum(values) / len(values):.4f} | {each} |")
    for name in ("against D100", "against D-B", "D100 against D-B"):
        d: Paired = result[name]
        who = name if name.startswith("D100") else f"policy {name}"
        lines.append(
            f"\n{who}: {d.mean:+.4f} ± {d.se:.4f} (95% t interval {d.lo:+.4f} to "
            f"{d.hi:+.4f}; lower one-sided 95% bound {d.bound:+.4f}; n={d.n})"
        )
    return "\n".join(lines)
