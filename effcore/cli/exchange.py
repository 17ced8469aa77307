"""The commands that write or read a file: ``export``, ``import`` and ``record``.

``record`` trains an efficient and a full run for playback on the Tour page.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import psutil

from effcore.bench.command_line import echo_progress, measurement_environment
from effcore.cli.knob_options import KnobCommand
from effcore.config import ConfigError
from effcore.insight.race_recording import BUSY_LOAD, plan_race, record_race, recording_to_json
from effcore.runs.exchange import (
    BundleError,
    RunIdTakenError,
    export_run,
    import_bundle,
    read_bundle_file,
)
from effcore.runs.manager import DeviceReservedError
from effcore.store import Store, StoreError
from effcore.training.warmup import warm_up_once


@click.command("export")
@click.argument("run")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def export_command(run: str, file: Path) -> None:
    """Export a run to a file.

    FILE holds the settings, series, decisions, name, tags and note of RUN, which must have ended.
    """
    store = _open_store()
    try:
        export_run(store, run, file)
    except StoreError as error:
        raise click.ClickException(str(error)) from None
    except FileExistsError:
        raise click.ClickException(f"{file.name} exists already: choose another name") from None
    except OSError as error:
        raise click.ClickException(f"{file.name} cannot be written: {error.strerror}") from None
    finally:
        store.close()
    click.echo(file)


@click.command("import")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--fresh-id", is_flag=True, help="Store the run under a fresh id, in case its own is taken."
)
def import_command(file: Path, fresh_id: bool) -> None:
    """Import a run and print its id.

    The run in FILE is marked as trained on another machine.
    """
    store = _open_store()
    try:
        click.echo(import_bundle(store, read_bundle_file(file), fresh_id=fresh_id))
    except OSError as error:
        raise click.ClickException(f"{file.name} cannot be read: {error.strerror}") from None
    except RunIdTakenError as error:
        raise click.ClickException(f"{error} (--fresh-id)") from None
    except BundleError as error:
        raise click.ClickException(f"{file.name} cannot be imported: {error}") from None
    except StoreError as error:
        raise click.ClickException(str(error)) from None
    finally:
        store.close()


def _open_store() -> Store:
    try:
        return Store()
    except StoreError as error:
        raise click.ClickException(str(error)) from None


def _load_average() -> float:
    return round(psutil.getloadavg()[0], 1)  # of the last minute


@click.command(cls=KnobCommand)
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--task", help="Task to learn; the photograph by default.")
@click.option("--policy", "selection", help="Selection policy; confident-skip by default.")
@click.option("--model", help="One of the task's models; the first by default.")
@click.option("--size", help="Size of the model: small, medium or large; medium by default.")
@click.option("--epochs", type=int, help="Epochs of full training, which is 100% of the compute.")
@click.option(
    "--budget",
    type=float,
    help="Compute of the efficient run, as a share of full training's FLOPs; 0.6 by default.",
)
@click.option("--seed", type=int, help="Seed of both runs.")
@click.option("--threads", type=int, help="CPU threads of both runs.")
@click.option("--device", help="cpu, cuda or cuda:N.")
def record(file: Path, **settings: Any) -> None:
    """Record a race for the Tour page in FILE.

    A race is an efficient run beside full training. Both train on this machine, one after the
    other. Leave the machine idle meanwhile, so that the recorded seconds are comparable.
    """
    if not os.access(file.parent, os.W_OK):
        raise click.UsageError(
            f"FILE={file.name!r} cannot be written: choose a file in a writable folder"
        )
    try:
        race = plan_race({name: value for name, value in settings.items() if value is not None})
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    warm_up_once(race.efficient)  # so that loading is not counted in the first run
    try:
        before = _load_average()
        recording = record_race(race, measurement_environment(), echo_progress)
        loads = {"load_at_start": before, "load_at_end": _load_average()}
        with_loads = recording._replace(circumstances={**recording.circumstances, **loads})
        file.write_text(recording_to_json(with_loads), encoding="utf-8")
    except (StoreError, DeviceReservedError, RuntimeError, OSError) as error:
        raise click.ClickException(str(error)) from None
    if max(loads.values()) > BUSY_LOAD:
        echo_progress(
            f"the machine was busy with other programs ({loads}): the seconds are not comparable"
        )
    echo_progress(f"wrote {file.stat().st_size / 1000:.0f} kB to {file.name}")
