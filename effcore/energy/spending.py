"""What a run's joules went to, as the run goes on: its phases, and the idle board beside it.

What the counter's steps and the phases' marks come to is taken in about once a minute, and
only sums are kept of it: a run may be as long as it likes. What lies in a pause, or beside
one, counts nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

import numpy as np

from effcore.attributed import Attribution
from effcore.clock import RunClock
from effcore.energy.lag import Course, Intervals, aligned
from effcore.energy.meter import RunMeter
from effcore.energy.phases import MIN_INTERVALS, PhaseAttributor
from effcore.events import PHASES, Energy, FloatArray, PhaseEvent

#: Length of the idle readings for which a run waits, s: above the shortest window that has
#: joules, and no longer than a start may be held up unnoticed. Its interval allows 13% for
#: its edges. For long ones see :mod:`effcore.energy.idling`.
IDLE_S: Final = 0.6
#: So many intervals are taken in at a time: enough to find their lag, which may change.
CHUNK: Final = 600
#: Marks that are kept at most, 16 bytes each; then fewer intervals are taken in.
MAX_MARKS: Final = 200_000


class Spending:
    """Tells what one run's joules went to; for the thread that trains.

    Args:
        meter: The run's meter.
        clock: The run clock.
        idle: What the idle board was read to take before the run, if it was read for long.
    """

    def __init__(self, meter: RunMeter, clock: RunClock, idle: Energy | None = None) -> None:
        self._meter, self._clock, self._idle = meter, clock, idle
        self._marks: list[FloatArray] = []
        self._intervals: list[FloatArray] = []  # rows: begin, end, joules
        self._seen = 0  # steps of the counter looked at
        self._pauses: deque[tuple[float, float]] = deque()
        self._attributor = PhaseAttributor(PHASES)
        self._draw = np.random.default_rng(0)
        self._broke = ""

    @property
    def wants_marks(self) -> bool:
        """Whether phases can be told apart at all: only by a counter that moves in steps."""
        return self._meter.stepwise

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count neither time nor joules."""
        begin_s = time.monotonic()
        self._clock.hold()
        self._meter.pause()
        try:
            yield
        finally:  # a clock that stood still for good would be worse than what went wrong
            self._clock.go_on()
            self._meter.resume()
        if self.wants_marks:
            self._pauses.append((begin_s, time.monotonic()))

    def idle_before(self) -> None:
        """Meter the board with everything in place and nothing training yet; raises nothing.

        Only where joules are measured: an estimate of idling is none. Where it was read for
        long before, that is better than what little there is time for here.
        """
        with suppress(Exception):  # whatever it is, training goes on
            if self._meter.measures and not (self._idle and self._meter.note_idle(self._idle)):
                with self.paused():
                    self._meter.idle_baseline(IDLE_S)

    def idle_after(self) -> None:
        """Meter the board once the run has ended; it is not gone on with. Raises nothing."""
        if self._meter.measures:
            with suppress(Exception):
                self._meter.pause()
                self._meter.idle_baseline(IDLE_S)

    def take(self, event: PhaseEvent) -> None:
        """Take in what phases began since the last time; raises nothing."""
        if event.marks is None or not event.marks.shape[1] or self._broke:
            return
        try:
            self._take(event.marks)
        except Exception as error:  # whatever it is, training goes on
            self._broke = f"attributing to phases broke down: {type(error).__name__}"

    def _take(self, marks_2N: FloatArray) -> None:
        self._marks.append(marks_2N)
        self._take_steps(float(marks_2N[1, -1]))
        marks = sum(part.shape[1] for part in self._marks)
        intervals = sum(part.shape[1] for part in self._intervals)
        if intervals >= CHUNK + MIN_INTERVALS:
            self._add(CHUNK)
        elif marks > MAX_MARKS:
            self._add(intervals)
        elif not intervals:
            self._forget(marks)

    def _take_steps(self, known_s: float) -> None:
        """Take in the steps of the counter up to when the phases are known."""
        steps, ever = self._meter.ticks_since(self._seen)
        later = steps.shape[1] - int(np.searchsorted(steps[0], known_s))
        steps = steps[:, : steps.shape[1] - later]
        if steps.shape[1] < 2:
            return
        self._seen = ever - later - 1  # the last begins the next interval
        found = np.stack([steps[0, :-1], steps[0, 1:], np.diff(steps[1])])
        since_s = self._marks[0][1, 0]
        kept = (found[0] >= since_s) & (found[2] > 0)  # a counter that began anew falls
        for begin_s, end_s in self._pauses:
            kept &= (found[1] <= begin_s) | (found[0] >= end_s)
        while self._pauses and self._pauses[0][1] <= steps[0, -1]:
            self._pauses.popleft()
        if kept.any():
            self._intervals.append(found[:, kept])

    def _add(self, count: int) -> None:
        """Attribute the oldest intervals; too few to find their lag are left out."""
        marks, rows = np.concatenate(self._marks, axis=1), np.hstack([_NONE, *self._intervals])
        self._intervals, taken = [rows[:, count:]], rows[:, :count]
        if taken.shape[1] >= MIN_INTERVALS:
            course = Course(marks, len(PHASES) + 1)
            found = aligned(course, Intervals(*taken), self._draw)
            seconds = found.seconds[:, : len(PHASES)]
            length = found.seconds.sum(axis=1)
            self._attributor.add_intervals(length, seconds, taken[2], found.excess)
        self._marks = [marks]
        begins_s = self._intervals[0][0, 0] if rows.shape[1] > count else marks[1, -1]
        self._drop_marks(float(begins_s))

    def _forget(self, marks: int) -> None:
        """Drop marks that no interval will need."""
        if marks > CHUNK:
            self._marks = [np.concatenate(self._marks, axis=1)]
            self._drop_marks(float(self._marks[0][1, -1]))

    def _drop_marks(self, until_s: float) -> None:
        """Drop what was over well before a time: a step's time may yet be moved."""
        (marks,) = self._marks
        first = int(np.searchsorted(marks[1], until_s - _MARGIN_S)) - 1
        self._marks = [marks[:, max(first, 0) :]]

    def attribution(self, energy: Energy) -> Attribution:
        """Return what each phase took, or why that is not known; ends the account.

        Raises nothing: what goes wrong is why it is not known.

        Args:
            energy: The run's own, which is what was attributed.
        """
        try:
            return Attribution(why=self._broke) if self._broke else self._attribution(energy)
        except Exception as error:  # the run has ended well all the same
            return Attribution(why=f"attributing to phases broke down: {type(error).__name__}")

    def _attribution(self, energy: Energy) -> Attribution:
        if self.wants_marks and self._marks:
            self._add(sum(part.shape[1] for part in self._intervals))
        why = self._why(energy)
        if why:
            return Attribution(why=why)
        phases = self._attributor.attribute()
        covered = sum(found.seconds for found in phases) / max(energy.seconds, 1e-9)
        return Attribution(phases, notes=(*_notes(energy), _coverage(covered)))

    def _why(self, energy: Energy) -> str:
        if not self._meter.opened:
            return "nothing measured this run's energy, so there is none to attribute to phases"
        if not self.wants_marks:
            return (
                f"{energy.source} is no counter whose steps can be timed, and only from those "
                "are phases told apart: train on a GPU that counts its energy"
            )
        if energy.joules is None:
            return "the run has no joules that could be attributed to phases"
        n = self._attributor.intervals
        if n < MIN_INTERVALS:
            return (
                f"{n} steps of the counter with the run on between them are too few to tell "
                f"phases apart: train for at least {MIN_INTERVALS}, without pauses, which takes "
                "about 15 s at ten a second"
            )
        return ""


#: Further than any lag, and than any drawn time of a step.
_MARGIN_S: Final = 0.2
_NONE: Final[FloatArray] = np.empty((3, 0))


def _notes(energy: Energy) -> Iterator[str]:
    """Say what there is to know of the joules that were attributed."""
    yield (
        f"told apart by regression of what the counter gained, {energy.quality.value}; the "
        "intervals, 95 %, are of that alone, and the instrument's error comes to them"
    )
    if energy.contended:
        yield "others used the board too: what they took is in it"


def _coverage(covered: float) -> str:
    return f"counted from {min(covered, 1.0):.0%} of the run's time, between steps of the counter"
