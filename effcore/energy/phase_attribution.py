"""Attribution of energy to the phases of a training step, by non-negative regression.

Phases are shorter than the time between two counter updates: no counter separates forward from
backward within 100 ms, and splitting by time is wrong by as much as the phases' powers differ:
by +330 % for waiting on data and -22 % for backward, in simulation. So the counter's gains
over many intervals between updates are regressed on the seconds of each phase in them. The
coefficients are the phases' mean powers, constrained to be non-negative; the time outside all
phases is one more column, so that no energy is counted twice. The regression needs the mix of
phases to vary between intervals. It does, because counter updates fall anywhere in a training
step.

After 300 s of simulated bursts with powers that vary by 2 % from step to step and exactly timed
updates, the 95th percentile of the error is 1 % for a phase of an eighth of the energy, less
for larger ones, and 5 to 10 % for phases of 2 to 4 % of it. Updates timed by polls every 5 ms
make that two to three times as much, which :func:`align_intervals` corrects for. The energy
outside all phases, where that is 3 % of the time and idle, has an interval wider than its value.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from effcore.records import PHASES, Energy, FloatArray, PhaseEvent
from effcore.records.attribution import NO_PHASE, AttributedPhaseEnergy, PhaseAttribution

#: Fewest intervals from which their scatter can be estimated.
MIN_INTERVALS = 100
#: Consecutive intervals that are resampled as one block, since their errors are correlated.
BLOCK_INTERVALS = 10
RESAMPLES = 200
#: Most blocks. Beyond, neighbours are merged: sums of products keep the value unchanged, and
#: longer blocks only make the interval wider.
MAX_BLOCKS = 512
#: Factor by which intervals are widened. Resampling misses that the timing error is itself
#: estimated, and few blocks scatter too little. In simulated runs of 20, 60 and 300 s, polled
#: every 5 ms, resampled intervals contained the truth in 91, 91 and 85 of 100 cases; widened
#: by this factor on both sides, in 96, 96 and 94.
INTERVAL_STRETCH = 1.25
#: Beyond this many intervals, 300 s at ten a second, the result's interval gets no narrower:
#: errors common to all updates of a run do not average out. Without this limit it contained the
#: truth in 90 of 100 cases after 1500 s.
MAX_AVERAGED_INTERVALS = 3000
#: A phase whose time varies independently of the others' by less than this share cannot be
#: separated from them.
MIN_INDEPENDENT_FRAC = 1e-6
#: Below these, a sum of products, s², and an eigenvalue relative to the largest are rounding.
MIN_SQUARE_SUM, MIN_EIGENVALUE_FRAC = 1e-30, 1e-11
#: Candidate lags, s, which are added to the update times.
CANDIDATE_LAGS_S: Final = np.arange(-0.010, 0.0051, 0.001)
#: Random draws of timing errors, over which their effect is averaged.
TIMING_DRAWS: Final = 4
#: Intervals that are attributed together: enough to estimate their lag, which may change.
CHUNK_INTERVALS: Final = 600
#: Most stored marks, 16 bytes each; beyond, fewer intervals are attributed together.
MAX_PHASE_MARKS: Final = 200_000
#: Longer than any lag plus any timing error of an update, s.
_MARK_MARGIN_S: Final = 0.2


class PhaseSpan(NamedTuple):
    """One occurrence of one phase, in the clock of the counter updates, s."""

    phase: str
    begin_s: float
    end_s: float


class PhaseAttributor:
    """Collects intervals between counter updates and attributes their energy to phases.

    Args:
        phases: The phases' names.
        seed: Seed of the resampling behind the intervals.

    Raises:
        ValueError: There is no phase, a name occurs twice, or a name is ``NO_PHASE``.
    """

    def __init__(self, phases: Sequence[str], seed: int = 0) -> None:
        if not phases or len({*phases, NO_PHASE}) != len(phases) + 1:
            raise ValueError(
                f"phases={list(phases)!r} is not allowed: name at least one, each only once, "
                f"and do not use {NO_PHASE!r}"
            )
        self.phases = tuple(phases)
        self._seed = seed
        size = len(phases) + 1
        self._squares = np.empty((0, size, size))  # per block: sums of products of seconds, s²
        self._products = np.empty((0, size))  # per block: sums of seconds times joules, J s
        self._intervals_per_block = BLOCK_INTERVALS
        self._phase_seconds = np.zeros(size)
        self._joules = 0.0
        self.intervals = 0

    def add_stretch(self, counter_updates: FloatArray, spans: Iterable[PhaseSpan]) -> None:
        """Add an uninterrupted part of training.

        Args:
            counter_updates: Counter updates, seconds and joules, shape (2, n); see
                ``RunMeter.counter_updates``.
            spans: All phases in that time, in any order; those of one phase do not overlap.

        Raises:
            ValueError: A span has an unknown phase.
        """
        phase_spans: dict[str, list[tuple[float, float]]] = {phase: [] for phase in self.phases}
        for span in spans:
            if span.phase not in phase_spans:
                raise ValueError(
                    f"a span of phase {span.phase!r} is not allowed: the phases are "
                    f"{', '.join(self.phases)}"
                )
            phase_spans[span.phase].append((span.begin_s, span.end_s))
        times = counter_updates[0]
        columns = [_phase_seconds_between(times, phase_spans[phase]) for phase in self.phases]
        self.add_intervals(np.diff(times), np.column_stack(columns), np.diff(counter_updates[1]))

    def add_intervals(
        self,
        length: FloatArray,
        seconds: FloatArray,
        joules: FloatArray,
        timing_excess: FloatArray | None = None,
    ) -> None:
        """Add intervals between counter updates; only sums over blocks of them are stored.

        Args:
            length: Length of each interval, s, shape (n,).
            seconds: Seconds in each phase, shape (n, phases).
            joules: The counter's gain, J, shape (n,).
            timing_excess: What timing errors add to the products of the seconds of each two
                phases, the time outside phases last, s², shape (n, phases + 1, phases + 1).
        """
        unphased_seconds = np.maximum(length - seconds.sum(axis=1), 0.0)
        rows = np.column_stack([seconds, unphased_seconds])
        squares = np.einsum("ip,iq->ipq", rows, rows)
        squares -= 0.0 if timing_excess is None else timing_excess
        begins = np.arange(0, len(rows), self._intervals_per_block)
        if len(begins):
            products = np.add.reduceat(rows * joules[:, None], begins)
            self._squares = np.concatenate([self._squares, np.add.reduceat(squares, begins)])
            self._products = np.concatenate([self._products, products])
        self._phase_seconds += rows.sum(axis=0)
        self._joules += float(joules.sum())
        self.intervals += len(rows)
        while len(self._squares) > MAX_BLOCKS:  # merge neighbours
            begins = np.arange(0, len(self._squares), 2)
            self._squares = np.add.reduceat(self._squares, begins)
            self._products = np.add.reduceat(self._products, begins)
            self._intervals_per_block *= 2

    def attribute(self) -> tuple[AttributedPhaseEnergy, ...]:
        """Return the energy of each phase, in order, and last of the time outside all phases.

        Raises:
            ValueError: Fewer than ``MIN_INTERVALS`` intervals were added.
        """
        if self.intervals < MIN_INTERVALS:
            raise ValueError(
                f"{self.intervals} counter updates are too few to attribute energy to phases: "
                f"train for at least {MIN_INTERVALS} (10 s at ten a second)"
            )
        present = np.flatnonzero(self._phase_seconds > 0)
        squares = self._squares[:, present][:, :, present]
        products, seconds = self._products[:, present], self._phase_seconds[present]
        values_j = nonnegative_least_squares(squares.sum(axis=0), products.sum(axis=0)) * seconds
        n = len(squares)
        generator = np.random.default_rng(self._seed)
        counts = generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
        sums = zip(np.tensordot(counts, squares, axes=1), counts @ products, strict=True)
        resampled_w = np.array(
            [nonnegative_least_squares(square, product) for square, product in sums]
        )
        lows_j, highs_j = np.quantile(resampled_w * seconds, [0.025, 0.975], axis=0)
        stretch = INTERVAL_STRETCH * max(self.intervals / MAX_AVERAGED_INTERVALS, 1.0) ** 0.5
        independent_fracs = _independent_fracs(squares.sum(axis=0))
        names = (*self.phases, NO_PHASE)
        energies = [AttributedPhaseEnergy(name, 0.0, 0.0, 0.0, 0.0) for name in names]
        for i, column in enumerate(present.tolist()):
            name, phase_s, value_j = names[column], float(seconds[i]), float(values_j[i])
            if independent_fracs[i] < MIN_INDEPENDENT_FRAC:
                energies[column] = AttributedPhaseEnergy(name, None, 0.0, self._joules, phase_s)
                continue
            lo_j = max(value_j - stretch * max(value_j - float(lows_j[i]), 0.0), 0.0)
            hi_j = value_j + stretch * max(float(highs_j[i]) - value_j, 0.0)
            energies[column] = AttributedPhaseEnergy(name, value_j, lo_j, hi_j, phase_s)
        return tuple(energies)


def _phase_seconds_between(times: FloatArray, spans: list[tuple[float, float]]) -> FloatArray:
    """Return the seconds that the spans cover between consecutive ``times``, shape (n - 1,)."""
    if not spans:
        return np.zeros(len(times) - 1)
    edges = np.array(sorted(spans))
    cumulative_seconds = np.cumsum(edges[:, 1] - edges[:, 0])
    seconds_at_edges = np.column_stack(
        [cumulative_seconds - (edges[:, 1] - edges[:, 0]), cumulative_seconds]
    )
    return np.diff(np.interp(times, edges.ravel(), seconds_at_edges.ravel()))


def nonnegative_least_squares(square: FloatArray, product: FloatArray) -> FloatArray:
    """Return the non-negative least-squares solution from the sums of products of the rows."""
    from scipy.optimize import nnls  # slow to import, and every run imports this package

    norms = np.sqrt(np.maximum(np.diag(square), MIN_SQUARE_SUM))
    eigenvalues, eigenvectors = np.linalg.eigh(square / np.outer(norms, norms))
    # After the timing excess is subtracted, the matrix may not be positive semidefinite:
    # negative eigenvalues are clipped, which gives the nearest matrix that is.
    roots = np.sqrt(np.maximum(eigenvalues, MIN_EIGENVALUE_FRAC * eigenvalues[-1]))
    target = (eigenvectors.T @ (product / norms)) / roots
    solution: FloatArray = nnls(roots[:, None] * eigenvectors.T, target)[0] / norms
    return solution


def _independent_fracs(square: FloatArray) -> FloatArray:
    """Return the share of each column that the other columns do not explain."""
    norms = np.sqrt(np.maximum(np.diag(square), MIN_SQUARE_SUM))
    correlations = square / np.outer(norms, norms)
    independent_fracs = np.empty(len(correlations))
    for column in range(len(correlations)):
        others = np.delete(np.arange(len(correlations)), column)
        column_correlations = correlations[others, column]
        independent_fracs[column] = (
            1.0
            - column_correlations
            @ np.linalg.lstsq(correlations[np.ix_(others, others)], column_correlations)[0]
        )
    return independent_fracs


# Alignment of counter updates with phase marks -------------------------------------------


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
    """Intervals aligned with the phases, as :meth:`PhaseAttributor.add_intervals` takes them."""

    seconds: FloatArray  # in each phase, the time outside phases included, shape (n, phases)
    timing_excess: FloatArray  # added by timing errors to products of the seconds, s²
    lag_s: float  # added to the times
    timing_error_s: float  # standard deviation of an update's time


def align_intervals(
    timeline: PhaseTimeline, intervals: CounterIntervals, generator: np.random.Generator
) -> AlignedIntervals:
    """Return the seconds of each phase in each interval, corrected for timing errors.

    An update is timed by polls 5 ms apart, and a board may publish its count late. The delay
    that all updates share, the lag, assigns a phase's joules to its neighbours: a lag of 1 ms
    put a phase of 16 ms off by 3 % in simulation. The lag is found by a search: the true one has
    the smallest sum of squared residuals.

    The error that differs from update to update adds to the scatter of the seconds and so pulls
    the phases' powers together (errors in variables). Its size follows from the residuals of
    adjacent intervals, which it makes alternate in sign: a late update gives to one interval
    what it takes from the next. Its contribution to the sums of products is then subtracted.
    Observed and true times are exchangeable here, so this is half of what errors that are
    independent of the truth would add (compare Fuller, Measurement Error Models, 1987, section
    1.2).
    """
    lag_s = _estimate_lag(timeline, intervals)
    begins, ends = intervals.begins + lag_s, intervals.ends + lag_s
    elapsed = timeline.phase_seconds_until(begins), timeline.phase_seconds_until(ends)
    seconds = elapsed[1] - elapsed[0]
    powers, residuals = _fit_phase_powers(seconds, intervals.joules)
    adjacent = intervals.ends[:-1] == intervals.begins[1:]
    error_s = 0.0
    neighbour_products = residuals[:-1][adjacent] * residuals[1:][adjacent]
    mean_square_power = float(np.mean(powers[timeline.phases_at(ends)] ** 2))
    if len(neighbour_products) and mean_square_power:
        alternation = max(-float(np.mean(neighbour_products)), 0.0)
        error_s = float(np.sqrt(alternation / mean_square_power))
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
        elapsed = timeline.phase_seconds_until(intervals.begins + lag_s)
        seconds = timeline.phase_seconds_until(intervals.ends + lag_s) - elapsed
        _, residuals = _fit_phase_powers(seconds, intervals.joules)
        squared_residuals.append(float(np.sum(residuals**2)))
    best = int(np.argmin(squared_residuals))
    offset_steps = 0.0
    if 0 < best < len(squared_residuals) - 1:
        before, minimum, after = squared_residuals[best - 1 : best + 2]
        curvature = before - 2 * minimum + after
        offset_steps = 0.5 * (before - after) / curvature if curvature > 0 else 0.0
    step_s = CANDIDATE_LAGS_S[1] - CANDIDATE_LAGS_S[0]
    return float(CANDIDATE_LAGS_S[best] + offset_steps * step_s)


# A running training ----------------------------------------------------------------------


class RunPhaseAttributor:
    """Attributes the energy of a running training to phases; only for the training thread.

    Counter updates and phase marks are attributed about once a minute, and only sums are stored,
    so that memory does not grow with the length of a run. Intervals that touch a pause are left
    out.

    Args:
        counter_updates_since: Returns the counter updates from a number on, as
            ``RunMeter.counter_updates_since``; ``None`` where updates are not timed.
    """

    def __init__(
        self, counter_updates_since: Callable[[int], tuple[FloatArray, int]] | None
    ) -> None:
        self._counter_updates_since = counter_updates_since
        self._marks: list[FloatArray] = []
        self._intervals: list[FloatArray] = []  # rows: begin, end, joules
        self._updates_read = 0  # counter updates taken from the meter
        self._pauses: deque[tuple[float, float]] = deque()
        self._attributor = PhaseAttributor(PHASES)
        self._generator = np.random.default_rng(0)
        self._failure_reason = ""

    def add_pause(self, begin_s: float, end_s: float) -> None:
        """Leave out the time between two monotonic times, s."""
        self._pauses.append((begin_s, end_s))

    def add_event(self, event: PhaseEvent) -> None:
        """Add the phases that began since the last event; never raises."""
        updates_since, marks = self._counter_updates_since, event.marks
        if updates_since is None or marks is None or not marks.shape[1] or self._failure_reason:
            return
        try:
            self._marks.append(marks)
            self._add_counter_updates(*updates_since(self._updates_read))
            mark_count = sum(part.shape[1] for part in self._marks)
            interval_count = sum(part.shape[1] for part in self._intervals)
            if interval_count >= CHUNK_INTERVALS + MIN_INTERVALS:
                self._attribute_intervals(CHUNK_INTERVALS)
            elif mark_count > MAX_PHASE_MARKS:
                self._attribute_intervals(interval_count)
            elif not interval_count and mark_count > CHUNK_INTERVALS:
                self._keep_marks_from(float(marks[1, -1]))
        except Exception as error:  # failed attribution must not stop training
            self._failure_reason = f"attribution to phases failed: {type(error).__name__}"

    def finish(self, energy: Energy) -> PhaseAttribution:
        """Return the energy of each phase, or why it is not known; no more events may follow.

        Never raises: a failure becomes the reason.

        Args:
            energy: The run's energy.
        """
        try:
            if self._marks and not self._failure_reason:
                self._attribute_intervals(sum(part.shape[1] for part in self._intervals))
            if why := self._failure_reason or self._unavailable_reason(energy):
                return PhaseAttribution(why=why)
            phases = self._attributor.attribute()
        except Exception as error:  # the run itself has finished without an error
            return PhaseAttribution(why=f"attribution to phases failed: {type(error).__name__}")
        notes = [
            f"attributed by regression of the counter's gains ({energy.quality.value}); the 95 % "
            "intervals cover the regression only, the instrument's error is additional"
        ]
        if energy.contended:
            notes.append("other processes used the board too: their energy is included")
        covered_frac = sum(phase.seconds for phase in phases) / max(energy.seconds, 1e-9)
        notes.append(
            f"based on {min(covered_frac, 1.0):.0%} of the run's time, between counter updates"
        )
        return PhaseAttribution(phases, notes=tuple(notes))

    def _unavailable_reason(self, energy: Energy) -> str:
        if self._counter_updates_since is None:
            return (
                f"the updates of this source cannot be timed ({energy.source}), and attribution "
                "to phases needs them: train on a GPU with an energy counter"
            )
        if energy.joules is None:
            return "this run's energy is unknown, so none can be attributed to phases"
        if self._attributor.intervals < MIN_INTERVALS:
            return (
                f"{self._attributor.intervals} intervals between counter updates are too few to "
                f"attribute energy to phases: train for at least {MIN_INTERVALS} without pauses, "
                "about 15 s at ten a second"
            )
        return ""

    def _add_counter_updates(self, updates: FloatArray, update_count: int) -> None:
        """Add the intervals between counter updates up to the last phase mark."""
        marks_end_s = self._marks[-1][1, -1]
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
        marks = np.concatenate(self._marks, axis=1)
        intervals = np.hstack([np.empty((3, 0)), *self._intervals])
        self._intervals, oldest = [intervals[:, count:]], intervals[:, :count]
        if oldest.shape[1] >= MIN_INTERVALS:
            timeline = PhaseTimeline(marks, len(PHASES) + 1)
            aligned = align_intervals(timeline, CounterIntervals(*oldest), self._generator)
            seconds = aligned.seconds[:, : len(PHASES)]
            length = aligned.seconds.sum(axis=1)
            self._attributor.add_intervals(length, seconds, oldest[2], aligned.timing_excess)
        next_begin_s = intervals[0, count] if intervals.shape[1] > count else marks[1, -1]
        self._keep_marks_from(float(next_begin_s))

    def _keep_marks_from(self, since_s: float) -> None:
        """Drop marks of phases that ended before ``since_s`` less a margin for lag and error."""
        marks = np.concatenate(self._marks, axis=1)
        first = int(np.searchsorted(marks[1], since_s - _MARK_MARGIN_S)) - 1
        self._marks = [marks[:, max(first, 0) :]]
