"""Where the time of a run goes: seconds by phase of a step, without waiting for the device.

On a CPU a phase ends where the next begins. On a GPU the host runs ahead, so events are put
into the stream between the phases and read once the device has passed them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

import torch

from effcore.events import PHASES, PhaseEvent

DATA, SELECTION, FORWARD, BACKWARD, OPTIMIZER, EVALUATION = range(len(PHASES))
#: What is none of these: reports, pictures, and whoever holds the run between two steps.
OTHER: Final = len(PHASES)


class PhaseClock(Protocol):
    """Seconds spent in each phase so far."""

    def enter(self, phase: int) -> int:
        """End the phase that was on, begin another; returns the one that was on."""

    def read(self) -> PhaseEvent:
        """Return what was spent so far, and the run clock's time of it."""


class HostPhaseClock:
    """Seconds spent in each phase so far, by the host's clock.

    Args:
        clock: The run clock, s.
        now: Monotonic seconds.
    """

    def __init__(
        self, clock: Callable[[], float], now: Callable[[], float] = time.perf_counter
    ) -> None:
        self._clock, self._now = clock, now
        self._spent = [0.0] * (len(PHASES) + 1)
        self._phase, self._since = OTHER, now()

    def enter(self, phase: int) -> int:
        """End the phase that was on, begin another; returns the one that was on."""
        now, before = self._now(), self._phase
        self._spent[before] += now - self._since
        self._phase, self._since = phase, now
        return before

    def read(self) -> PhaseEvent:
        """Return what was spent so far, and the run clock's time of it."""
        self.enter(self._phase)
        return PhaseEvent(self._clock(), tuple(self._spent[:OTHER]))


class DevicePhaseClock:
    """Seconds spent in each phase so far, by events in the device's stream; never waits.

    Args:
        clock: The run clock, s.
        event: Makes an event that can be recorded in a stream, asked whether it has passed,
            and how many milliseconds before another it did.
        stream: Returns the device's stream.
    """

    def __init__(
        self, clock: Callable[[], float], event: Callable[[], Any], stream: Callable[[], Any]
    ) -> None:
        self._clock, self._event, self._stream = clock, event, stream
        self._spent = [0.0] * (len(PHASES) + 1)
        self._phase = OTHER
        self._marks: deque[tuple[int, Any]] = deque()
        self._at = 0.0  # the run clock when the device was last known to have passed a mark

    def enter(self, phase: int) -> int:
        """End the phase that was on, begin another; returns the one that was on."""
        before, self._phase = self._phase, phase
        mark = self._event()
        mark.record(self._stream())
        self._marks.append((phase, mark))
        return before

    def read(self) -> PhaseEvent:
        """Return what the device has passed so far, and when that was asked."""
        while len(self._marks) > 1 and self._marks[1][1].query():
            phase, begun = self._marks.popleft()
            self._spent[phase] += begun.elapsed_time(self._marks[0][1]) / 1000.0
            self._at = self._clock()
        return PhaseEvent(self._at, tuple(self._spent[:OTHER]))


def phase_clock(device: torch.device, clock: Callable[[], float]) -> PhaseClock:
    """Return the clock that sees what a device does."""
    if device.type == "cuda":
        make = partial(torch.cuda.Event, enable_timing=True)
        return DevicePhaseClock(clock, make, partial(torch.cuda.current_stream, device))
    return HostPhaseClock(clock)
