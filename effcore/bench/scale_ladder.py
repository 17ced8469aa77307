"""A scale ladder on this machine: what a policy saves at every size of a model.

Full training is the reference. The policy trains for the same epochs, or spends its budget. Runs
are metered one at a time. A policy's run and full training with the same seed follow each other,
after a warm-up run of each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import click
import torch

from effcore.bench.bench_store import BenchRun, BenchStore, open_bench_store
from effcore.bench.command_line import (
    ProgressSink,
    bench,
    device_option,
    echo_progress,
    given_or_default,
    journal_option,
    measurement_environment,
    print_result,
    quick_epochs,
)
from effcore.bench.matched_comparison import train_to_end
from effcore.cli.knob_options import json_option
from effcore.config import resolve
from effcore.home import default_home
from effcore.impact.ranges import number_text
from effcore.impact.saving import SAVING_LIMITS, SavingBasis, percent_text
from effcore.impact.scale_ladder import Ladder, LadderStep, ladder_path, save_ladder
from effcore.records import EnergyQuality, RunConfig
from effcore.records.settings import Settings
from effcore.tasks.base import SIZES, TASKS


class LadderPairs(NamedTuple):
    """Runs of a policy and of full training at one size, seed by seed."""

    policy: Sequence[BenchRun]
    full: Sequence[BenchRun]


def measure_ladder(
    settings: Settings,
    seeds: Sequence[int],
    store: BenchStore,
    circumstances: Mapping[str, str | int | float],
    say: ProgressSink,
) -> Ladder:
    """Train the runs that the store lacks, and return the ladder.

    Without a ``budget`` in ``settings``, the policy ends after its epochs. ``circumstances`` are
    machine, versions and date.

    Raises:
        ConfigError: A setting is not allowed.
        ArithmeticError: A run broke down.
    """
    pairs = [_policy_and_full_configs(settings, size, seed) for size in SIZES for seed in seeds]
    # The order alternates, so that a machine that slows down slows both sides alike.
    orders = [1 if place % 2 == 0 else -1 for place in range(len(pairs))]
    configs = [
        config for pair, order in zip(pairs, orders, strict=True) for config in pair[::order]
    ]
    if store.missing(configs):  # a warm-up, since a process's first run also loads libraries
        for config in configs[:2]:
            train_to_end(replace(config, epochs=1))
    results = store.results(configs, 1, say)
    for config, result in zip(configs, results, strict=True):
        if result.metric is None:
            raise ArithmeticError(
                f"{config.selection} of size {config.size}, seed {config.seed}, failed: "
                f"{result.reason}"
            )
    runs = [results[2 * place : 2 * place + 2][::order] for place, order in enumerate(orders)]
    quality = _common_quality(results)
    first, n = pairs[0][0], len(seeds)
    steps = [
        _ladder_step(
            first, size, LadderPairs(*zip(*runs[n * i : n * (i + 1)], strict=True)), quality
        )
        for i, size in enumerate(SIZES)
    ]
    return Ladder(
        task=first.task,
        model=first.model,
        policy=first.selection,
        metric=TASKS.get(first.task).metric.name,
        steps=tuple(steps),
        quality=quality,
        circumstances=circumstances,
    )


def _policy_and_full_configs(
    settings: Settings, size: str, seed: int
) -> tuple[RunConfig, RunConfig]:
    """Return the configurations of the policy's run and of full training."""
    policy = resolve({**settings, "size": size, "seed": seed})
    shared = ("task", "model", "epochs", "batch_size", "learning_rate", "device", "threads",
              "optimizer", "precision", "clip_norm", "size", "seed")  # fmt: skip
    full = {name: getattr(policy, name) for name in shared} | dict(policy.data)
    return policy, resolve({**full, "selection": "dense", "budget": 1.0})


def _common_quality(results: Sequence[BenchRun]) -> EnergyQuality | None:
    """Return ``measured`` where one meter measured all runs, and no other process used it."""
    energies = [result.energy for result in results]
    known = all(
        energy.quality == EnergyQuality.MEASURED and energy.joules and not energy.contended
        for energy in energies
    )
    meters = {(energy.source, energy.scope, energy.device_uuid) for energy in energies}
    return EnergyQuality.MEASURED if known and len(meters) == 1 else None


def _ladder_step(
    config: RunConfig, size: str, pairs: LadderPairs, quality: EnergyQuality | None
) -> LadderStep:
    savings = {
        basis: _pair_savings(pairs, basis) for basis in (SavingBasis.FLOPS, SavingBasis.SECONDS)
    }
    if quality is not None:
        savings[SavingBasis.JOULES] = _pair_savings(pairs, SavingBasis.JOULES)
    return LadderStep(
        name=size,
        size=parameter_count(config.task, config.model, size),
        savings=savings,
        metrics=_metrics(pairs.policy),
        dense_metrics=_metrics(pairs.full),
    )


def _metrics(runs: Sequence[BenchRun]) -> tuple[float, ...]:
    return tuple(run.metric for run in runs if run.metric is not None)


def _pair_savings(pairs: LadderPairs, basis: SavingBasis) -> tuple[float, ...]:
    least, _ = SAVING_LIMITS
    return tuple(
        max(least, 1.0 - _amount_spent(run, basis) / _amount_spent(full, basis))
        for run, full in zip(*pairs, strict=True)
    )


def _amount_spent(run: BenchRun, basis: SavingBasis) -> float:
    if basis is SavingBasis.JOULES:
        assert run.energy.joules is not None, "joules are compared only where all runs have them"
        return run.energy.joules
    return run.end.flops_spent if basis is SavingBasis.FLOPS else run.end.seconds


def parameter_count(task: str, model: str, size: str) -> int:
    """Return the number of a model's parameters, without allocating them."""
    with torch.device("meta"):
        built = TASKS.get(task).model_choice(model).build(size)
    return sum(tensor.numel() for tensor in built.parameters())


def ladder_text(ladder: Ladder) -> str:
    """Return the ladder as Markdown."""
    bases = ladder.bases()
    heads = ["size", "parameters", *(f"{ladder.basis_text(basis)} saved" for basis in bases)]
    lines = [f"| {' | '.join([*heads, ladder.metric, 'dense'])} |", "|-" * (len(heads) + 2) + "|"]
    rungs = {basis: ladder.rungs(basis) for basis in bases}
    for i, step in enumerate(ladder.steps):
        saved = [percent_text(rungs[basis][i].interval) for basis in bases]
        means = [number_text(sum(v) / len(v)) for v in (step.metrics, step.dense_metrics)]
        lines.append(f"| {' | '.join([step.name, f'{step.size:,}', *saved, *means])} |")
    n = len(ladder.steps[0].metrics)
    lines.append(f"\n{ladder.task}, {ladder.model}, {ladder.policy} against full training;")
    lines.append(f"95% t intervals over {n} seeds." if n > 1 else "one seed: no intervals.")
    return "\n".join(lines)


# Command ----------------------------------------------------------------------------------


@bench.command()
@click.option("--task", default="digits", help="Task.")
@click.option("--model", help="One of the task's models; the first by default.")
@click.option("--policy", default="auto", help="Selection policy.")
@click.option("--epochs", type=int, help="Epochs; the model's own by default.")
@device_option
@click.option("--seeds", type=click.IntRange(1), help="Paired seeds; 3 by default.")
@click.option("--first-seed", default=100, type=click.IntRange(0), help="The first of the seeds.")
@click.option("--quick", is_flag=True, help="A quarter of the epochs, two seeds: minutes.")
@journal_option
@json_option
def ladder(
    policy: str,
    epochs: int | None,
    seeds: int | None,
    first_seed: int,
    quick: bool,
    journal: str | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Measure savings at three sizes of a model.

    The Energy page shows the result. Resumable.
    """
    fresh = range(first_seed, first_seed + given_or_default(seeds, quick, 2, 3))
    if quick and epochs is None:
        epochs = quick_epochs(settings["task"], settings["model"])
    chosen = {**settings, "selection": policy, "epochs": epochs, "threads": 1}
    given = {name: value for name, value in chosen.items() if value is not None}
    measured = measure_ladder(
        given, fresh, open_bench_store(journal), measurement_environment(), echo_progress
    )
    print_result(dataclasses.asdict(measured), as_json, ladder_text(measured))
    try:
        save_ladder(ladder_path(default_home()), measured)
    except OSError as error:
        raise click.ClickException(
            f"the ladder could not be kept for the Energy page ({error.strerror}): set "
            "EFFCORE_HOME to a writable folder"
        ) from None
