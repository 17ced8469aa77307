"""Command line options made from what is registered: one for each knob, looked up when called."""

from __future__ import annotations

import click

from effcore.listing import declared_knobs


def knob_options() -> list[click.Parameter]:
    """Return an option for each registered knob and each setting of a task's data."""
    return [
        click.Option([spec.option], help=f"{spec.help} From {spec.lo:g} to {spec.hi:g}.")
        for spec in declared_knobs().values()
    ]


class KnobCommand(click.Command):
    """A command that also takes every knob; they are looked up when it is called."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's own parameters, those of the knobs, and help last."""
        own, help_option = super().get_params(ctx), self.get_help_option(ctx)
        last = [param for param in own if param is help_option]
        return [*(param for param in own if param not in last), *knob_options(), *last]
