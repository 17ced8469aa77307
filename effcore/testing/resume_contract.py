"""What every run promises of its checkpoints: going on from one is as if it was never left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from effcore.knobs import Controls
from effcore.records import Event, RunConfig, StepBlock, StepEvent
from effcore.records.deprecation import with_old_keywords
from effcore.training.checkpoint import Checkpoint, pack_state, unpack_state
from effcore.training.trainer import Training, train

#: Where a run is left where no step is named: a third of its way.
_DEFAULT_LEAVE_SHARE = 1 / 3


class TrainingTrace(NamedTuple):
    """A training that was followed: what it told, and its state where it was looked at."""

    events: list[Event]
    checkpoint: Checkpoint | None


@with_old_keywords
def check_resumes(config: RunConfig, leave_after: int = 0, until: int = 0) -> None:
    """Check that a run taken up from a checkpoint goes on, to the bit, as one never left.

    Args:
        config: The run, on the CPU.
        leave_after: Steps after which it is left; after a third of the way where 0.
        until: Steps after which the two are compared and given up, state by state; at the
            end of both where 0.

    Raises:
        AssertionError: They differ.
    """
    whole = _start_training(config)
    before = _train_until(whole, leave_after, 0 if leave_after else _DEFAULT_LEAVE_SHARE)
    saved = before.checkpoint
    assert saved is not None, f"{config.selection!r} is over before it could be left"
    again = _start_training(
        config, Checkpoint(saved.step, saved.seconds, _pack_and_unpack(saved.state))
    )
    never_left, resumed = _train_until(whole, until), _train_until(again, until)
    _check_events_equal(
        config, never_left.events, resumed.events[1:]
    )  # after the facts it starts with
    if never_left.checkpoint is not None or resumed.checkpoint is not None:
        assert never_left.checkpoint is not None, "only one of the two got so far"
        assert resumed.checkpoint is not None, "only one of the two got so far"
        _check_states_equal("run", never_left.checkpoint.state, resumed.checkpoint.state)


def _start_training(config: RunConfig, checkpoint: Checkpoint | None = None) -> Training:
    controls = Controls()
    controls.report_each_step = True  # so that a checkpoint can be taken after each
    return train(config, controls, lambda: 0.0, checkpoint)


def _train_until(training: Training, until: int, share: float = 0.0) -> TrainingTrace:
    """Train to a step or a share of the run and return the state there, else to the end."""
    events: list[Event] = []
    for event in training:
        events.append(event)
        if not isinstance(event, StepEvent) or event.step == 0:
            continue
        if (until and event.step >= until) or (share and event.progress >= share):
            return TrainingTrace(events, training.checkpoint())
    return TrainingTrace(events, None)


def _pack_and_unpack(state: dict[str, Any]) -> dict[str, Any]:
    return unpack_state(b"".join(bytes(part) for part in pack_state(state)))


def _check_events_equal(config: RunConfig, never_left: list[Event], resumed: list[Event]) -> None:
    """Compare the rest of two runs, event by event; how long things took is left out."""
    one, other = list(_comparable_events(never_left)), list(_comparable_events(resumed))
    for mine, twin in zip(one, other, strict=False):
        assert repr(mine) == repr(twin), (
            f"{config.selection}+{config.update}+{config.intensity}: a resumed run tells {twin}, "
            f"and one never left {mine}"
        )
    assert len(one) == len(other), f"a resumed run tells {len(other)} things, not {len(one)}"


def _comparable_events(events: list[Event]) -> Iterator[Any]:
    for event in events:
        name = type(event).__name__
        if isinstance(event, StepBlock):
            yield name, event.rows.tolist()
        elif name not in ("PhaseEvent", "ViewEvent"):
            yield event


def _check_states_equal(place: str, mine: Any, twin: Any) -> None:
    """Compare two states, down to the bits."""
    if place == "run.phases":  # how long things took
        return
    if isinstance(mine, dict) and isinstance(twin, dict):
        assert mine.keys() == twin.keys(), f"{place} has other parts: {mine.keys() ^ twin.keys()}"
        for name in mine:
            _check_states_equal(f"{place}.{name}", mine[name], twin[name])
    elif isinstance(mine, np.ndarray) and isinstance(twin, np.ndarray):
        same = mine.dtype == twin.dtype and mine.shape == twin.shape
        assert same, f"{place} is {twin.dtype}{twin.shape}, not {mine.dtype}{mine.shape}"
        assert mine.tobytes() == twin.tobytes(), f"{place} is not the same in a resumed run"
    else:
        assert mine == twin, f"{place} is {twin} in a resumed run, and not {mine}"
