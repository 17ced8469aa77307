"""The command ``record``: a race trained here and kept in a file, to be played on the Tour page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import psutil

from effcore.bench.commands import echo_progress
from effcore.bench.environment import measurement_environment
from effcore.cli.knob_options import KnobCommand
from effcore.config import ConfigError
from effcore.insight.race_plan import plan_race
from effcore.insight.race_recorder import record_race
from effcore.insight.race_recording import BUSY_LOAD, recording_to_json
from effcore.runs.manager import DeviceReservedError
from effcore.store import StoreError
from effcore.training.warmup import warm_up_once


def _load_average() -> float:
    """Return how many programs wanted to compute within the last minute."""
    return round(psutil.getloadavg()[0], 1)


@click.command(cls=KnobCommand)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--task", help="Task; the photograph by default.")
@click.option("--policy", "selection", help="Selection policy; confident-skip by default.")
@click.option("--model", help="One of the task's models; the first by default.")
@click.option("--size", help="Size of the model.")
@click.option("--epochs", type=int, help="Passes that are 100% of the compute.")
@click.option("--budget", type=float, help="Share of the dense FLOPs; 0.6 by default.")
@click.option("--seed", type=int, help="Seed of both runs.")
@click.option("--threads", type=int, help="CPU threads of both runs.")
@click.option("--device", help="cpu, cuda or cuda:N.")
def record(file: Path, **settings: Any) -> None:
    """Race an efficient run against a dense one, and keep both in FILE for the Tour page.

    Both train here, one after the other; nothing else should compute meanwhile.
    """
    if not os.access(file.parent, os.W_OK):
        raise click.UsageError(f"FILE={file.name!r} cannot be written: name a writable folder")
    try:
        race = plan_race({name: value for name, value in settings.items() if value is not None})
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    warm_up_once(race.efficient)  # or the first run's seconds and joules would be those of loading
    try:
        before = _load_average()
        recording = record_race(race, measurement_environment(), echo_progress)
        loads = {"load_at_start": before, "load_at_end": _load_average()}
        busy = recording._replace(circumstances={**recording.circumstances, **loads})
        file.write_text(recording_to_json(busy), encoding="utf-8")
    except (StoreError, DeviceReservedError, RuntimeError, OSError) as error:
        raise click.ClickException(str(error)) from None
    if max(loads.values()) > BUSY_LOAD:
        echo_progress(f"the machine did other things meanwhile ({loads}): its seconds say little")
    echo_progress(f"kept {file.stat().st_size / 1000:.0f} kB in {file.name}")
