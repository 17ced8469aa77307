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

from effcore.energy.phases import least_squares
from effcore.events import FloatArray

#: Lags that are tried, s: what is added to the times of the steps.
LAGS_S: Final = np.arange(-0.010, 0.0051, 0.001)
#: Draws of how the steps might be mistimed, over which their effect is averaged.
DRAWS: Final = 4


class Course:
    """How long each phase has been on, at any time.

    Args:
        marks: Phases, counted from 0, and when they began, in order, s, shape (2, n); the
            last is where what is known ends.
        count: How many phases there are.
    """

    def __init__(self, marks: FloatArray, count: int) -> None:
        self._times = marks[1]
        phases, lengths = marks[0, :-1].astype(np.intp), np.diff(marks[1])
        self._phases = phases
        spent = np.zeros((count, marks.shape[1]))
        spent[phases, np.arange(1, marks.shape[1])] = lengths
        self._spent = np.cumsum(spent, axis=1)

    def at(self, times: FloatArray) -> FloatArray:
        """Return the seconds of each phase by ``times`` of shape (n,), shape (n, count)."""
        return np.column_stack([np.interp(times, self._times, row) for row in self._spent])

    def on(self, times: FloatArray) -> NDArray[np.intp]:
        """Return the phases that are on at ``times``."""
        places = np.searchsorted(self._times, times, "right") - 1
        return self._phases[np.clip(places, 0, len(self._phases) - 1)]


class Intervals(NamedTuple):
    """Times between two steps of a counter: when they begin and end, s, and their joules."""

    begins: FloatArray
    ends: FloatArray
    joules: FloatArray


class Aligned(NamedTuple):
    """What :meth:`PhaseAttributor.add_intervals` takes of intervals, all phases included.

    Attributes:
        seconds: In each phase, shape (n, phases).
        excess: What mistimed steps add to their products, shape (n, phases, phases).
        lag_s: What was added to the times.
        error_s: How far a step's time is out, standard deviation.
    """

    seconds: FloatArray
    excess: FloatArray
    lag_s: float
    error_s: float


def aligned(course: Course, found: Intervals, draw: np.random.Generator) -> Aligned:
    """Return the seconds of each phase in intervals, their lag made up for."""
    lag_s = _lag(course, found)
    begins, ends = found.begins + lag_s, found.ends + lag_s
    had = course.at(begins), course.at(ends)
    seconds = had[1] - had[0]
    powers, left = _fit(seconds, found.joules)
    joined = found.ends[:-1] == found.begins[1:]
    error_s = _error(left, joined, powers[course.on(ends)])
    excess = np.zeros((*seconds.shape, seconds.shape[1]))
    for _ in range(DRAWS):
        late = error_s * draw.standard_normal((2, len(ends)))
        late[0, 1:][joined] = late[1, :-1][joined]  # the end of one is the next one's begin
        moved = course.at(ends + late[1]) - had[1] - course.at(begins + late[0]) + had[0]
        excess += np.einsum("ip,iq->ipq", moved, moved) / (2 * DRAWS)
    return Aligned(seconds, excess, lag_s, error_s)


def _fit(seconds: FloatArray, joules: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the phases' powers, W, and what they leave unexplained, J."""
    powers = least_squares(seconds.T @ seconds, seconds.T @ joules)
    return powers, joules - seconds @ powers


def _lag(course: Course, found: Intervals) -> float:
    """Return what added to the times leaves the least unexplained, between those tried."""
    left = []
    for lag_s in LAGS_S:
        seconds = course.at(found.ends + lag_s) - course.at(found.begins + lag_s)
        left.append(float(np.sum(_fit(seconds, found.joules)[1] ** 2)))
    best = int(np.argmin(left))
    if not 0 < best < len(left) - 1:
        return float(LAGS_S[best])
    before, least, after = left[best - 1 : best + 2]
    bend = before - 2 * least + after
    between = 0.5 * (before - after) / bend if bend > 0 else 0.0
    return float(LAGS_S[best] + between * (LAGS_S[1] - LAGS_S[0]))


def _error(left: FloatArray, joined: FloatArray, powers: FloatArray) -> float:
    """Return how far a step's time is out, s, by how what is left unexplained alternates."""
    alternates = left[:-1][joined] * left[1:][joined]
    square = float(np.mean(powers**2))
    if not len(alternates) or not square:
        return 0.0
    return float(np.sqrt(max(-float(np.mean(alternates)), 0.0) / square))
