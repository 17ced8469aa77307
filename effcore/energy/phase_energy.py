"""Energy of a running training by phase, with idle readings before and after it.

Counter updates and phase marks are attributed about once a minute, and only sums are stored, so
that memory does not grow with the length of a run. Intervals that touch a pause are left out.
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

#: Length of the idle readings for which a run waits, s: longer than the shortest window that
#: has joules, and short enough not to delay a start noticeably. Its interval allows 13% for
#: its edges. :mod:`effcore.energy.idle_power` takes long readings.
SHORT_IDLE_S: Final = 0.6
#: Intervals that are attributed together: enough to estimate their lag, which may change.
CHUNK_INTERVALS: Final = 600
#: Most stored marks, 16 bytes each; beyond, fewer intervals are attributed together.
MAX_PHASE_MARKS: Final = 200_000


class PhaseEnergyMeter:
    """Attributes one run's energy to phases; only for use in the training thread.

    Args:
        meter: The run's meter.
        clock: The run clock.
        idle: A full idle reading from before the run, if there is one.
    """

    def __init__(self, meter: RunMeter, clock: RunClock, idle: Energy | None = None) -> None:
        self._meter, self._clock, self._idle_reading = meter, clock, idle
        self._marks: list[FloatArray] = []
        self._intervals: list[FloatArray] = []  # rows: begin, end, joules
        self._updates_read = 0  # counter updates taken from the meter
        self._pauses: deque[tuple[float, float]] = deque()
        self._attributor = PhaseAttributor(PHASES)
        self._generator = np.random.default_rng(0)
        self._failure_reason = ""

    @property
    def needs_phase_marks(self) -> bool:
        """Whether energy can be attributed to phases: only with a counter of timed updates."""
        return self._meter.times_counter_updates

    @contextmanager
    def pause_metering(self) -> Iterator[None]:
        """Pause the run clock and the meter for the block."""
        begin_s = time.monotonic()
        self._clock.pause()
        self._meter.pause()
        try:
            yield
        finally:  # after an exception too, the clock must not stay paused
            self._clock.resume()
            self._meter.resume()
        if self.needs_phase_marks:
            self._pauses.append((begin_s, time.monotonic()))

    def meter_idle_before_run(self) -> None:
        """Meter the idle board with the run's memory allocated, before training; never raises.

        Only where energy is measured: an estimate has no idle power. A full reading from before
        the run is used in place of the short one that there is time for here.
        """
        with suppress(Exception):  # a failed idle reading must not stop training
            if self._meter.is_measured and not (
                self._idle_reading and self._meter.add_idle_reading(self._idle_reading)
            ):
                with self.pause_metering():
                    self._meter.idle_baseline(SHORT_IDLE_S)

    def meter_idle_after_run(self) -> None:
        """Meter the idle board after the run has ended, with the run's clock paused; never raises.

        The meter does not resume.
        """
        if self._meter.is_measured:
            with suppress(Exception):
                self._meter.pause()
                self._meter.idle_baseline(SHORT_IDLE_S)

    def add_phase_event(self, event: PhaseEvent) -> None:
        """Add the phases that began since the last event; never raises."""
        if event.marks is None or not event.marks.shape[1] or self._failure_reason:
            return
        try:
            self._add_marks(event.marks)
        except Exception as error:  # failed attribution must not stop training
            self._failure_reason = f"attribution to phases failed: {type(error).__name__}"

    def _add_marks(self, marks_2N: FloatArray) -> None:
        self._marks.append(marks_2N)
        self._add_counter_updates(float(marks_2N[1, -1]))
        mark_count = sum(part.shape[1] for part in self._marks)
        interval_count = sum(part.shape[1] for part in self._intervals)
        if interval_count >= CHUNK_INTERVALS + MIN_INTERVALS:
            self._attribute_intervals(CHUNK_INTERVALS)
        elif mark_count > MAX_PHASE_MARKS:
            self._attribute_intervals(interval_count)
        elif not interval_count:
            self._drop_unneeded_marks(mark_count)

    def _add_counter_updates(self, marks_end_s: float) -> None:
        """Add the intervals between counter updates up to the last phase mark."""
        updates, update_count = self._meter.counter_updates_since(self._updates_read)
        later_updates = updates.shape[1] - int(np.searchsorted(updates[0], marks_end_s))
        updates = updates[:, : updates.shape[1] - later_updates]
        if updates.shape[1] < 2:
            return
        # The last update also begins the next interval.
        self._updates_read = update_count - later_updates - 1
        intervals = np.stack([updates[0, :-1], updates[0, 1:], np.diff(updates[1])])
        since_s = self._marks[0][1, 0]
        # A counter that was reset shows a negative gain.
        is_usable = (intervals[0] >= since_s) & (intervals[2] > 0)
        for begin_s, end_s in self._pauses:
            is_usable &= (intervals[1] <= begin_s) | (intervals[0] >= end_s)
        while self._pauses and self._pauses[0][1] <= updates[0, -1]:
            self._pauses.popleft()
        if is_usable.any():
            self._intervals.append(intervals[:, is_usable])

    def _attribute_intervals(self, count: int) -> None:
        """Attribute the oldest ``count`` intervals; drop them if too few to estimate the lag."""
        marks, intervals = (
            np.concatenate(self._marks, axis=1),
            np.hstack([_NO_INTERVALS, *self._intervals]),
        )
        self._intervals, oldest = [intervals[:, count:]], intervals[:, :count]
        if oldest.shape[1] >= MIN_INTERVALS:
            timeline = PhaseTimeline(marks, len(PHASES) + 1)
            aligned = align_intervals(timeline, CounterIntervals(*oldest), self._generator)
            seconds = aligned.seconds[:, : len(PHASES)]
            length = aligned.seconds.sum(axis=1)
            self._attributor.add_intervals(length, seconds, oldest[2], aligned.timing_excess)
        self._marks = [marks]
        next_begin_s = self._intervals[0][0, 0] if intervals.shape[1] > count else marks[1, -1]
        self._drop_marks_before(float(next_begin_s))

    def _drop_unneeded_marks(self, mark_count: int) -> None:
        """Drop old marks while there are no intervals to attribute."""
        if mark_count > CHUNK_INTERVALS:
            self._marks = [np.concatenate(self._marks, axis=1)]
            self._drop_marks_before(float(self._marks[0][1, -1]))

    def _drop_marks_before(self, until_s: float) -> None:
        """Drop marks of phases that ended before ``until_s`` less a margin for lag and error."""
        (marks,) = self._marks
        first = int(np.searchsorted(marks[1], until_s - _MARK_MARGIN_S)) - 1
        self._marks = [marks[:, max(first, 0) :]]

    def finish_attribution(self, energy: Energy) -> PhaseAttribution:
        """Return the energy of each phase, or why it is not known; no more events may follow.

        Never raises: a failure becomes the reason.

        Args:
            energy: The run's energy.
        """
        try:
            return (
                PhaseAttribution(why=self._failure_reason)
                if self._failure_reason
                else self._finish_attribution(energy)
            )
        except Exception as error:  # the run itself has finished without an error
            return PhaseAttribution(why=f"attribution to phases failed: {type(error).__name__}")

    def _finish_attribution(self, energy: Energy) -> PhaseAttribution:
        if self.needs_phase_marks and self._marks:
            self._attribute_intervals(sum(part.shape[1] for part in self._intervals))
        unavailable_reason = self._unavailable_reason(energy)
        if unavailable_reason:
            return PhaseAttribution(why=unavailable_reason)
        phases = self._attributor.attribute()
        covered_frac = sum(phase.seconds for phase in phases) / max(energy.seconds, 1e-9)
        return PhaseAttribution(
            phases, notes=(*_attribution_notes(energy), _coverage_note(covered_frac))
        )

    def _unavailable_reason(self, energy: Energy) -> str:
        if not self._meter.has_source:
            return "this run had no energy meter, so there is no energy to attribute to phases"
        if not self.needs_phase_marks:
            return (
                f"the updates of this source cannot be timed ({energy.source}), and attribution "
                "to phases needs them: train on a GPU with an energy counter"
            )
        if energy.joules is None:
            return "this run's energy is unknown, so none can be attributed to phases"
        interval_count = self._attributor.intervals
        if interval_count < MIN_INTERVALS:
            return (
                f"{interval_count} intervals between counter updates are too few to attribute "
                f"energy to phases: train for at least {MIN_INTERVALS} without pauses, about 15 s "
                "at ten a second"
            )
        return ""


#: Longer than any lag plus any timing error of an update.
_MARK_MARGIN_S: Final = 0.2
_NO_INTERVALS: Final[FloatArray] = np.empty((3, 0))


def _attribution_notes(energy: Energy) -> Iterator[str]:
    yield (
        f"attributed by regression of the counter's gains ({energy.quality.value}); the 95 % "
        "intervals cover the regression only, the instrument's error is additional"
    )
    if energy.contended:
        yield "other processes used the board too: their energy is included"


def _coverage_note(covered_frac: float) -> str:
    return f"based on {min(covered_frac, 1.0):.0%} of the run's time, between counter updates"
