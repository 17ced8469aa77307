"""What the commands ``bench …`` share: their options, how they report errors and print results."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from effcore.bench.environment import measurement_environment
from effcore.config import resolve
from effcore.records.settings import SettingValue

T = TypeVar("T")
#: Shortest and longest timed block, s.
_BLOCK_SECONDS_RANGE = (0.001, 3600.0)


class BenchGroup(click.Group):
    """A group whose commands report errors in one line, never as a traceback.

    A value that is not allowed is a usage error. A failed run, a file that cannot be written and
    a missing part of the machine are errors of the command.
    """

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
