"""Progress of a study or a sweep on the terminal."""

from __future__ import annotations

from collections.abc import Iterable

import click

from effcore.runs.descriptions import time_left_text
from effcore.studies.executor import StudyProgress


def print_progress(steps: Iterable[StudyProgress], line_format: str) -> bool:
    """Print a line per progress report; return whether all runs are done.

    Less is done where another process cancelled the study, which is then printed.

    Args:
        steps: Progress reports, as they come.
        line_format: Format of a line, with places for the runs done and the runs in total.
    """
    progress = None
    for progress in steps:
        line = line_format.format(progress.done, progress.total) + time_left_text(
            progress.seconds_left
        )
        click.echo(line, err=True)
    completed = progress is None or progress.done == progress.total
    if not completed:
        click.echo("cancelled by another process; run the same command again to continue", err=True)
    return completed
