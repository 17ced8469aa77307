"""Alignment of a counter's update times with phase marks: common lag and timing error.

An update is timed by polls 5 ms apart, and a board may publish its count late. The delay that
all updates share, the lag, assigns a phase's joules to its neighbours: a lag of 1 ms put a phase
of 16 ms off by 3 % in simulation. The lag is found by a search: the true one has the smallest
sum of squared residuals. The error that differs from update to update adds to the scatter of
the seconds and so pulls the phases' powers together (errors in variables). Its size follows
from the residuals of adjacent intervals, which it makes alternate in sign: a late update gives
to one interval what it takes from the next. Its contribution to the sums of products is then
subtracted. Observed and true times are exchangeable here, so this is half of what errors that
are independent of the truth would add (compare Fuller, Measurement Error Models, 1987,
section 1.2).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from effcore.energy.phase_attribution import nonnegative_least_squares
from effcore.records import FloatArray

#: Candidate lags, s, which are added to the update times.
CANDIDATE_LAGS_S: Final = np.arange(-0.010, 0.0051, 0.001)
#: Random draws of timing errors, over which their effect is averaged.
TIMING_DRAWS: Final = 4


class PhaseTimeline:
    """Cumulative seconds of each phase as a function of time.

    Args:
        marks: Phase indices, from 0, and the times at which they began, s, in order, shape
            (2, n). The last mark is the end of the timeline.
        phase_count: Number of phases.
    """

    def __init__(self, marks: FloatArray, phase_count: int) -> None:
        self._times = marks[1]
        phases, lengths = marks[0, :-1].astype(np.intp), np.diff(marks[1])
        self._phases = phases
        seconds_per_mark = np.zeros((phase_count, marks.shape[1]))
        seconds_per_mark[phases, np.arange(1, marks.shape[1])] = lengths
        self._cumulative_seconds = np.cumsum(seconds_per_mark, axis=1)

    def phase_seconds_until(self, times: FloatArray) -> FloatArray:
        """Return each phase's seconds up to ``times``, shape (n,), as (n, phase_count)."""
        return np.column_stack(
            [np.interp(times, self._times, row) for row in self._cumulative_seconds]
        )

    def phases_at(self, times: FloatArray) -> NDArray[np.intp]:
        """Return the index of the running phase at each of ``times``."""
        indices = np.searchsorted(self._times, times, "right") - 1
        return self._phases[np.clip(indices, 0, len(self._phases) - 1)]


class CounterIntervals(NamedTuple):
    """Intervals between two counter updates: begin and end times, s, and joules."""

    begins: FloatArray
    ends: FloatArray
    joules: FloatArray


class AlignedIntervals(NamedTuple):
    """Intervals aligned with the phases, as :meth:`PhaseAttributor.add_intervals` takes them.

    Attributes:
        seconds: Seconds in each phase, the time outside phases included, shape (n, phases).
        timing_excess: What timing errors add to the products of the seconds, s², shape
            (n, phases, phases).
        lag_s: The lag that was added to the times, s.
        timing_error_s: Standard deviation of an update's time, s.
    """

    seconds: FloatArray
    timing_excess: FloatArray
    lag_s: float
    timing_error_s: float


def align_intervals(
    timeline: PhaseTimeline, intervals: CounterIntervals, generator: np.random.Generator
) -> AlignedIntervals:
    """Return the seconds of each phase in each interval, corrected for the common lag."""
    lag_s = _estimate_lag(timeline, intervals)
    begins, ends = intervals.begins + lag_s, intervals.ends + lag_s
    elapsed = timeline.phase_seconds_until(begins), timeline.phase_seconds_until(ends)
    seconds = elapsed[1] - elapsed[0]
    powers, residuals = _fit_phase_powers(seconds, intervals.joules)
    adjacent = intervals.ends[:-1] == intervals.begins[1:]
    error_s = _estimate_timing_error(residuals, adjacent, powers[timeline.phases_at(ends)])
    excess = np.zeros((*seconds.shape, seconds.shape[1]))
    for _ in range(TIMING_DRAWS):
        time_errors_s = error_s * generator.standard_normal((2, len(ends)))
        # The end of an interval is the begin of the adjacent one.
        time_errors_s[0, 1:][adjacent] = time_errors_s[1, :-1][adjacent]
        shift_s = (
            timeline.phase_seconds_until(ends + time_errors_s[1])
            - elapsed[1]
            - timeline.phase_seconds_until(begins + time_errors_s[0])
            + elapsed[0]
        )
        excess += np.einsum("ip,iq->ipq", shift_s, shift_s) / (2 * TIMING_DRAWS)
    return AlignedIntervals(seconds, excess, lag_s, error_s)


def _fit_phase_powers(seconds: FloatArray, joules: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the phases' powers, W, and the residuals, J."""
    powers = nonnegative_least_squares(seconds.T @ seconds, seconds.T @ joules)
    return powers, joules - seconds @ powers


def _estimate_lag(timeline: PhaseTimeline, intervals: CounterIntervals) -> float:
    """Return the lag, s, with the smallest squared residuals, interpolated by a parabola."""
    squared_residuals = []
    for lag_s in CANDIDATE_LAGS_S:
        seconds = timeline.phase_seconds_until(
            intervals.ends + lag_s
        ) - timeline.phase_seconds_until(intervals.begins + lag_s)
        squared_residuals.append(
            float(np.sum(_fit_phase_powers(seconds, intervals.joules)[1] ** 2))
        )
    best = int(np.argmin(squared_residuals))
    if not 0 < best < len(squared_residuals) - 1:
        return float(CANDIDATE_LAGS_S[best])
    before, minimum, after = squared_residuals[best - 1 : best + 2]
    curvature = before - 2 * minimum + after
    offset_steps = 0.5 * (before - after) / curvature if curvature > 0 else 0.0
    return float(
        CANDIDATE_LAGS_S[best] + offset_steps * (CANDIDATE_LAGS_S[1] - CANDIDATE_LAGS_S[0])
    )


def _estimate_timing_error(
    residuals: FloatArray, adjacent: FloatArray, powers: FloatArray
) -> float:
    """Return an update's timing error, s, from the alternation of adjacent residuals."""
    neighbour_products = residuals[:-1][adjacent] * residuals[1:][adjacent]
    mean_square_power = float(np.mean(powers**2))
    if not len(neighbour_products) or not mean_square_power:
        return 0.0
    return float(np.sqrt(max(-float(np.mean(neighbour_products)), 0.0) / mean_square_power))
