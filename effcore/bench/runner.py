"""Runs of a bench: those that are missing are trained, and all are returned in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from effcore.bench.bench_store import BenchStore, run_result
from effcore.records import RunConfig


def run_missing(
    configs: Sequence[RunConfig], store: BenchStore, jobs: int, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Train what the store does not hold yet, and return all results in order.

    Args:
        configs: The runs.
        store: What is done already, and where runs go.
        jobs: Runs at a time, each in a process of its own; joules need one at a time.
        say: Takes progress messages, with the time left.
    """
    store.train(configs, jobs, say)
    return [run_result(snapshot) for snapshot in store.load(configs)]


def metrics_or_raise(
    configs: Sequence[RunConfig],
    result_name: str,
    store: BenchStore,
    jobs: int,
    say: Callable[[str], None],
) -> list[float]:
    """Return ``validation`` or ``metric`` of runs, none of which may fail; see :func:`run_missing`.

    Raises:
        ArithmeticError: A run broke down.
    """
    results = run_missing(configs, store, jobs, say)
    for config, result in zip(configs, results, strict=True):
        if result[result_name] is None:
            raise ArithmeticError(
                f"{config.selection} with {config.epochs} epochs, seed {config.seed}, failed: "
                f"{result['reason']}"
            )
    return [result[result_name] for result in results]
