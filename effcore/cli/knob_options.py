"""Options that several commands share, and those of the registered knobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from effcore.cli.listing import knobs_by_owner
from effcore.knobs import KnobSpec

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
jobs_option = click.option("--jobs", default=1, type=click.IntRange(1), help="Runs at a time.")


def study_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that all runs of a study or a sweep share."""
    options = (
        click.option(
            "--margin",
            type=float,
            help="Largest deficit of the metric that still counts as equally good; by default the "
            "task's.",
        ),
        click.option(
            "--epochs", type=int, help="Epochs of full training, which is 100% of the compute."
        ),
        click.option("--batch-size", type=int, help="Examples per step, in all runs."),
        click.option("--learning-rate", type=float, help="Peak learning rate, in all runs."),
        click.option("--device", default="cpu", help="cpu, cuda or cuda:N."),
        click.option(
            "--threads", default=1, type=click.IntRange(1), help="CPU threads of each run."
        ),
        jobs_option,
        json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


def knob_options() -> list[click.Parameter]:
    """Return an option for each registered knob and each setting of a task's data."""
    return [
        click.Option([next(iter(owned.values())).option], help=_option_help(owned))
        for owned in knobs_by_owner().values()
    ]


def _option_help(specs_by_owner: dict[str, KnobSpec]) -> str:
    """Return the help of a knob, with the owners named where their knobs differ."""
    owners: dict[str, list[str]] = {}
    for owner, spec in specs_by_owner.items():
        text = f"{spec.help} From {spec.lo:g} to {spec.hi:g}."
        owners.setdefault(text, []).append(owner)
    if len(owners) == 1:
        return next(iter(owners))
    return " ".join(f"{' and '.join(names)}: {text}" for text, names in owners.items())


class KnobCommand(click.Command):
    """Command that also takes every knob registered by the time it is called."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's own parameters, then the knobs, then ``--help``."""
        own, help_option = super().get_params(ctx), self.get_help_option(ctx)
        last = [param for param in own if param is help_option]
        return [*(param for param in own if param not in last), *knob_options(), *last]
