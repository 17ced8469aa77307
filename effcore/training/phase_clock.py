"""Where the time of a run goes: seconds by phase of a step, without waiting for the device.

On a CPU a phase ends where the next begins. On a GPU the host runs ahead, so events are put
into the stream between the phases and read once the device has passed them.

Where joules are to be attributed to phases, the clocks also keep when each began, in
monotonic time. What a device's events tell is the time between two of them. Their place in
the host's time follows from cause and effect: none is passed before it was put into the
stream, or after it was seen to be passed. Whenever the host has waited for the device, as
it does for each block of losses, the two are microseconds apart, so that a drift of the
device's clock is caught and nothing has to be waited for.
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
#: What is none of these: reports, pictures, and whoever holds the run between two steps.
OUTSIDE_PHASES: Final = len(PHASES)


class PhaseClock(Protocol):
    """Seconds spent in each phase so far."""

    def enter(self, phase: int) -> int:
        """End the phase that was on, begin another; returns the one that was on."""

    def read(self) -> PhaseEvent:
        """Return what was spent so far, and the run clock's time of it."""

    def state(self) -> State:
        """Return what was spent when it was last read."""

    def restore(self, state: State) -> None:
        """Count on from a state."""


class PhaseStarts:
    """When each phase began, until somebody takes it."""

    def __init__(self) -> None:
        self._phases, self._times = array("b"), array("d")

    def add(self, phase: int, t: float) -> None:
        """Note that a phase began at ``t``, monotonic s."""
        self._phases.append(phase)
        self._times.append(t)

    def take(self) -> FloatArray:
        """Return the phases and when they began since the last call, shape (2, n)."""
        taken = np.array([self._phases, self._times], dtype=np.float64)
        self._phases, self._times = array("b"), array("d")
        return taken


class HostPhaseClock:
    """Seconds spent in each phase so far, by the host's clock.

    Args:
        clock: The run clock, s.
        now: Monotonic seconds.
        marked: Whether to keep when each phase began.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        now: Callable[[], float] = time.monotonic,
        marked: bool = False,
    ) -> None:
        self._clock, self._now = clock, now
        self._spent = [0.0] * (len(PHASES) + 1)
        self._phase, self._since = OUTSIDE_PHASES, now()
        self._starts = PhaseStarts() if marked else None

    def state(self) -> State:
        """Return what was spent when a phase last began."""
        return {"spent": self._spent}

    def restore(self, state: State) -> None:
        """Count on from a state."""
        self._spent, self._since = list(state["spent"]), self._now()

    def enter(self, phase: int) -> int:
        """End the phase that was on, begin another; returns the one that was on."""
        now, before = self._now(), self._phase
        self._spent[before] += now - self._since
        self._phase, self._since = phase, now
        if self._starts is not None:
            self._starts.add(phase, now)
        return before

    def read(self) -> PhaseEvent:
        """Return what was spent so far, and the run clock's time of it."""
        self.enter(self._phase)
        marks = self._starts.take() if self._starts is not None else None
        return PhaseEvent(self._clock(), tuple(self._spent[:OUTSIDE_PHASES]), marks)


class DevicePhaseClock:
    """Seconds spent in each phase so far, by events in the device's stream; never waits.

    Args:
        clock: The run clock, s.
        event: Makes an event that can be recorded in a stream, asked whether it has passed,
            and how many milliseconds before another it did.
        stream: Returns the device's stream.
        now: Monotonic seconds of the host.
        marked: Whether to keep when each phase began.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        event: Callable[[], Any],
        stream: Callable[[], Any],
        now: Callable[[], float] = time.monotonic,
        marked: bool = False,
    ) -> None:
        self._clock, self._event, self._stream, self._now = clock, event, stream, now
        self._spent = [0.0] * (len(PHASES) + 1)
        self._phase = OUTSIDE_PHASES
        self._waiting: deque[tuple[int, Any, float]] = deque()  # phase, its event, when put
        self._passed_at_s = (
            0.0  # the run clock when the device was last known to have passed a mark
        )
        self._marked = marked
        self._device_s = 0.0  # from the first event to the one last passed
        self._ahead_s = math.inf  # the host's time less the device's
        self._marked_s = -math.inf  # when the last marked phase began

    def state(self) -> State:
        """Return what the device was last known to have passed."""
        return {"spent": self._spent}

    def restore(self, state: State) -> None:
        """Count on from a state."""
        self._spent, self._passed_at_s = list(state["spent"]), self._clock()

    def enter(self, phase: int) -> int:
        """End the phase that was on, begin another; returns the one that was on."""
        before, self._phase = self._phase, phase
        mark, put_s = self._event(), self._now() if self._marked else 0.0
        mark.record(self._stream())
        self._waiting.append((phase, mark, put_s))
        return before

    def read(self) -> PhaseEvent:
        """Return what the device has passed so far, and when that was asked."""
        passed: list[tuple[int, float, float]] = []  # phase, when put, how long it was
        while len(self._waiting) > 1 and self._waiting[1][1].query():
            phase, begun, put_s = self._waiting.popleft()
            lasted_s = begun.elapsed_time(self._waiting[0][1]) / 1000.0
            self._spent[phase] += lasted_s
            passed.append((phase, put_s, lasted_s))
        if passed:
            self._passed_at_s = self._clock()
        marks = self._phase_starts(np.array(passed).reshape(-1, 3).T) if self._marked else None
        return PhaseEvent(self._passed_at_s, tuple(self._spent[:OUTSIDE_PHASES]), marks)

    def _phase_starts(self, passed: FloatArray) -> FloatArray:
        """Return phases that are over, and when they began in the host's time.

        Args:
            passed: Phases, when they were put into the stream, how long they were, s.
        """
        phases, put_s, lasted_s = passed
        if not len(phases):
            return np.empty((2, 0))
        ends_s = self._device_s + np.cumsum(lasted_s)
        begins_s = ends_s - lasted_s
        self._device_s = float(ends_s[-1])
        seen = min(self._ahead_s, self._now() - self._device_s)  # the last is passed by now
        put = max(np.max(put_s - begins_s), self._waiting[0][2] - self._device_s)
        self._ahead_s = max(float(put), seen)
        times = np.maximum.accumulate(np.maximum(begins_s + self._ahead_s, self._marked_s))
        self._marked_s = float(times[-1])
        return np.stack([phases, times])


def make_phase_clock(
    device: torch.device, clock: Callable[[], float], marked: bool = False
) -> PhaseClock:
    """Return the clock that sees what a device does, and keeps when if ``marked``."""
    if device.type == "cuda":
        make = partial(torch.cuda.Event, enable_timing=True)
        stream = partial(torch.cuda.current_stream, device)
        return DevicePhaseClock(clock, make, stream, marked=marked)
    return HostPhaseClock(clock, marked=marked)
