"""What the live stream asks of a run, whether it trains here or lies in the store."""

from __future__ import annotations

from typing import Protocol

from effcore.knobs import KnobSpec
from effcore.records import Snapshot
from effcore.records.run_description import RunDescription


class LiveRun(Protocol):
    """A run as the stream needs it; methods may be called from any thread."""

    run_id: str
    pace: str

    def snapshot(self) -> Snapshot:
        """Return an immutable look at the run, cheaply."""
        ...

    def knob_specs(self) -> tuple[KnobSpec, ...]:
        """Return the knobs that can be moved."""
        ...

    def set_knob(self, name: str, value: object) -> int:
        """Ask for a knob's value; return the request's version."""
        ...

    def pause(self) -> None:
        """Hold after the current step."""
        ...

    def resume(self) -> None:
        """Go on."""
        ...

    def step_once(self) -> None:
        """Take one step and hold."""
        ...

    def stop(self) -> None:
        """End the run after the current step."""
        ...

    def set_pace(self, pace: str) -> None:
        """Train at ``full`` speed, ``slow`` or one ``step`` at a time."""
        ...

    def reproduction_command(self) -> str:
        """Return the command line that repeats the run."""
        ...

    def description(self) -> RunDescription:
        """Return the titles and labels of the run."""
        ...


class RunProvider(Protocol):
    """Where runs are found."""

    def find_run(self, run_id: str) -> LiveRun | None:
        """Return a run, live or stored; ``None`` where there is none of that id."""
        ...

    def active_run(self) -> LiveRun | None:
        """Return the run that is training now."""
        ...
