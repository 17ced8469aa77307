"""One run of a study, measured and written down."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from joblib import Parallel, delayed

from effcore import __version__
from effcore.bench.journal import Journal
from effcore.clock import RunClock
from effcore.config import fingerprint
from effcore.energy.meter import RunMeter
from effcore.events import EvalEvent, RunConfig, RunEnd
from effcore.repeat import to_command
from effcore.summary import energy_record
from effcore.trainer import train


def trial(config: RunConfig) -> dict[str, Any]:
    """Train to the end, metered; returns what came of it.

    Returns:
        ``validation`` and ``metric`` (test), ``None`` where the run broke down, with
        ``flops``, ``seconds``, ``energy`` and ``reason``.
    """
    clock = RunClock()
    meter = RunMeter.open(config.device, clock)
    meter.start()
    validation, end = None, None
    try:
        for event in train(config, clock=clock):
            if isinstance(event, EvalEvent):
                validation = event.metric
            elif isinstance(event, RunEnd):
                end = event
    finally:
        energy = meter.stop()
    assert end is not None, "a run ends with its RunEnd"
    return {
        "validation": validation if end.metric is not None else None,
        "metric": end.metric,
        "flops": end.flops_spent,
        "seconds": end.seconds,
        "energy": energy_record(energy),
        "reason": end.reason,
    }


def key_of(config: RunConfig) -> str:
    """Return a text that is equal for equal runs of the same version of everything."""
    return f"{__version__} {fingerprint(config)} {to_command(config, config.changes)}"


def trials(
    configs: Sequence[RunConfig], journal: Journal, jobs: int, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Run what the journal does not hold yet, and return all results in order.

    Args:
        configs: The runs.
        journal: What is done already, and where results are written as they come.
        jobs: Runs at a time, each in a process of its own; joules need one at a time.
        say: Takes progress messages, with the time left.
    """
    keys = [key_of(config) for config in configs]
    missing = {key: config for key, config in zip(keys, configs, strict=True)}
    missing = {key: config for key, config in missing.items() if journal.get(key) is None}
    began = time.monotonic()
    found = Parallel(n_jobs=jobs, return_as="generator")(
        delayed(trial)(config) for config in missing.values()
    )
    for done, (key, result) in enumerate(zip(missing, found, strict=True), start=1):
        journal.put(key, result)
        left = (time.monotonic() - began) / done * (len(missing) - done)
        config = missing[key]
        what = f"{config.task} {config.selection}+{config.update}+{config.intensity}"
        say(f"{done}/{len(missing)} {what} seed {config.seed}, about {_minutes(left)} left")
    results = [journal.get(key) for key in keys]
    return [result for result in results if result is not None]


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
