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
make that two to three times as much; :mod:`effcore.energy.counter_alignment` corrects for this.
The energy outside all phases, where that is 3 % of the time and idle, has an interval wider than
its value.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from effcore.records import FloatArray
from effcore.records.attribution import NO_PHASE, AttributedPhaseEnergy

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

ColumnIndices = NDArray[np.intp]


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
        self._merge_blocks()

    def _merge_blocks(self) -> None:
        """Merge neighbouring blocks until there are at most ``MAX_BLOCKS``."""
        while len(self._squares) > MAX_BLOCKS:
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
        names, present_columns = (*self.phases, NO_PHASE), np.flatnonzero(self._phase_seconds > 0)
        values, resampled = self._solve_with_resamples(present_columns)
        independent_fracs = _independent_fracs(
            self._squares.sum(axis=0)[np.ix_(present_columns, present_columns)]
        )
        energies = {
            names[column]: self._phase_energy(names[column], column, value, phase_draws)
            if independent_frac >= MIN_INDEPENDENT_FRAC
            else AttributedPhaseEnergy(
                names[column], None, 0.0, self._joules, float(self._phase_seconds[column])
            )
            for column, value, phase_draws, independent_frac in zip(
                present_columns.tolist(),
                values.tolist(),
                resampled.T,
                independent_fracs.tolist(),
                strict=True,
            )
        }
        return tuple(
            energies.get(name) or AttributedPhaseEnergy(name, 0.0, 0.0, 0.0, 0.0) for name in names
        )

    def _solve_with_resamples(self, present: ColumnIndices) -> tuple[FloatArray, FloatArray]:
        """Return joules of the present phases, and the joules from resampled blocks.

        Returns:
            Joules, shape (present,), and resampled ones, shape (``RESAMPLES``, present).
        """
        squares = self._squares[:, present][:, :, present]
        products, seconds = self._products[:, present], self._phase_seconds[present]
        powers = nonnegative_least_squares(squares.sum(axis=0), products.sum(axis=0))
        n = len(squares)
        generator = np.random.default_rng(self._seed)
        counts = generator.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
        sums = zip(np.tensordot(counts, squares, axes=1), counts @ products, strict=True)
        resampled_powers = np.array(
            [nonnegative_least_squares(square, product) for square, product in sums]
        )
        return powers * seconds, resampled_powers * seconds

    def _phase_energy(
        self, name: str, column: int, value: float, drawn: FloatArray
    ) -> AttributedPhaseEnergy:
        lo, hi = np.quantile(drawn, [0.025, 0.975])
        stretch = INTERVAL_STRETCH * max(self.intervals / MAX_AVERAGED_INTERVALS, 1.0) ** 0.5
        lower_end = max(value - stretch * max(value - lo, 0.0), 0.0)
        upper_end = value + stretch * max(hi - value, 0.0)
        return AttributedPhaseEnergy(
            name, value, float(lower_end), float(upper_end), float(self._phase_seconds[column])
        )


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
