"""Read-only run from the store, with the interface of a live run."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

from effcore.knobs import KnobSpec
from effcore.policies.combination import knobs_of_policies, policies_of
from effcore.records import Snapshot
from effcore.records.run_description import RunDescription
from effcore.runs.descriptions import describe_config
from effcore.runs.reproduce import reproduce_command
from effcore.store import Store, StoreError

_REFERENCE_CHECK_INTERVAL_S = 2.0


class StoredRun:
    """A run read from the store: finished, interrupted, or training in another process."""

    pace = "full"

    def __init__(self, store: Store, run_id: str) -> None:
        self.run_id = run_id
        self._store = store
        self._snapshot = store.load_snapshot(run_id)
        self._loaded_at = time.monotonic()
        self._has_reference = False
        self._find_reference()

    def snapshot(self) -> Snapshot:
        """Return the stored run; while it has not ended, it is read again once a second.

        After its end, its reference is searched until there is one.
        """
        age = time.monotonic() - self._loaded_at
        if not self._snapshot.status.is_final and age > 1.0:
            self._snapshot = self._store.load_snapshot(self.run_id)
            self._loaded_at = time.monotonic()
        if (
            self._snapshot.end is not None
            and not self._has_reference
            and (age > _REFERENCE_CHECK_INTERVAL_S)
        ):
            self._find_reference()
        return self._snapshot

    def _find_reference(self) -> None:
        self._loaded_at = time.monotonic()
        with contextlib.suppress(StoreError):  # the run can be shown without it
            references = self._store.references_of([self._store.summary(self.run_id)])
            if (reference := references.get(self.run_id)) is not None:
                self._snapshot = replace(self._snapshot, reference_id=reference.run_id)
                self._has_reference = True

    def knob_specs(self) -> tuple[KnobSpec, ...]:
        """Return the run's knobs."""
        return knobs_of_policies(policies_of(self._snapshot.config))

    def reproduction_command(self) -> str:
        """Return the command line that reproduces the run."""
        return reproduce_command(self._snapshot)

    def description(self) -> RunDescription:
        """Return the titles and labels of the run."""
        return describe_config(self._snapshot.config)

    def _refuse_steering(self) -> None:
        status = self.snapshot().status
        reason = "has ended" if status.is_final else "trains in another process"
        raise RuntimeError(f"run {self.run_id} {reason} and cannot be steered from here")

    def set_knob(self, name: str, value: object) -> int:
        """Raise ``RuntimeError``: a stored run cannot be steered."""
        self._refuse_steering()
        return 0

    def pause(self) -> None:
        """Raise ``RuntimeError``: a stored run cannot be steered."""
        self._refuse_steering()

    resume = step_once = stop = pause

    def set_pace(self, pace: str) -> None:
        """Raise ``RuntimeError``: a stored run cannot be steered."""
        self._refuse_steering()
