"""Short runs of the tiny task, for the tests that need one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from hypothesis import strategies as st

from effcore.config import resolve
from effcore.knobs import Controls
from effcore.records import (
    STEP_COLUMNS,
    Event,
    FloatArray,
    KnobChange,
    KnobValue,
    RunConfig,
    RunEnd,
    StepBlock,
    StepEvent,
)
from effcore.records.settings import Settings
from effcore.training.trainer import train

E = TypeVar("E")

_CUTS = st.tuples(st.just("mass"), st.floats(0, 0.95)) | st.tuples(
    st.just("loss_threshold"), st.floats(1e-6, 10)
)
_VALUES = _CUTS | st.tuples(st.just("revisit"), st.integers(1, 32))
# Steps 12 and 24 or 25 end a pass; 0 comes before the first one.
_MOMENTS = st.integers(0, 40) | st.sampled_from([0, 12, 24, 25])
#: When to move which knob where: lists of moves by hand for :func:`steered`.
WISHES = st.lists(st.tuples(_MOMENTS, _VALUES), max_size=8)

#: Settings with which a pass takes few steps, of the tasks whose passes are long.
FEW_STEPS: dict[str, dict[str, int]] = {
    "photo": {"batch_size": 1024},
    "digits": {"batch_size": 64},
    "code": {"batch_size": 32},
    "snippets": {"batch_size": 64},
    "tabular": {"rows": 2000},
}


def tiny_config(**settings: Any) -> RunConfig:
    """A configuration of the tiny task: 200 examples, 12 steps a pass and 8 carried over."""
    base: Settings = {"task": "tiny", "device": "cpu", "threads": 1, "epochs": 3}
    return resolve({**base, **settings})


def of(kind: type[E], events: Sequence[object]) -> list[E]:
    """The events of one kind."""
    return [event for event in events if isinstance(event, kind)]


def rows_of(events: Sequence[object]) -> dict[str, FloatArray]:
    """The steps of a run, by column."""
    table = np.concatenate([block.rows for block in of(StepBlock, events)], axis=1)
    return dict(zip(STEP_COLUMNS, table, strict=True))


def still() -> float:
    """A clock that stands still, so that what is shown does not depend on speed."""
    return 0.0


def trained(config: RunConfig) -> list[Event]:
    return list(train(config, clock=still))


def ended(config: RunConfig) -> RunEnd:
    *_, end = train(config, clock=still)
    assert isinstance(end, RunEnd)
    return end


def steered(
    config: RunConfig, wishes: Sequence[tuple[int, str, KnobValue]]
) -> tuple[list[KnobChange], RunEnd]:
    """Train by hand: ask for each wish as soon as the run has taken so many steps."""
    controls = Controls()
    waiting = sorted(wishes, key=lambda wish: wish[0])
    events: Iterator[Event] = train(config, controls, still)
    changes: list[KnobChange] = []
    end: RunEnd | None = None

    def ask(steps: int) -> None:
        while waiting and waiting[0][0] <= steps:
            _, name, value = waiting.pop(0)
            controls.request_value(name, value)

    ask(0)
    for event in events:
        match event:
            case StepEvent():
                ask(event.step)
            case KnobChange():
                changes.append(event)
            case RunEnd():
                end = event
    assert end is not None
    return changes, end
