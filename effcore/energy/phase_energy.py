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

from effcore.energy.counter_alignment import CounterIntervals, PhaseTimeline, align_intervals
from effcore.energy.meter import RunMeter
from effcore.energy.phase_attribution import MIN_INTERVALS, PhaseAttributor
from effcore.records import PHASES, Energy, FloatArray, PhaseEvent
from effcore.records.attribution import PhaseAttribution
from effcore.records.run_clock import RunClock

#: Length of the idle readings for which a run waits, s: above the shortest window that has
#: joules, and no longer than a start may be held up unnoticed. Its interval allows 13% for
#: its edges. For long ones see :mod:`effcore.energy.idle_power`.
SHORT_IDLE_S: Final = 0.6
#: So many intervals are taken in at a time: enough to find their lag, which may change.
CHUNK_INTERVALS: Final = 600
#: Marks that are kept at most, 16 bytes each; then fewer intervals are taken in.
MAX_PHASE_MARKS: Final = 200_000


class PhaseEnergyMeter:
    """Tells what one run's joules went to; for the thread that trains.

    Args:
        meter: The run's meter.
        clock: The run clock.
        idle: What the idle board was read to take before the run, if it was read for long.
    """

    def __init__(self, meter: RunMeter, clock: RunClock, idle: Energy | None = None) -> None:
        self._meter, self._clock, self._idle_reading = meter, clock, idle
        self._marks: list[FloatArray] = []
        self._intervals: list[FloatArray] = []  # rows: begin, end, joules
        self._updates_read = 0  # steps of the counter looked at
        self._pauses: deque[tuple[float, float]] = deque()
        self._attributor = PhaseAttributor(PHASES)
        self._generator = np.random.default_rng(0)
        self._failure_reason = ""

    @property
    def needs_phase_marks(self) -> bool:
        """Whether phases can be told apart at all: only by a counter that moves in steps."""
        return self._meter.times_counter_updates

    @contextmanager
    def pause_metering(self) -> Iterator[None]:
        """Count neither time nor joules."""
        begin_s = time.monotonic()
        self._clock.pause()
        self._meter.pause()
        try:
            yield
        finally:  # a clock that stood still for good would be worse than what went wrong
            self._clock.resume()
            self._meter.resume()
        if self.needs_phase_marks:
            self._pauses.append((begin_s, time.monotonic()))

    def meter_idle_before_run(self) -> None:
        """Meter the board with everything in place and nothing training yet; raises nothing.

        Only where joules are measured: an estimate of idling is none. Where it was read for
        long before, that is better than what little there is time for here.
        """
        with suppress(Exception):  # whatever it is, training goes on
            if self._meter.is_measured and not (
                self._idle_reading and self._meter.add_idle_reading(self._idle_reading)
            ):
                with self.pause_metering():
                    self._meter.idle_baseline(SHORT_IDLE_S)

    def meter_idle_after_run(self) -> None:
        """Meter the board once the run has ended; it is not gone on with. Raises nothing."""
        if self._meter.is_measured:
            with suppress(Exception):
                self._meter.pause()
                self._meter.idle_baseline(SHORT_IDLE_S)

    def add_phase_event(self, event: PhaseEvent) -> None:
        """Take in what phases began since the last time; raises nothing."""
        if event.marks is None or not event.marks.shape[1] or self._failure_reason:
            return
        try:
            self._add_marks(event.marks)
        except Exception as error:  # whatever it is, training goes on
            self._failure_reason = f"attributing to phases broke down: {type(error).__name__}"

    def _add_marks(self, marks_2N: FloatArray) -> None:
        self._marks.append(marks_2N)
        self._add_counter_updates(float(marks_2N[1, -1]))
        marks = sum(part.shape[1] for part in self._marks)
        intervals = sum(part.shape[1] for part in self._intervals)
        if intervals >= CHUNK_INTERVALS + MIN_INTERVALS:
            self._attribute_intervals(CHUNK_INTERVALS)
        elif marks > MAX_PHASE_MARKS:
            self._attribute_intervals(intervals)
        elif not intervals:
            self._drop_unneeded_marks(marks)

    def _add_counter_updates(self, marks_end_s: float) -> None:
        """Take in the steps of the counter up to when the phases are known."""
        steps, ever = self._meter.counter_updates_since(self._updates_read)
        later = steps.shape[1] - int(np.searchsorted(steps[0], marks_end_s))
        steps = steps[:, : steps.shape[1] - later]
        if steps.shape[1] < 2:
            return
        self._updates_read = ever - later - 1  # the last begins the next interval
        found = np.stack([steps[0, :-1], steps[0, 1:], np.diff(steps[1])])
        since_s = self._marks[0][1, 0]
        kept = (found[0] >= since_s) & (found[2] > 0)  # a counter that began anew falls
        for begin_s, end_s in self._pauses:
            kept &= (found[1] <= begin_s) | (found[0] >= end_s)
        while self._pauses and self._pauses[0][1] <= steps[0, -1]:
            self._pauses.popleft()
        if kept.any():
            self._intervals.append(found[:, kept])

    def _attribute_intervals(self, count: int) -> None:
        """Attribute the oldest intervals; too few to find their lag are left out."""
        marks, rows = (
            np.concatenate(self._marks, axis=1),
            np.hstack([_NO_INTERVALS, *self._intervals]),
        )
        self._intervals, taken = [rows[:, count:]], rows[:, :count]
        if taken.shape[1] >= MIN_INTERVALS:
            course = PhaseTimeline(marks, len(PHASES) + 1)
            found = align_intervals(course, CounterIntervals(*taken), self._generator)
            seconds = found.seconds[:, : len(PHASES)]
            length = found.seconds.sum(axis=1)
            self._attributor.add_intervals(length, seconds, taken[2], found.timing_excess)
        self._marks = [marks]
        begins_s = self._intervals[0][0, 0] if rows.shape[1] > count else marks[1, -1]
        self._drop_marks_before(float(begins_s))

    def _drop_unneeded_marks(self, mark_count: int) -> None:
        """Drop marks that no interval will need."""
        if mark_count > CHUNK_INTERVALS:
            self._marks = [np.concatenate(self._marks, axis=1)]
            self._drop_marks_before(float(self._marks[0][1, -1]))

    def _drop_marks_before(self, until_s: float) -> None:
        """Drop what was over well before a time: a step's time may yet be moved."""
        (marks,) = self._marks
        first = int(np.searchsorted(marks[1], until_s - _MARK_MARGIN_S)) - 1
        self._marks = [marks[:, max(first, 0) :]]

    def finish_attribution(self, energy: Energy) -> PhaseAttribution:
        """Return what each phase took, or why that is not known; ends the account.

        Raises nothing: what goes wrong is why it is not known.

        Args:
            energy: The run's own, which is what was attributed.
        """
        try:
            return (
                PhaseAttribution(why=self._failure_reason)
                if self._failure_reason
                else self._finish_attribution(energy)
            )
        except Exception as error:  # the run has ended well all the same
            return PhaseAttribution(why=f"attributing to phases broke down: {type(error).__name__}")

    def _finish_attribution(self, energy: Energy) -> PhaseAttribution:
        if self.needs_phase_marks and self._marks:
            self._attribute_intervals(sum(part.shape[1] for part in self._intervals))
        why = self._unavailable_reason(energy)
        if why:
            return PhaseAttribution(why=why)
        phases = self._attributor.attribute()
        covered = sum(found.seconds for found in phases) / max(energy.seconds, 1e-9)
        return PhaseAttribution(
            phases, notes=(*_attribution_notes(energy), _coverage_note(covered))
        )

    def _unavailable_reason(self, energy: Energy) -> str:
        if not self._meter.has_source:
            return "nothing measured this run's energy, so there is none to attribute to phases"
        if not self.needs_phase_marks:
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
_MARK_MARGIN_S: Final = 0.2
_NO_INTERVALS: Final[FloatArray] = np.empty((3, 0))


def _attribution_notes(energy: Energy) -> Iterator[str]:
    """Say what there is to know of the joules that were attributed."""
    yield (
        f"told apart by regression of what the counter gained, {energy.quality.value}; the "
        "intervals, 95 %, are of that alone, and the instrument's error comes to them"
    )
    if energy.contended:
        yield "others used the board too: what they took is in it"


def _coverage_note(covered: float) -> str:
    return f"counted from {min(covered, 1.0):.0%} of the run's time, between steps of the counter"
