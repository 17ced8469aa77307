"""State of a run, built from its events: tables, and the latest of all other events."""

from __future__ import annotations

from dataclasses import replace

from effcore.knobs import KnobState
from effcore.records import (
    EVAL_COLUMNS,
    PHASE_COLUMNS,
    STEP_COLUMNS,
    EpochDrawEvent,
    EvalEvent,
    Event,
    KnobChange,
    LossHistogram,
    PhaseEvent,
    RunEnd,
    RunStart,
    Snapshot,
    StepBlock,
    StepEvent,
    ViewEvent,
)
from effcore.records.append_only_table import AppendOnlyTable


class RunState:
    """State of a run; the training thread applies events, and any thread may read.

    Args:
        knobs: The run's knobs and their initial values.
    """

    def __init__(self, knobs: KnobState) -> None:
        self.knobs = knobs
        self.steps = AppendOnlyTable(len(STEP_COLUMNS))
        self.evals = AppendOnlyTable(len(EVAL_COLUMNS), 64)
        self.phases = AppendOnlyTable(len(PHASE_COLUMNS))
        self.changes: tuple[KnobChange, ...] = ()
        self.epoch_draws: tuple[EpochDrawEvent, ...] = ()
        self.start: RunStart | None = None
        self.end: RunEnd | None = None
        self.histogram: LossHistogram | None = None
        self.view: ViewEvent | None = None
        self.progress = 0.0

    def restore_from_snapshot(self, snapshot: Snapshot) -> None:
        """Restore the state of an interrupted run."""
        self.knobs = replace(self.knobs, values=dict(snapshot.knobs))
        self.steps.extend(snapshot.steps)
        self.evals.extend(snapshot.evals)
        self.phases.extend(snapshot.phases)
        self.changes, self.epoch_draws, self.start = (
            snapshot.changes,
            snapshot.epoch_draws,
            snapshot.start,
        )
        self.histogram, self.view, self.progress = (
            snapshot.histogram,
            snapshot.view,
            snapshot.progress,
        )

    def apply_event(self, event: Event) -> None:
        """Update the state with an event."""
        match event:
            case StepEvent():
                self.progress = event.progress
            case StepBlock():
                self.steps.extend(event.rows)
            case EvalEvent():
                self.evals.append(*event)
            case PhaseEvent():
                self.phases.append(event.seconds, *event.spent)
            case KnobChange():
                self.changes = (*self.changes, event)
                self.knobs = self.knobs.with_value(event.name, event.value)
            case EpochDrawEvent():
                self.epoch_draws = (event,)
            case LossHistogram():
                self.histogram = event
            case ViewEvent():
                self.view = event
            case RunStart():
                self.start = event
            case RunEnd():
                self.end = event
