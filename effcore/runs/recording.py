"""A run's record, which may fail while the run goes on.

Training is worth more than its record: where the store cannot be written, what is to be
written stays queued and is tried again, and the run says so meanwhile.
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


class Recording:
    """Writes one run to the store; never raises into training.

    Args:
        writer: The open run in the store.
        power_rows: Rows of the power table that it has already.

    Attributes:
        warning: Why the run is not being stored just now; empty where it is.
    """

    def __init__(self, writer: RunWriter, power_rows: int = 0) -> None:
        self.warning = ""
        self._writer = writer
        self._power_rows = power_rows
        self._exploratory = False

    @contextmanager
    def _forgiven(self, *, proves: bool = False) -> Iterator[None]:
        """Note a failure; forget it after something that ``proves`` the store to work.

        Most calls only queue, which says nothing about the disk.
        """
        try:
            yield
        except (StoreError, OSError) as error:
            if not self.warning:
                log.error("run %s is not being stored: %s", self._writer.run_id, error)
            self.warning = f"This run is not being stored at present: {error}"
        else:
            if proves:
                self.warning = ""

    def write(self, event: Event) -> None:
        """Queue an event; what an earlier one could not be written for is said here."""
        with self._forgiven(proves=not isinstance(event, StepEvent)):
            self._writer.write(event)

    def knobs(self, values: Mapping[str, KnobValue | None]) -> None:
        """Note the knob values in force."""
        with self._forgiven():
            self._writer.knobs(values)

    def power(self, metered: RunEnergy) -> None:
        """Note the rows since the last call, and the energy so far."""
        rows, ever = metered.power_rows_since(self._power_rows)
        if ever > self._power_rows:
            with self._forgiven():
                self._writer.power(rows)
                self._writer.energy(metered.energy())
            self._power_rows = ever

    def resumed(self, resumed: ResumeHistory) -> None:
        """Note that the run goes on after an interruption."""
        with self._forgiven():
            self._writer.resumed(resumed)

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """Note the state of the training, from which it can go on after an interruption."""
        with self._forgiven():
            self._writer.checkpoint(checkpoint)

    def leave(self) -> None:
        """Let the run go without an end; it stays interrupted."""
        with self._forgiven():
            self._writer.close()

    def exploratory(self) -> None:
        """Note that the run was steered or slowed."""
        if not self._exploratory:
            self._exploratory = True
            with self._forgiven():
                self._writer.mark_exploratory()

    def status(self, status: RunStatus) -> None:
        """Note whether the run is held, and flush."""
        with self._forgiven(proves=True):
            self._writer.status(status)

    def finish(self, end: RunEnd, energy: Energy, attribution: PhaseAttribution) -> None:
        """Note the run's end; nothing can be written after."""
        with self._forgiven():
            self._writer.finish(end, energy, attribution)
