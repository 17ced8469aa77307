"""Record a race for the tour: both runs trained here, one after the other, and kept in a file."""

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

#: Looks per second for a new picture.
_POLL_HZ: Final = 4.0
#: Pictures of a run that are kept, and their width in pixels.
_KEPT_PICTURES, _PICTURE_WIDTH = 12, 240
_TimedViews = list[tuple[float, ViewEvent]]


def record_race(
    race: RacePlan, circumstances: Mapping[str, str | float], report: Callable[[str], None]
) -> RaceRecording:
    """Train both runs of a race and return them, thinned.

    Args:
        race: What to train.
        circumstances: Where and when, to be kept with it.
        report: Told what trains.

    Raises:
        RuntimeError: A run did not reach its end.
    """
    with tempfile.TemporaryDirectory() as folder:
        runs = RunManager(Store(Path(folder)))
        try:
            takes = [_record_run(runs, config, report) for config in race]
        finally:
            runs.stop_all()
            runs.store.close()
    return RaceRecording(takes[0], takes[1], dict(circumstances))


def _record_run(
    runs: RunManager, config: RunConfig, report: Callable[[str], None]
) -> RecordedRaceRun:
    report(f"training {config.task} with {config.selection}")
    run = runs.start(config)[-1]
    seen: _TimedViews = []
    while not run.join(1 / _POLL_HZ):
        look = run.snapshot()
        _append_new_view(
            seen, look.view, float(look.column("seconds")[-1]) if look.steps_done else 0.0
        )
    look = run.snapshot()
    if look.status is not RunStatus.FINISHED or look.end is None:
        raise RuntimeError(f"the run {look.status.value}: {look.reason}")
    _append_new_view(seen, look.view, look.end.seconds)
    return RecordedRaceRun(
        look, tuple((at, view_pictures(view, _PICTURE_WIDTH)) for at, view in _thin_views(seen))
    )


def _append_new_view(views: _TimedViews, view: ViewEvent | None, seconds: float) -> None:
    if view is not None and (not views or views[-1][1].step != view.step):
        views.append((round(seconds, 3), view))


def _thin_views(views: _TimedViews) -> _TimedViews:
    """Return evenly spaced ones, the first and the last among them."""
    if len(views) <= _KEPT_PICTURES:
        return views
    step = (len(views) - 1) / (_KEPT_PICTURES - 1)
    return [views[round(step * place)] for place in range(_KEPT_PICTURES)]
