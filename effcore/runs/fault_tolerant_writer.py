"""Writer of a run that keeps training when the store fails.

If the store cannot be written, rows stay queued and are retried, and the run shows a warning
meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from effcore.energy.run_energy import RunEnergy
from effcore.records import Energy, Event, KnobValue, RunEnd, RunStatus, StepEvent
from effcore.records.attribution import PhaseAttribution
from effcore.records.resume_history import ResumeHistory
from effcore.store import RunWriter, StoreError
from effcore.training.checkpoint import Checkpoint

log = logging.getLogger(__name__)


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
