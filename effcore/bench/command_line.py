"""What the benches take from a command line, and how they say that it cannot be used."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import click

#: Shortest and longest block that is timed, s.
_BLOCK_SECONDS_RANGE = (0.001, 3600.0)


class BenchGroup(click.Group):
    """A group whose commands never show a traceback for what they were given.

    A value that cannot be used is a mistake of usage; a run that broke down, a file that cannot
    be written and a machine that lacks something are said in a line.
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
        except ValueError as error:  # which a ConfigError is, and an unknown name
            raise click.UsageError(str(error)) from None
        except OSError as error:
            where = "" if error.filename is None else f"{error.filename!r}: "
            raise click.ClickException(f"{where}{error.strerror or error}") from None
        except (ArithmeticError, RuntimeError) as error:
            raise click.ClickException(str(error)) from None

    return call


def parse_whole_numbers(ctx: click.Context, param: click.Parameter, text: str) -> tuple[int, ...]:
    """Return whole numbers from 1 on that were given with commas between them."""
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
        default: What it is by default; ``None`` where the command decides, as 5 or shorter.
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
    """Refuse what is no number, which lies in every range."""
    if value is not None and math.isnan(value):
        raise click.BadParameter(
            f"'nan' is no number: choose one from {_BLOCK_SECONDS_RANGE[0]:g} s on"
        )
    return value
