"""Recorder of a race for the tour: trains both runs, one after the other, with their pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from effcore.insight.race_plan import RacePlan
from effcore.insight.race_recording import RaceRecording, RecordedRaceRun
from effcore.insight.race_scene import view_pictures
from effcore.records import RunConfig, RunStatus, ViewEvent
from effcore.runs.manager import RunManager
from effcore.store import Store

#: Checks for a new picture per second.
_POLL_HZ: Final = 4.0
#: Most pictures per run, and their width in pixels.
_KEPT_PICTURES, _PICTURE_WIDTH = 12, 240
_TimedViews = list[tuple[float, ViewEvent]]


def record_race(
    race: RacePlan, circumstances: Mapping[str, str | float], report: Callable[[str], None]
) -> RaceRecording:
    """Train both runs of a race and return the recording, with few pictures per run.

    Args:
        race: The two configurations.
        circumstances: Date, machine and versions, which are stored with the recording.
        report: Called with a text before each run.

    Raises:
        RuntimeError: A run did not finish.
    """
    with tempfile.TemporaryDirectory() as folder:
        runs = RunManager(Store(Path(folder)))
        try:
            recorded_runs = [_record_run(runs, config, report) for config in race]
        finally:
            runs.stop_all()
            runs.store.close()
    return RaceRecording(recorded_runs[0], recorded_runs[1], dict(circumstances))


def _record_run(
    runs: RunManager, config: RunConfig, report: Callable[[str], None]
) -> RecordedRaceRun:
    report(f"training {config.task} with {config.selection}")
    run = runs.start(config)[-1]
    views: _TimedViews = []
    while not run.join(1 / _POLL_HZ):
        snapshot = run.snapshot()
        _append_new_view(
            views,
            snapshot.view,
            float(snapshot.column("seconds")[-1]) if snapshot.steps_done else 0.0,
        )
    snapshot = run.snapshot()
    if snapshot.status is not RunStatus.FINISHED or snapshot.end is None:
        raise RuntimeError(f"the run {snapshot.status.value}: {snapshot.reason}")
    _append_new_view(views, snapshot.view, snapshot.end.seconds)
    return RecordedRaceRun(
        snapshot,
        tuple(
            (seconds, view_pictures(view, _PICTURE_WIDTH)) for seconds, view in _thin_views(views)
        ),
    )


def _append_new_view(views: _TimedViews, view: ViewEvent | None, seconds: float) -> None:
    if view is not None and (not views or views[-1][1].step != view.step):
        views.append((round(seconds, 3), view))


def _thin_views(views: _TimedViews) -> _TimedViews:
    """Return evenly spaced views, including the first and the last."""
    if len(views) <= _KEPT_PICTURES:
        return views
    step = (len(views) - 1) / (_KEPT_PICTURES - 1)
    return [views[round(step * index)] for index in range(_KEPT_PICTURES)]
