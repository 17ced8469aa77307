"""A run's clock: one for steps, evaluations and power, so that they align."""

from __future__ import annotations

import time


class RunClock:
    """Seconds a run has spent running: stands still while it is held.

    Args:
        begin_s: Where it begins, for a run that was interrupted.
    """

    def __init__(self, begin_s: float = 0.0) -> None:
        # Origin and, while held, the time it was held at: one tuple, so no torn read.
        self._state: tuple[float, float | None] = (time.monotonic() - begin_s, None)

    def __call__(self) -> float:
        """Return the run time in seconds."""
        origin, held = self._state
        return (time.monotonic() if held is None else held) - origin

    def pause(self) -> None:
        """Stop counting."""
        origin, held = self._state
        if held is None:
            self._state = (origin, time.monotonic())

    def resume(self) -> None:
        """Count again, leaving out the time since :meth:`pause`."""
        origin, held = self._state
        if held is not None:
            self._state = (origin + time.monotonic() - held, None)
