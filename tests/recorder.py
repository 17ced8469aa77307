"""A run whose writer is in memory and lets a test wait for what the run does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

from effcore.records import Energy, Event, RunConfig, RunEnd, RunStatus, StepEvent
from effcore.records.attribution import PhaseAttribution
from effcore.records.resume_history import ResumeHistory
from effcore.runs.run import Run
from effcore.store import RunWriter, StoreError
from effcore.training.checkpoint import Checkpoint

PATIENCE_S = 30.0
RUN_ID = "20261123-224501-k3f9"


class Recorder:
    """A writer in memory that lets a test wait for what a run does."""

    run_id = RUN_ID

    def __init__(self, fail_at: int | None = None) -> None:
        self.events: list[Event] = []
        self.statuses: list[RunStatus] = []
        self.knob_values: list[dict[str, Any]] = []
        self.exploratory = False
        self.finished: tuple[RunEnd, Energy] | None = None
        self.attribution: PhaseAttribution | None = None
        self.closed = 0
        self.checkpoints: list[Checkpoint] = []
        self.fail_at = fail_at
        self._changed = threading.Condition()

    def write_event(self, event: Event) -> None:
        if isinstance(event, StepEvent):  # as the real writer, which keeps only its progress
            return
        with self._changed:
            if self.fail_at is not None and len(self.events) >= self.fail_at:
                raise StoreError("the disk is full: make room")
            self.events.append(event)
            self._changed.notify_all()

    def set_status(self, status: RunStatus) -> None:
        with self._changed:
            self.statuses.append(status)
            self._changed.notify_all()

    def queue_knob_values(self, values: dict[str, Any]) -> None:
        self.knob_values.append(values)

    def queue_power_rows(self, rows: Any) -> None:
        assert rows.shape[0] == 7

    def queue_energy(self, energy: Energy) -> None:
        assert energy.quality is not None

    def queue_resume_history(self, resumed: ResumeHistory) -> None:
        assert resumed.steps

    def queue_checkpoint(self, checkpoint: Checkpoint) -> None:
        self.checkpoints.append(checkpoint)

    def flush(self) -> None:
        return None

    def mark_exploratory(self) -> None:
        self.exploratory = True

    def finish(
        self, end: RunEnd, energy: Energy, attribution: PhaseAttribution | None = None
    ) -> None:
        self.finished = (end, energy)
        self.attribution = attribution

    def close(self) -> None:
        self.closed += 1

    def wait(self, ready: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(ready, PATIENCE_S), "the run did not get there"

    def wait_held(self, times: int) -> None:
        self.wait(lambda: self.statuses.count(RunStatus.PAUSED) == times)


class Started:
    """A run with its recorder; stopped at the end of the block whatever happened."""

    def __init__(self, config: RunConfig, pace: str = "full", recorder: Recorder | None = None):
        self.recorder = recorder or Recorder()
        self.ended: list[Run] = []
        self.run = Run(RUN_ID, config, self._open, on_end=self.ended.append)
        if pace != "full":
            self.run.set_pace(pace)

    def _open(self) -> RunWriter:
        return cast(RunWriter, self.recorder)

    def __enter__(self) -> tuple[Run, Recorder]:
        self.run.start()
        return self.run, self.recorder

    def __exit__(self, *_: object) -> None:
        self.run.stop()
        assert self.run.join(PATIENCE_S)
