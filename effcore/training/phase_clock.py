"""Seconds spent in each phase of a step, measured without waiting for the device.

On a CPU a phase ends where the next begins. On a GPU the host runs ahead, so events are
recorded in the stream between the phases and read once the device has passed them.

To attribute energy to phases, the clocks also record when each phase began, in monotonic time.
A device's events give only the time between two of them. Their time on the host's clock is
bounded: an event is passed after it was recorded in the stream, and before it was seen to be
passed. Whenever the host waits for the device anyway, as for each block of losses, these bounds
are microseconds apart, so that a drift of the device's clock is corrected without waiting.
"""

from __future__ import annotations

import math
import time
from array import array
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

import numpy as np
import torch

from effcore.records import PHASES, FloatArray, PhaseEvent
from effcore.training.checkpoint import State

DATA, SELECTION, FORWARD, BACKWARD, OPTIMIZER, EVALUATION = range(len(PHASES))
#: Time in no phase: reports, pictures, and pauses between two steps.
OUTSIDE_PHASES: Final = len(PHASES)


class PhaseClock(Protocol):
    """Seconds spent in each phase so far."""

    def enter(self, phase: int) -> int:
        """End the current phase and begin another; returns the one that ended."""

    def read(self) -> PhaseEvent:
        """Return the seconds per phase so far, and the run clock's time of that reading."""

    def state(self) -> State:
        """Return the seconds per phase at the last update."""

    def restore(self, state: State) -> None:
        """Continue from a saved state."""


class PhaseStarts:
    """Start times of phases since the last call of :meth:`take`."""

    def __init__(self) -> None:
        self._phases, self._times = array("b"), array("d")

    def add(self, phase: int, t: float) -> None:
        """Record that a phase began at ``t``, monotonic s."""
        self._phases.append(phase)
        self._times.append(t)

    def take(self) -> FloatArray:
        """Return and remove the recorded phases and start times, shape (2, n)."""
        starts = np.array([self._phases, self._times], dtype=np.float64)
        self._phases, self._times = array("b"), array("d")
        return starts


class HostPhaseClock:
    """Seconds spent in each phase so far, by the host's clock.

    Args:
        clock: The run clock, s.
        now: Returns monotonic seconds.
        record_starts: Whether to record when each phase began.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        now: Callable[[], float] = time.monotonic,
        record_starts: bool = False,
    ) -> None:
        self._clock, self._now = clock, now
        self._spent = [0.0] * (len(PHASES) + 1)
        self._phase, self._since = OUTSIDE_PHASES, now()
        self._starts = PhaseStarts() if record_starts else None

    def state(self) -> State:
        """Return the seconds per phase when the current phase began."""
        return {"spent": self._spent}

    def restore(self, state: State) -> None:
        """Continue from a saved state."""
        self._spent, self._since = list(state["spent"]), self._now()

    def enter(self, phase: int) -> int:
        """End the current phase and begin another; returns the one that ended."""
        now, before = self._now(), self._phase
        self._spent[before] += now - self._since
        self._phase, self._since = phase, now
        if self._starts is not None:
            self._starts.add(phase, now)
        return before

    def read(self) -> PhaseEvent:
        """Return the seconds per phase so far, and the run clock's time of that reading."""
        self.enter(self._phase)
        marks = self._starts.take() if self._starts is not None else None
        return PhaseEvent(self._clock(), tuple(self._spent[:OUTSIDE_PHASES]), marks)


class DevicePhaseClock:
    """Seconds spent in each phase so far, by events in the device's stream; never waits.

    Args:
        clock: The run clock, s.
        event: Makes an event with the interface of ``torch.cuda.Event``: it is recorded in a
            stream, queried whether it has passed, and gives the milliseconds to another.
        stream: Returns the device's stream.
        now: Returns monotonic seconds of the host.
        record_starts: Whether to record when each phase began.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        event: Callable[[], Any],
        stream: Callable[[], Any],
        now: Callable[[], float] = time.monotonic,
        record_starts: bool = False,
    ) -> None:
        self._clock, self._event, self._stream, self._now = clock, event, stream, now
        self._spent = [0.0] * (len(PHASES) + 1)
        self._phase = OUTSIDE_PHASES
        self._waiting: deque[tuple[int, Any, float]] = deque()  # phase, event, record time
        self._passed_at_s = 0.0  # the run clock when an event was last seen to have passed
        self._records_starts = record_starts
        self._device_s = 0.0  # from the first event to the last one passed
        self._host_offset_s = math.inf  # the host's time minus the device's
        self._last_start_s = -math.inf  # start of the last recorded phase

    def state(self) -> State:
        """Return the seconds per phase up to the last event seen to have passed."""
        return {"spent": self._spent}

    def restore(self, state: State) -> None:
        """Continue from a saved state."""
        self._spent, self._passed_at_s = list(state["spent"]), self._clock()

    def enter(self, phase: int) -> int:
        """End the current phase and begin another; returns the one that ended."""
        before, self._phase = self._phase, phase
        event, recorded_s = self._event(), self._now() if self._records_starts else 0.0
        event.record(self._stream())
        self._waiting.append((phase, event, recorded_s))
        return before

    def read(self) -> PhaseEvent:
        """Return the seconds per phase that the device has completed, and the time of the query."""
        passed: list[tuple[int, float, float]] = []  # phase, record time, duration
        while len(self._waiting) > 1 and self._waiting[1][1].query():
            phase, event, recorded_s = self._waiting.popleft()
            duration_s = event.elapsed_time(self._waiting[0][1]) / 1000.0
            self._spent[phase] += duration_s
            passed.append((phase, recorded_s, duration_s))
        if passed:
            self._passed_at_s = self._clock()
        marks = (
            self._phase_starts(np.array(passed).reshape(-1, 3).T) if self._records_starts else None
        )
        return PhaseEvent(self._passed_at_s, tuple(self._spent[:OUTSIDE_PHASES]), marks)

    def _phase_starts(self, passed: FloatArray) -> FloatArray:
        """Return the completed phases and their start times on the host's clock, shape (2, n).

        Args:
            passed: Rows of phase, time of recording, s, and duration, s; shape (3, n).
        """
        phases, recorded_s, durations_s = passed
        if not len(phases):
            return np.empty((2, 0))
        ends_s = self._device_s + np.cumsum(durations_s)
        begins_s = ends_s - durations_s
        self._device_s = float(ends_s[-1])
        upper = min(
            self._host_offset_s, self._now() - self._device_s
        )  # the last event has passed by now
        lower = max(np.max(recorded_s - begins_s), self._waiting[0][2] - self._device_s)
        self._host_offset_s = max(float(lower), upper)
        times = np.maximum.accumulate(
            np.maximum(begins_s + self._host_offset_s, self._last_start_s)
        )
        self._last_start_s = float(times[-1])
        return np.stack([phases, times])


def make_phase_clock(
    device: torch.device, clock: Callable[[], float], record_starts: bool = False
) -> PhaseClock:
    """Return the phase clock for a device; it records start times if ``record_starts``."""
    if device.type == "cuda":
        make = partial(torch.cuda.Event, enable_timing=True)
        stream = partial(torch.cuda.current_stream, device)
        return DevicePhaseClock(clock, make, stream, record_starts=record_starts)
    return HostPhaseClock(clock, record_starts=record_starts)
