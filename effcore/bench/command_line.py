"""Environment, progress, errors, options and output of the bench commands."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import math
import pkgutil
import platform
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
import psutil
import torch

from effcore import __version__
from effcore.config import resolve
from effcore.records.settings import Settings, SettingValue
from effcore.runs.descriptions import time_left_text
from effcore.studies.run_origin import cpu_name

#: Takes progress messages.
ProgressSink = Callable[[str], None]
T = TypeVar("T")
#: Shortest and longest timed block, s.
_BLOCK_SECONDS_RANGE = (0.001, 3600.0)


# Environment and progress -----------------------------------------------------------------


def measurement_environment() -> dict[str, str | int]:
    """Return machine, versions and date by name; no paths and no host name."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": cpu_name(),
        "cores": psutil.cpu_count() or 1,
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "effcore": __version__,
    }


def with_eta(say: ProgressSink, total: int) -> ProgressSink:
    """Return a progress sink that adds the time left to each message.

    Args:
        say: Takes the messages.
        total: Number of messages; the parts of work between them should take equally long.
    """
    began, done = time.monotonic(), 0

    def say_with_eta(message: str) -> None:
        nonlocal done
        done += 1
        left_s = (time.monotonic() - began) / done * max(0, total - done)
        say(message + time_left_text(left_s))

    return say_with_eta


# Commands ---------------------------------------------------------------------------------


class BenchGroup(click.Group):
    """A group whose commands report errors in one line, never as a traceback.

    A value that is not allowed is a usage error. A failed run, a file that cannot be written and
    a missing part of the machine are errors of the command.

    Each module of the package registers the commands of what it measures; they are imported on
    demand.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        _import_benches()
        return super().list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by name."""
        _import_benches()
        return super().get_command(ctx, cmd_name)

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Register a command."""
        if cmd.callback is not None:
            cmd.callback = _report_errors(cmd.callback)
        super().add_command(cmd, name)


def _report_errors(callback: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(callback)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return callback(*args, **kwargs)
        except (click.exceptions.Exit, click.Abort):  # RuntimeErrors, too, but click's own
            raise
        except ValueError as error:  # a ConfigError or an unknown name, too
            raise click.UsageError(str(error)) from None
        except OSError as error:
            where = "" if error.filename is None else f"{error.filename!r}: "
            raise click.ClickException(f"{where}{error.strerror or error}") from None
        except (ArithmeticError, RuntimeError) as error:
            raise click.ClickException(str(error)) from None

    return call


@click.group(cls=BenchGroup)
def bench() -> None:
    """Measure Effcore itself. The figures in RESULTS.md come from these commands.

    Benches that train whole runs store them, and continue where they were interrupted. Benches
    that time alternating blocks do not: only blocks that follow each other directly on one
    machine are comparable.
    """


def _import_benches() -> None:
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"effcore.bench.{module.name}")


# Options ----------------------------------------------------------------------------------


def _require_folder(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a file in a missing folder before anything trains."""
    if path is not None and not path.parent.is_dir():
        raise click.BadParameter(f"there is no folder for {path.name!r}: create it first")
    return path


figure_option = click.option(
    "--figure",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=_require_folder,
    help="Write the result as a figure to this HTML file, readable offline.",
)
journal_option = click.option(
    "--journal",
    metavar="FOLDER",
    help="Store of the runs, from which a bench resumes; bench/store in EFFCORE_HOME by default. "
    "Result files of earlier versions are not read.",
)
device_option = click.option("--device", default="cpu", help="cpu, cuda or cuda:N.")


def shared_setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add options for the other policies, and for settings that all variants share."""
    options = (
        click.option("--update", help="Update policy."),
        click.option("--intensity", help="Intensity policy."),
        click.option("--size", help="Size of the model, for all variants."),
        click.option("--batch-size", type=int, help="Examples per step, for all variants."),
        click.option("--learning-rate", type=float, help="Peak learning rate, for all variants."),
        click.option("--epochs", type=int, help="Epochs of full training."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def parse_whole_numbers(ctx: click.Context, param: click.Parameter, text: str) -> tuple[int, ...]:
    """Parse whole numbers from 1 on, separated by commas."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not all(word.isascii() and word.isdigit() and int(word) > 0 for word in words):
        raise click.BadParameter(
            f"{text!r} is not allowed: expected whole numbers from 1 on, with commas between "
            "them, as in 5,10,20"
        )
    return tuple(int(word) for word in words)


def seconds_option(default: float | None) -> Callable[[Any], Any]:
    """Return the option for the length of a timed block, s.

    Args:
        default: Default length; ``None`` where the command sets it: 5, or less with ``--quick``.
    """
    lo, hi = _BLOCK_SECONDS_RANGE
    return click.option(
        "--seconds",
        default=default,
        type=click.FloatRange(lo, hi),
        callback=_refuse_nan,
        help="Length of a block; 5 by default.",
    )


def _refuse_nan(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """Refuse nan, which click's range lets through."""
    if value is not None and math.isnan(value):
        raise click.BadParameter(
            f"'nan' is no number: choose one from {_BLOCK_SECONDS_RANGE[0]:g} s on"
        )
    return value


def given_or_default(given: T | None, quick: bool, quick_default: T, full_default: T) -> T:
    """Return an option's value; where it was not given, the default with or without ``--quick``."""
    if given is not None:
        return given
    return quick_default if quick else full_default


def quick_epochs(task: SettingValue, model: SettingValue) -> int:
    """Return a quarter of a model's default epochs, at least 4.

    Raises:
        ConfigError: There is no such task or model.
    """
    return max(4, resolve({"task": task, "model": model, "selection": "dense"}).epochs // 4)


def quick_settings(settings: Settings, quick: bool) -> Settings:
    """Return the settings with a small model and few epochs, unless given, for ``--quick``."""
    if not quick:
        return settings
    epochs = settings["epochs"]
    if epochs is None:
        epochs = quick_epochs(settings["task"], settings["model"])
    return {**settings, "size": settings["size"] or "small", "epochs": epochs}


# Output -----------------------------------------------------------------------------------


def echo_progress(message: str) -> None:
    """Print a progress message to standard error."""
    click.echo(message, err=True)


def print_result(record: Mapping[str, Any], as_json: bool, text: str) -> None:
    """Print a result as JSON or as text, with the environment it was measured in."""
    where = measurement_environment()
    if as_json:
        click.echo(json.dumps(_json_safe({**record, "circumstances": where}), allow_nan=False))
        return
    click.echo(text)
    click.echo("measured on " + ", ".join(f"{name} {value}" for name, value in where.items()))


def _json_safe(data: Any) -> Any:
    """Return a value with records as objects, and with ``None`` for numbers JSON cannot hold."""
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        data = dataclasses.asdict(data)
    if isinstance(data, dict):
        return {key: _json_safe(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_json_safe(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
