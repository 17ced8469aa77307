"""Record a race for the tour: both runs trained here, one after the other, and kept in a file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from effcore.events import RunConfig, RunStatus, ViewEvent
from effcore.runs.manager import Runs
from effcore.store import Store
from effcore.tour.race import Race
from effcore.tour.recording import Recording, Take
from effcore.tour.scene import pictures_of

#: Looks per second for a new picture.
_HZ: Final = 4.0
#: Pictures of a run that are kept, and their width in pixels.
_PICTURES, _WIDTH = 12, 240
_Seen = list[tuple[float, ViewEvent]]


def record_race(
    race: Race, circumstances: Mapping[str, str | float], say: Callable[[str], None]
) -> Recording:
    """Train both runs of a race and return them, thinned.

    Args:
        race: What to train.
        circumstances: Where and when, to be kept with it.
        say: Told what trains.

    Raises:
        RuntimeError: A run did not reach its end.
    """
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(Store(Path(folder)))
        try:
            takes = [_take(runs, config, say) for config in race]
        finally:
            runs.stop_all()
            runs.store.close()
    return Recording(takes[0], takes[1], dict(circumstances))


def _take(runs: Runs, config: RunConfig, say: Callable[[str], None]) -> Take:
    say(f"training {config.task} with {config.selection}")
    run = runs.start(config)[-1]
    seen: _Seen = []
    while not run.join(1 / _HZ):
        look = run.snapshot()
        _note(seen, look.view, float(look.column("seconds")[-1]) if look.steps_done else 0.0)
    look = run.snapshot()
    if look.status is not RunStatus.FINISHED or look.end is None:
        raise RuntimeError(f"the run {look.status.value}: {look.reason}")
    _note(seen, look.view, look.end.seconds)
    return Take(look, tuple((at, pictures_of(view, _WIDTH)) for at, view in _spread(seen)))


def _note(seen: _Seen, view: ViewEvent | None, seconds: float) -> None:
    if view is not None and (not seen or seen[-1][1].step != view.step):
        seen.append((round(seconds, 3), view))


def _spread(seen: _Seen) -> _Seen:
    """Return evenly spaced ones, the first and the last among them."""
    if len(seen) <= _PICTURES:
        return seen
    step = (len(seen) - 1) / (_PICTURES - 1)
    return [seen[round(step * place)] for place in range(_PICTURES)]
