"""Interfaces of the live stream to live and stored runs."""

from __future__ import annotations

from typing import Protocol

from effcore.knobs import KnobSpec
from effcore.records import Snapshot
from effcore.records.run_description import RunDescription


class LiveRun(Protocol):
    """A live or stored run; methods may be called from any thread."""

    run_id: str
    pace: str

    def snapshot(self) -> Snapshot:
        """Return an immutable snapshot of the run, cheaply."""
        ...

    def knob_specs(self) -> tuple[KnobSpec, ...]:
        """Return the knobs that can be changed."""
        ...

    def set_knob(self, name: str, value: object) -> int:
        """Request a knob value; return the request's version."""
        ...

    def pause(self) -> None:
        """Pause after the current step."""
        ...

    def resume(self) -> None:
        """Continue after a pause."""
        ...

    def step_once(self) -> None:
        """Take one step and pause."""
        ...

    def stop(self) -> None:
        """End the run after the current step."""
        ...

    def set_pace(self, pace: str) -> None:
        """Train at ``full`` speed, ``slow`` or one ``step`` at a time."""
        ...

    def reproduction_command(self) -> str:
        """Return the command line that reproduces the run."""
        ...

    def description(self) -> RunDescription:
        """Return the titles and labels of the run."""
        ...


class RunProvider(Protocol):
    """Finds runs for the live stream."""

    def find_run(self, run_id: str) -> LiveRun | None:
        """Return a live or stored run; ``None`` if there is none with that id."""
        ...

    def active_run(self) -> LiveRun | None:
        """Return the run that is training now."""
        ...
