"""A run in a thread, which any thread of the process can start, steer and watch.

A run belongs to the process, not to a browser tab. Pages, the live stream and the command line
share one :class:`~effcore.runs.manager.RunManager`, which trains one run per device at a time. If
the store cannot be written, rows stay queued and are retried, and the run shows a warning
meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from effcore.config import ConfigError
from effcore.energy.idle_power import IdlePowerReader
from effcore.energy.meter import RunMeter
from effcore.energy.run_energy import RunEnergy
from effcore.knobs import Controls, KnobSpec, KnobState
from effcore.policies.combination import knobs_of_policies, policies_of
from effcore.records import (
    EVAL_COLUMNS,
    PHASE_COLUMNS,
    STEP_COLUMNS,
    Energy,
    EpochDrawEvent,
    EvalEvent,
    Event,
    KnobChange,
    KnobValue,
    LossHistogram,
    PhaseEvent,
    RunConfig,
    RunEnd,
    RunStart,
    RunStatus,
    Snapshot,
    StepBlock,
    StepEvent,
    ViewEvent,
)
from effcore.records.append_only_table import AppendOnlyTable
from effcore.records.attribution import ATTRIBUTION_PENDING, PhaseAttribution
from effcore.records.resume_history import ResumeHistory
from effcore.records.run_clock import RunClock
from effcore.records.run_description import RunDescription
from effcore.runs.descriptions import describe_config
from effcore.runs.reproduce import reproduce_command
from effcore.runs.resume import CheckpointSchedule, ResumePoint
from effcore.runs.summary import failed_run_end
from effcore.store import RunWriter, StoreError
from effcore.training.checkpoint import Checkpoint, CheckpointError
from effcore.training.trainer import Training, train
from effcore.training.warmup import load_task_once

log = logging.getLogger(__name__)


# Storing ----------------------------------------------------------------------------------


class FaultTolerantWriter:
    """Writes one run to the store; never raises into training.

    Args:
        writer: Writer of the open run.
        power_rows_written: Number of rows that the stored power table has already.

    Attributes:
        warning: Why the run is not being stored at present; empty if it is.
    """

    def __init__(self, writer: RunWriter, power_rows_written: int = 0) -> None:
        self.warning = ""
        self._writer = writer
        self._power_rows_written = power_rows_written
        self._exploratory = False

    @contextmanager
    def _store_failure_as_warning(self, *, clears_warning: bool = False) -> Iterator[None]:
        """Record a store failure as a warning; clear it after a successful write.

        Most calls only queue, which does not touch the disk: they keep a warning unchanged.
        """
        try:
            yield
        except (StoreError, OSError) as error:
            if not self.warning:
                log.error("run %s is not being stored: %s", self._writer.run_id, error)
            self.warning = f"This run is not being stored at present: {error}"
        else:
            if clears_warning:
                self.warning = ""

    def write_event(self, event: Event) -> None:
        """Queue an event; a failure of the last flush becomes the warning."""
        with self._store_failure_as_warning(clears_warning=not isinstance(event, StepEvent)):
            self._writer.write_event(event)

    def queue_knob_values(self, values: Mapping[str, KnobValue | None]) -> None:
        """Queue the current knob values."""
        with self._store_failure_as_warning():
            self._writer.queue_knob_values(values)

    def queue_power_and_energy(self, run_energy: RunEnergy) -> None:
        """Queue the power rows since the last call, and the energy so far."""
        rows, row_count = run_energy.power_rows_since(self._power_rows_written)
        if row_count > self._power_rows_written:
            with self._store_failure_as_warning():
                self._writer.queue_power_rows(rows)
                self._writer.queue_energy(run_energy.energy())
            self._power_rows_written = row_count

    def queue_resume_history(self, resumed: ResumeHistory) -> None:
        """Queue the resume history of a run that continues."""
        with self._store_failure_as_warning():
            self._writer.queue_resume_history(resumed)

    def queue_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Queue the training state, from which an interrupted run can continue."""
        with self._store_failure_as_warning():
            self._writer.queue_checkpoint(checkpoint)

    def close_unfinished(self) -> None:
        """Close the run without an end; it stays interrupted."""
        with self._store_failure_as_warning():
            self._writer.close()

    def mark_exploratory(self) -> None:
        """Record that the run was steered or slowed."""
        if not self._exploratory:
            self._exploratory = True
            with self._store_failure_as_warning():
                self._writer.mark_exploratory()

    def set_status(self, status: RunStatus) -> None:
        """Record that the run is running or paused, and flush."""
        with self._store_failure_as_warning(clears_warning=True):
            self._writer.set_status(status)

    def finish(self, end: RunEnd, energy: Energy, attribution: PhaseAttribution) -> None:
        """Record the run's end; nothing can be written afterwards."""
        with self._store_failure_as_warning():
            self._writer.finish(end, energy, attribution)


# State ------------------------------------------------------------------------------------


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


# The run ----------------------------------------------------------------------------------


PACES = ("full", "slow", "step")
#: Seconds between steps at the slow pace, slow enough to watch each step.
SLOW_STEP_DELAY_S = 0.25
#: Longest wait for the thread of an ended run, which also starts the next run.
_THREAD_JOIN_TIMEOUT_S = 10.0


class Run:
    """One training run in a thread of its own; every method may be called from any thread.

    Args:
        run_id: Id of the run.
        config: Configuration of the run.
        open_writer: Opens the stored run when training starts; raises ``StoreError``.
        reference_id: Id of full training of the same seed to compare with.
        on_end: Called in the run's thread once it has ended.
        resume_point: Where to continue an interrupted run; ``None`` for a new one.
        idle_power: Reader of idle power between runs, which this run cancels.
    """

    def __init__(
        self,
        run_id: str,
        config: RunConfig,
        open_writer: Callable[[], RunWriter],
        reference_id: str | None = None,
        on_end: Callable[[Run], None] = lambda run: None,
        resume_point: ResumePoint | None = None,
        idle_power: IdlePowerReader | None = None,
    ) -> None:
        self.run_id = run_id
        self.config = config
        self.reference_id = reference_id
        self.pace = "full"
        self.done = threading.Event()
        self.started = False
        self.unexpected_error: Exception | None = None  # a failure outside of the trainer
        self._open_writer = open_writer
        self._on_end = on_end
        self._controls = Controls()
        self._pause_condition = threading.Condition()
        self._paused = False
        self._steps_allowed = self._previewed_version = 0
        self._created_unix = time.time()
        self._status = RunStatus.QUEUED
        self._exploratory = bool(config.changes)
        self._state = RunState(KnobState(self.knob_specs(), config.knobs))
        self._reason = ""
        self._clock = RunClock()
        self.meter = RunMeter(None, self._clock, "the run has not started")
        self.run_energy = RunEnergy(self.meter, self._clock)
        self._attribution = ATTRIBUTION_PENDING
        self._checkpoint_schedule = CheckpointSchedule(config)
        self._resume_point, self._has_continued = resume_point, resume_point is None
        self._idle_power = idle_power
        if resume_point is not None:
            self._state.restore_from_snapshot(resume_point.snapshot_at_checkpoint)
            self._created_unix, self._exploratory = (
                resume_point.snapshot_at_checkpoint.created_unix,
                resume_point.snapshot_at_checkpoint.exploratory,
            )
        self._writer_if_started: FaultTolerantWriter | None = None  # set when the thread starts
        self._thread = threading.Thread(target=self._run_thread, name=f"run-{run_id}", daemon=True)

    # For viewers -------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """Return an immutable snapshot of the run, in microseconds."""
        power, row_count = self.run_energy.power_rows_since(0)
        state = self._state
        return Snapshot(
            run_id=self.run_id,
            config=self.config,
            status=self._status,
            created_unix=self._created_unix,
            power=power,
            power_left_out=row_count - power.shape[1],
            energy=self.run_energy.energy(),
            exploratory=self._exploratory,
            reference_id=self.reference_id,
            reason=self._status_reason(),
            attribution=self._attribution,
            resumed=self._resume_history,
            start=state.start,
            end=state.end,
            progress=state.progress,
            changes=state.changes,
            epoch_draws=state.epoch_draws,
            histogram=state.histogram,
            view=state.view,
            knobs=dict(state.knobs.values),
            steps=state.steps.view(),
            evals=state.evals.view(),
            phases=state.phases.view(),
        )

    def _status_reason(self) -> str:
        """Return why the run ended, that it was resumed, and why it is not stored, as applies."""
        warning = self._writer_if_started.warning if self._writer_if_started else ""
        texts = (self._reason, self._resume_history.description(), warning)
        return ". ".join(text for text in texts if text)

    @property
    def _resume_history(self) -> ResumeHistory:
        return (
            self._resume_point.resume_history
            if self._resume_point is not None and self._has_continued
            else ResumeHistory()
        )

    def knob_specs(self) -> tuple[KnobSpec, ...]:
        """Return the knobs that can be changed during training."""
        return knobs_of_policies(policies_of(self.config))

    def reproduction_command(self) -> str:
        """Return the command line that reproduces the run, knob changes included."""
        return reproduce_command(self.snapshot())

    def description(self) -> RunDescription:
        """Return the titles and labels of the run."""
        return describe_config(self.config)

    # Controls ------------------------------------------------------------------------

    def set_knob(self, name: str, value: object) -> int:
        """Request a knob value from the next batch on; return the request's version.

        Raises:
            KnobError: There is no such knob, or the value is out of range.
            RuntimeError: The run has ended.
        """
        self._refuse_if_ended()
        number = self._state.knobs.validate(name, value)
        self._exploratory = True
        version = self._controls.request_value(name, number)
        if self._paused:
            with self._pause_condition:
                self._pause_condition.notify_all()
        return version

    def pause(self) -> None:
        """Pause the run after the current step."""
        self._refuse_if_ended()
        with self._pause_condition:
            self._set_pause_and_pace(paused=True, pace=self.pace)

    def resume(self) -> None:
        """Continue after a pause; after single steps, at full speed."""
        self._refuse_if_ended()
        with self._pause_condition:
            self._set_pause_and_pace(
                paused=False, pace="full" if self.pace == "step" else self.pace
            )
            self._pause_condition.notify_all()

    def step_once(self) -> None:
        """Take one step and pause again."""
        self._refuse_if_ended()
        self._exploratory = True
        with self._pause_condition:
            steps_allowed = self._steps_allowed + 1
            self._set_pause_and_pace(paused=True, pace=self.pace)
            self._steps_allowed = steps_allowed
            self._pause_condition.notify_all()

    def set_pace(self, pace: str) -> None:
        """Train at full speed, slowly, or one step at a time.

        Raises:
            ValueError: The pace is not one of ``PACES``.
        """
        if pace not in PACES:
            raise ValueError(f"pace={pace!r} is not allowed: choose one of {', '.join(PACES)}")
        self._refuse_if_ended()
        if pace != "full":
            self._exploratory = True
        with self._pause_condition:
            self._set_pause_and_pace(paused=pace == "step", pace=pace)
            self._pause_condition.notify_all()

    def stop(self) -> None:
        """End the run after the current step and keep it; a queued run leaves the queue."""
        self.cancel("removed from the queue")
        self._controls.request_stop()
        with self._pause_condition:
            self._pause_condition.notify_all()

    @property
    def stop_requested(self) -> bool:
        """Whether a stop was requested."""
        return self._controls.stop_requested

    def _refuse_if_ended(self) -> None:
        if self._status.is_final:
            raise RuntimeError(f"the run is {self._status}: start a new one to steer it")

    def _set_pause_and_pace(self, *, paused: bool, pace: str) -> None:
        self._paused, self.pace, self._steps_allowed = paused, pace, 0
        self._controls.report_each_step = paused or pace != "full"

    # The thread ----------------------------------------------------------------------

    def start(self) -> None:
        """Start the training thread.

        Raises:
            StoreError: The run cannot be stored, so it does not start.
        """
        with self._pause_condition:
            if self.done.is_set():  # removed from the queue meanwhile
                return
            self.started = True
        try:
            power_rows = (
                self._resume_point.snapshot_at_checkpoint.power.shape[1]
                if self._resume_point is not None
                else 0
            )
            self._writer_if_started = FaultTolerantWriter(self._open_writer(), power_rows)
        except StoreError:
            self.started = False
            raise
        self._status = RunStatus.RUNNING
        self._thread.start()

    def cancel(self, reason: str, status: RunStatus = RunStatus.STOPPED) -> None:
        """End a run that has not started; do nothing if it has."""
        with self._pause_condition:
            if not self.started:
                self._status, self._reason = status, reason
                self.done.set()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the run's end; return whether it has ended.

        This also waits for the thread to free its tensors, since C++ aborts a program that exits
        meanwhile.
        """
        ended = self.done.wait(timeout)
        if ended and self._thread.ident not in (None, threading.get_ident()):
            self._thread.join(_THREAD_JOIN_TIMEOUT_S)
        return ended

    @property
    def _writer(self) -> FaultTolerantWriter:
        assert self._writer_if_started is not None, (
            "start() sets the writer before the thread trains"
        )
        return self._writer_if_started

    def _run_thread(self) -> None:
        try:
            self._consume_events(self._prepare_training())
        except ConfigError as error:  # a configuration error that only training can detect
            self._state.end = self._failed_run_end(str(error))
        except CheckpointError as error:
            self._reason = f"It could not be resumed: {error}"
        except Exception as error:
            log.exception("run %s failed", self.run_id)
            self.unexpected_error = error
            self._state.end = self._failed_run_end(f"{type(error).__name__}: {error}")
        if self._has_continued:
            self._finish_run()
        else:
            self._abandon_failed_resume()

    def _prepare_training(self) -> Training:
        """Start the clock and the meter; return the training, which starts when iterated."""
        checkpoint, recorded = (
            (p.checkpoint, p.recorded_energy) if (p := self._resume_point) else (None, None)
        )
        self._clock = RunClock(checkpoint.seconds if checkpoint is not None else 0.0)
        idle = self._idle_power.cancel_reading(self.config.device) if self._idle_power else None
        self._clock.pause()  # opening meters and loading data are not counted in the run's time
        self.meter = RunMeter.open(self.config.device, self._clock, phases=True)
        self.run_energy = RunEnergy(self.meter, self._clock, recorded, idle)
        self._controls.record_phase_starts = self.run_energy.needs_phase_marks
        load_task_once(self.config.task)  # after the meter is open, so that pages can show it
        self._clock.resume()
        self.meter.start()
        return train(self.config, self._controls, self._clock, checkpoint)

    def _consume_events(self, training: Training) -> None:
        for event in training:
            self._handle_event(event)
            # Only without pending steps, so that a kill during a pause loses none.
            if isinstance(event, StepEvent) and event.pending == 0:
                if (
                    checkpoint := self._checkpoint_schedule.checkpoint_if_due(training)
                ) is not None:
                    self._writer.queue_checkpoint(checkpoint)
                self._wait_if_paused_or_slow(training)

    def _handle_event(self, event: Event) -> None:
        if self._resume_point is not None and not self._has_continued:
            self._has_continued = True
            self._writer.queue_resume_history(self._resume_point.resume_history)
        self._state.apply_event(event)
        if isinstance(event, StepEvent):
            self._writer.write_event(event)  # records the progress, for a run that is killed
            return
        self.run_energy.on_event(event)
        self._store_event(event)

    def _store_event(self, event: Event) -> None:
        self._writer.write_event(event)
        if isinstance(event, KnobChange):
            self._writer.queue_knob_values(self._state.knobs.values)
        if self._exploratory:
            self._writer.mark_exploratory()
        self._writer.queue_power_and_energy(self.run_energy)

    def _wait_if_paused_or_slow(self, training: Training) -> None:
        if not self._paused and self.pace != "slow":  # the common case: two attribute reads
            return
        with self.run_energy.pause_metering():
            if self.pace == "slow" and not self._paused:
                with self._pause_condition:
                    self._pause_condition.wait_for(
                        self._may_end_slow_delay, timeout=SLOW_STEP_DELAY_S
                    )
            if self._paused and not self._may_continue():
                self._set_status(
                    RunStatus.PAUSED
                )  # without the condition: it may wait for the store
                self._preview_knobs_while_paused(training)
                self._set_status(RunStatus.RUNNING)
            with self._pause_condition:
                self._steps_allowed = max(0, self._steps_allowed - 1)

    def _preview_knobs_while_paused(self, training: Training) -> None:
        """Wait for the end of a pause; meanwhile preview the effect of knob changes."""
        self._previewed_version = self._controls.version
        while True:
            with self._pause_condition:
                self._pause_condition.wait_for(self._may_continue_or_preview)
            if self._may_continue():
                return
            self._previewed_version = self._controls.version
            self._state.histogram = training.preview()

    def _may_continue_or_preview(self) -> bool:
        return self._may_continue() or self._controls.version != self._previewed_version

    def _may_end_slow_delay(self) -> bool:
        return self._paused or self._controls.stop_requested or self.pace == "full"

    def _may_continue(self) -> bool:
        return not self._paused or self._steps_allowed > 0 or self._controls.stop_requested

    def _set_status(self, status: RunStatus) -> None:
        self._status = status
        self._writer.set_status(status)

    def _failed_run_end(self, reason: str) -> RunEnd:
        state = self._state
        return failed_run_end(self.config, state.start, state.steps.view(), self._clock(), reason)

    def _abandon_failed_resume(self) -> None:
        """End a run that could not be resumed; its stored record stays unchanged."""
        self.run_energy.stop()
        self._writer.close_unfinished()
        self._status = RunStatus.INTERRUPTED
        self.done.set()
        self._on_end(self)

    def _finish_run(self) -> None:
        end = self._state.end
        assert end is not None, "training ends with a RunEnd, or a failure made one"
        self._reason = end.reason
        try:
            if end.status is RunStatus.FINISHED:  # a stopped run should end at once
                self.run_energy.meter_idle_after_run()
            energy, self._attribution = self.run_energy.stop()
            self._store_event(end)
            self._writer.finish(end, energy, self._attribution)
        finally:
            if end.status is RunStatus.FINISHED:
                self._state.progress = 1.0
            self._status = end.status
            self.done.set()
            self._on_end(self)
