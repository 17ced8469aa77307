"""What phases took between steps of a counter whose times are not exact.

A step is timed by looks 5 ms apart, and a board may publish late what it has counted. What
is common to the times, the lag, hands each phase's joules to its neighbours: 1 ms of it put
a phase of 16 ms out by 3 % in simulation. It is found by trying: the true one leaves the
least unexplained. What differs from step to step adds to the scatter of the seconds and so
pulls the phases' powers together (errors in variables). How large it is follows from what
is left unexplained, which it makes alternate: a step told late gives to one interval what
it takes from the next. What it adds to the sums of products is then taken out again. A
time that is told and the true one being each as good as the other, that is half of what
errors would add which are independent of the truth (compare Fuller, Measurement Error
Models, 1987, section 1.2).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from effcore.energy.phase_attribution import nonnegative_least_squares
from effcore.records import FloatArray

#: Lags that are tried, s: what is added to the times of the steps.
CANDIDATE_LAGS_S: Final = np.arange(-0.010, 0.0051, 0.001)
#: Draws of how the steps might be mistimed, over which their effect is averaged.
TIMING_DRAWS: Final = 4


class PhaseTimeline:
    """How long each phase has been on, at any time.

    Args:
        marks: Phases, counted from 0, and when they began, in order, s, shape (2, n); the
            last is where what is known ends.
        phase_count: How many phases there are.
    """

    def __init__(self, marks: FloatArray, phase_count: int) -> None:
        self._times = marks[1]
        phases, lengths = marks[0, :-1].astype(np.intp), np.diff(marks[1])
        self._phases = phases
        spent = np.zeros((phase_count, marks.shape[1]))
        spent[phases, np.arange(1, marks.shape[1])] = lengths
        self._cumulative_seconds = np.cumsum(spent, axis=1)

    def phase_seconds_until(self, times: FloatArray) -> FloatArray:
        """Return the seconds of each phase by ``times`` of shape (n,), shape (n, count)."""
        return np.column_stack(
            [np.interp(times, self._times, row) for row in self._cumulative_seconds]
        )

    def phases_at(self, times: FloatArray) -> NDArray[np.intp]:
        """Return the phases that are on at ``times``."""
        places = np.searchsorted(self._times, times, "right") - 1
        return self._phases[np.clip(places, 0, len(self._phases) - 1)]


class CounterIntervals(NamedTuple):
    """Times between two steps of a counter: when they begin and end, s, and their joules."""

    begins: FloatArray
    ends: FloatArray
    joules: FloatArray


class AlignedIntervals(NamedTuple):
    """What :meth:`PhaseAttributor.add_intervals` takes of intervals, all phases included.

    Attributes:
        seconds: In each phase, shape (n, phases).
        timing_excess: What mistimed steps add to their products, shape (n, phases, phases).
        lag_s: What was added to the times.
        timing_error_s: How far a step's time is out, standard deviation.
    """

    seconds: FloatArray
    timing_excess: FloatArray
    lag_s: float
    timing_error_s: float


def align_intervals(
    timeline: PhaseTimeline, intervals: CounterIntervals, generator: np.random.Generator
) -> AlignedIntervals:
    """Return the seconds of each phase in intervals, their lag made up for."""
    lag_s = _estimate_lag(timeline, intervals)
    begins, ends = intervals.begins + lag_s, intervals.ends + lag_s
    had = timeline.phase_seconds_until(begins), timeline.phase_seconds_until(ends)
    seconds = had[1] - had[0]
    powers, left = _fit_phase_powers(seconds, intervals.joules)
    joined = intervals.ends[:-1] == intervals.begins[1:]
    error_s = _estimate_timing_error(left, joined, powers[timeline.phases_at(ends)])
    excess = np.zeros((*seconds.shape, seconds.shape[1]))
    for _ in range(TIMING_DRAWS):
        late = error_s * generator.standard_normal((2, len(ends)))
        late[0, 1:][joined] = late[1, :-1][joined]  # the end of one is the next one's begin
        moved = (
            timeline.phase_seconds_until(ends + late[1])
            - had[1]
            - timeline.phase_seconds_until(begins + late[0])
            + had[0]
        )
        excess += np.einsum("ip,iq->ipq", moved, moved) / (2 * TIMING_DRAWS)
    return AlignedIntervals(seconds, excess, lag_s, error_s)


def _fit_phase_powers(seconds: FloatArray, joules: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the phases' powers, W, and what they leave unexplained, J."""
    powers = nonnegative_least_squares(seconds.T @ seconds, seconds.T @ joules)
    return powers, joules - seconds @ powers


def _estimate_lag(timeline: PhaseTimeline, intervals: CounterIntervals) -> float:
    """Return what added to the times leaves the least unexplained, between those tried."""
    left = []
    for lag_s in CANDIDATE_LAGS_S:
        seconds = timeline.phase_seconds_until(
            intervals.ends + lag_s
        ) - timeline.phase_seconds_until(intervals.begins + lag_s)
        left.append(float(np.sum(_fit_phase_powers(seconds, intervals.joules)[1] ** 2)))
    best = int(np.argmin(left))
    if not 0 < best < len(left) - 1:
        return float(CANDIDATE_LAGS_S[best])
    before, least, after = left[best - 1 : best + 2]
    bend = before - 2 * least + after
    between = 0.5 * (before - after) / bend if bend > 0 else 0.0
    return float(CANDIDATE_LAGS_S[best] + between * (CANDIDATE_LAGS_S[1] - CANDIDATE_LAGS_S[0]))


def _estimate_timing_error(
    residuals: FloatArray, adjacent: FloatArray, powers: FloatArray
) -> float:
    """Return how far a step's time is out, s, by how what is left unexplained alternates."""
    alternates = residuals[:-1][adjacent] * residuals[1:][adjacent]
    square = float(np.mean(powers**2))
    if not len(alternates) or not square:
        return 0.0
    return float(np.sqrt(max(-float(np.mean(alternates)), 0.0) / square))
