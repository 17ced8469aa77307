"""One run of a study, measured and written down."""

from __future__ import annotations

import hashlib
import math
import shlex
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from joblib import Parallel, delayed

import effcore
from effcore.bench.environment import processor_fingerprint
from effcore.bench.eta import with_eta
from effcore.bench.journal import Journal
from effcore.config import ConfigError, model_data_fingerprint
from effcore.energy.meter import RunMeter
from effcore.records import EvalEvent, RunConfig, RunEnd, RunStart, StepEvent
from effcore.records.run_clock import RunClock
from effcore.runs.reproduce import config_to_command
from effcore.runs.summary import energy_record
from effcore.training.ledger import UncountedOperationError
from effcore.training.trainer import train
from effcore.training.warmup import warm_up_once

#: Packages that no run depends on.
_IRRELEVANT_PACKAGES = {"bench", "figures", "stream", "store", "testing", "impact"}


#: A run that takes more than so many times the dense run's steps is given up: where a step
#: costs next to nothing, a budget of FLOPs lasts for hours.
_MAX_STEPS_OVER_DENSE = 10


def run_metered(config: RunConfig) -> dict[str, Any]:
    """Train to the end, metered; returns what came of it.

    Returns:
        ``validation`` and ``metric`` (test), ``None`` where the run broke down, with
        ``flops``, ``seconds``, ``energy``, ``parameters_sha256`` and ``reason``.

    Raises:
        torch.OutOfMemoryError: The device has no room for it now.
        UncountedOperationError: It runs an operation that nobody accounts for.
    """
    warm_up_once(config)  # or the first run's seconds would be those of loading
    clock = RunClock()
    clock.pause()  # opening an instrument may take a second, which is none of the run's
    meter = RunMeter.open(config.device, clock)
    clock.resume()
    meter.start()
    validation, end, most = None, None, math.inf
    try:
        for event in train(config, clock=clock):
            if isinstance(event, StepEvent):
                if event.step > most:
                    reason = (
                        f"given up after {_MAX_STEPS_OVER_DENSE} times the steps of the dense run"
                    )
                    return _failed_result(reason, clock())
            elif isinstance(event, RunStart):
                most = _MAX_STEPS_OVER_DENSE * config.epochs * event.n_train / config.batch_size
            elif isinstance(event, EvalEvent):
                validation = event.metric
            elif isinstance(event, RunEnd):
                end = event
    except (torch.OutOfMemoryError, UncountedOperationError):
        raise  # a matter of the moment, or of the code: none that is to be kept of the run
    except (ConfigError, RuntimeError) as error:  # found only on the way
        return _failed_result(str(error), clock())
    finally:
        energy = meter.stop()
    assert end is not None, "a run ends with its RunEnd"
    return {
        "validation": validation if end.metric is not None else None,
        "metric": end.metric,
        "flops": end.flops_spent,
        "flops_full": end.flops_full,
        "skipped_compute_frac": end.skipped_compute_frac,
        "seconds": end.seconds,
        "energy": energy_record(energy),
        "parameters_sha256": end.parameters_sha256,
        "reason": end.reason,
    }


def _failed_result(reason: str, seconds: float) -> dict[str, Any]:
    nothing: dict[str, Any] = {"validation": None, "metric": None, "flops": 0.0, "energy": {}}
    return {**nothing, "seconds": seconds, "parameters_sha256": None, "reason": reason}


def metrics_or_raise(
    configs: Sequence[RunConfig],
    result_name: str,
    journal: Journal,
    jobs: int,
    say: Callable[[str], None],
) -> list[float]:
    """Return ``validation`` or ``metric`` of runs, none of which may fail; see :func:`run_missing`.

    Raises:
        ArithmeticError: A run broke down.
    """
    results = run_missing(configs, journal, jobs, say)
    for config, result in zip(configs, results, strict=True):
        if result[result_name] is None:
            raise ArithmeticError(
                f"{config.selection} with {config.epochs} epochs, seed {config.seed}, failed: "
                f"{result['reason']}"
            )
    return [result[result_name] for result in results]


def journal_key(config: RunConfig) -> str:
    """Return a text that is equal for equal runs of the same code, PyTorch and processor."""
    command = config_to_command(config, config.changes)
    by = f"{code_version()} {torch.__version__} {processor_fingerprint(config.device)}"
    return f"{by} {model_data_fingerprint(config)} {command}"


def settings_from_key(key: str) -> dict[str, str]:
    """Return the settings, as text, of the run that a key of :func:`journal_key` stands for.

    Raises:
        ValueError: It is not such a key.
    """
    _, _, command = key.partition(" effcore run ")
    words = shlex.split(command)
    if not words or len(words) % 2:
        raise ValueError(f"{key!r} is not the key of a run")
    names = (word.removeprefix("--").replace("-", "_") for word in words[::2])
    settings = dict(zip(names, words[1::2], strict=True))
    return settings | {"selection": settings.pop("policy")}


def version_part(key: str) -> str:
    """Return what a key tells of code, PyTorch, processor, and the task's model and data."""
    return " ".join(key.split()[:4])


@cache
def code_version() -> str:
    """Return the hash of all code that may decide how a run goes."""
    root = Path(effcore.__file__).parent
    files = [
        path
        for path in sorted(root.rglob("*.py"))
        if not _IRRELEVANT_PACKAGES & set(path.relative_to(root).parts)
    ]
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def run_if_code_unchanged(code: str, config: RunConfig) -> dict[str, Any]:
    """Return a trial by a version of the code; a process may have begun after the files changed.

    Raises:
        RuntimeError: They are of another version: what came of it would be kept under this one.
    """
    if code_version() != code:
        raise RuntimeError(
            "Effcore's files were changed while this measurement ran: start it again; what was "
            "done before is kept, and holds for the version before"
        )
    return run_metered(config)


def run_missing(
    configs: Sequence[RunConfig], journal: Journal, jobs: int, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Run what the journal does not hold yet, and return all results in order.

    Args:
        configs: The runs.
        journal: What is done already, and where results are written as they come.
        jobs: Runs at a time, each in a process of its own; joules need one at a time.
        say: Takes progress messages, with the time left.
    """
    keys = [journal_key(config) for config in configs]
    missing = {key: config for key, config in zip(keys, configs, strict=True)}
    missing = {key: config for key, config in missing.items() if journal.get(key) is None}
    if missing:
        journal.create_file()
    tell = with_eta(say, len(missing))
    found = Parallel(n_jobs=jobs, return_as="generator")(
        delayed(run_if_code_unchanged)(code_version(), config) for config in missing.values()
    )
    for done, (key, result) in enumerate(zip(missing, found, strict=True), start=1):
        journal.append(key, result)
        config = missing[key]
        what = f"{config.task} {config.selection}+{config.update}+{config.intensity}"
        tell(f"{done}/{len(missing)} {what} seed {config.seed}")
    results = [journal.get(key) for key in keys]
    return [result for result in results if result is not None]
