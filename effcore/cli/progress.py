"""What the command line says while a study or a sweep is carried out."""

from __future__ import annotations

from collections.abc import Iterable

import click

from effcore.runs.descriptions import time_left_text
from effcore.studies.executor import StudyProgress


def print_progress(steps: Iterable[StudyProgress], line_format: str) -> bool:
    """Say how far it is, step by step, and at the end if it was cancelled; return whether not.

    Args:
        steps: What is done, as it is done.
        line_format: What is said, with places for how many are done and how many there are to be.
    """
    progress = None
    for progress in steps:
        words = line_format.format(progress.done, progress.total) + time_left_text(
            progress.seconds_left
        )
        click.echo(words, err=True)
    whole = progress is None or progress.done == progress.total
    if not whole:
        click.echo("cancelled elsewhere; the same command goes on with what is missing", err=True)
    return whole
