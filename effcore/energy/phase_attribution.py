"""Joules of the phases of a step, which are shorter than a counter's own step: attributed.

No counter tells forward from backward within 100 ms, and sharing out by time errs as far
as the phases' powers differ: by +330 % for waiting on data, -22 % for backward, in
simulation. What a counter gained over many of its steps is therefore regressed on the time
that each phase had in them: the coefficients are the phases' mean powers, not negative,
and what is in no phase is one of them, so that nothing is given away twice. That needs
the mixture to vary, which it does by itself, a counter's steps ending anywhere in a
training step.

After 300 s of simulated bursts, powers 2 % apart from step to step, and exactly timed
steps the 95th percentile of the error is 1 % for a phase of an eighth of the energy, less
for larger ones, and 5 to 10 % for those of 2 to 4 % of it. Steps timed by looking every
5 ms make that two to three times as much; see :mod:`effcore.energy.counter_alignment` for what is
done about it. The time in no phase, where it is 3 % of the whole and idle, stays uncertain by
more than itself, as its interval says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from effcore.records import FloatArray
from effcore.records.attribution import NO_PHASE, AttributedPhaseEnergy

#: Fewer intervals say nothing about their own scatter.
MIN_INTERVALS = 100
#: Intervals in a row that are drawn together, since their errors hang together.
BLOCK_INTERVALS = 10
RESAMPLES = 200
#: Blocks that are kept. Beyond, neighbours are joined: sums of products lose nothing of the
#: value, and longer blocks only make the interval more careful.
MAX_BLOCKS = 512
#: What draws of blocks do not see of an interval: how far steps are mistimed is itself
#: estimated, and few blocks scatter too little. In simulated runs of 20, 60 and 300 s,
#: metered by looks every 5 ms, drawn intervals held the truth in 91, 91 and 85 of 100 cases;
#: this much longer on both sides in 96, 96 and 94.
INTERVAL_STRETCH = 1.25
#: From so many intervals on, 300 s at ten a second, one gets no narrower: what is common to
#: all steps of a run does not average out. Without this it held 90 of 100 after 1500 s.
MAX_AVERAGED_INTERVALS = 3000
#: A phase whose time varies by less than this share apart from the others' is not told
#: from them.
MIN_INDEPENDENT_FRAC = 1e-6
#: Below these a sum of products, s², and a share of the largest are rounding alone.
MIN_SQUARE_SUM, MIN_EIGENVALUE_FRAC = 1e-30, 1e-11

ColumnIndices = NDArray[np.intp]


class PhaseSpan(NamedTuple):
    """One stretch of one phase, in the time of the counter's steps."""

    phase: str
    begin_s: float
    end_s: float


class PhaseAttributor:
    """Gathers intervals between a counter's steps and attributes their joules.

    Args:
        phases: The phases' names.
        seed: Of the resampling behind the intervals.

    Raises:
        ValueError: No phase, one twice, or one called as the time in none is.
    """

    def __init__(self, phases: Sequence[str], seed: int = 0) -> None:
        if not phases or len({*phases, NO_PHASE}) != len(phases) + 1:
            raise ValueError(
                f"phases={list(phases)!r} is not allowed: name at least one, each once, "
                f"and none {NO_PHASE!r}"
            )
        self.phases = tuple(phases)
        self._seed = seed
        size = len(phases) + 1
        self._squares = np.empty((0, size, size))  # of the seconds of each block's rows
        self._products = np.empty((0, size))  # of them and the joules
        self._intervals_per_block = BLOCK_INTERVALS  # of a block
        self._phase_seconds = np.zeros(size)
        self._joules = 0.0
        self.intervals = 0

    def add_stretch(self, counter_updates: FloatArray, spans: Iterable[PhaseSpan]) -> None:
        """Add a stretch of training without a pause.

        Args:
            counter_updates: Steps of the counter, seconds and joules, shape (2, n); see
                ``RunMeter.ticks``.
            spans: All phases in that time, in any order; those of one phase do not overlap.

        Raises:
            ValueError: A span of an unknown phase.
        """
        ends: dict[str, list[tuple[float, float]]] = {phase: [] for phase in self.phases}
        for span in spans:
            if span.phase not in ends:
                raise ValueError(
                    f"a span of phase {span.phase!r} is not allowed: the phases are "
                    f"{', '.join(self.phases)}"
                )
            ends[span.phase].append((span.begin_s, span.end_s))
        times = counter_updates[0]
        columns = [_phase_seconds_between(times, ends[phase]) for phase in self.phases]
        self.add_intervals(np.diff(times), np.column_stack(columns), np.diff(counter_updates[1]))

    def add_intervals(
        self,
        length: FloatArray,
        seconds: FloatArray,
        joules: FloatArray,
        timing_excess: FloatArray | None = None,
    ) -> None:
        """Add intervals between steps of the counter; of them, blocks of sums are kept.

        Args:
            length: Of each, s, shape (n,).
            seconds: In each phase, shape (n, phases).
            joules: What the counter gained, shape (n,).
            timing_excess: What mistimed steps add to the products of the seconds of each two
                phases, those in none last, s², shape (n, phases + 1, phases + 1).
        """
        rest = np.maximum(length - seconds.sum(axis=1), 0.0)
        rows = np.column_stack([seconds, rest])
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
        """Join neighbouring blocks until there are few enough."""
        while len(self._squares) > MAX_BLOCKS:
            begins = np.arange(0, len(self._squares), 2)
            self._squares = np.add.reduceat(self._squares, begins)
            self._products = np.add.reduceat(self._products, begins)
            self._intervals_per_block *= 2

    def attribute(self) -> tuple[AttributedPhaseEnergy, ...]:
        """Return the joules of each phase, and of the time in none, in their order.

        Raises:
            ValueError: Fewer than ``MIN_INTERVALS`` intervals were added.
        """
        if self.intervals < MIN_INTERVALS:
            raise ValueError(
                f"{self.intervals} steps of the counter are too few to attribute phases: train "
                f"for at least {MIN_INTERVALS} (10 s at ten a second)"
            )
        names, present = (*self.phases, NO_PHASE), np.flatnonzero(self._phase_seconds > 0)
        values, drawn = self._solve_with_resamples(present)
        own = _independent_fracs(self._squares.sum(axis=0)[np.ix_(present, present)])
        found = {
            names[column]: self._phase_energy(names[column], column, value, ends)
            if own_frac >= MIN_INDEPENDENT_FRAC
            else AttributedPhaseEnergy(
                names[column], None, 0.0, self._joules, float(self._phase_seconds[column])
            )
            for column, value, ends, own_frac in zip(
                present.tolist(), values.tolist(), drawn.T, own.tolist(), strict=True
            )
        }
        return tuple(
            found.get(name) or AttributedPhaseEnergy(name, 0.0, 0.0, 0.0, 0.0) for name in names
        )

    def _solve_with_resamples(self, present: ColumnIndices) -> tuple[FloatArray, FloatArray]:
        """Return joules of the phases that there were, and those of drawn blocks.

        Returns:
            Joules, shape (present,), and (``RESAMPLES``, present).
        """
        squares = self._squares[:, present][:, :, present]
        products, had = self._products[:, present], self._phase_seconds[present]
        value = nonnegative_least_squares(squares.sum(axis=0), products.sum(axis=0))
        n = len(squares)
        draw = np.random.default_rng(self._seed)
        counts = draw.multinomial(n, np.full(n, 1 / n), size=RESAMPLES).astype(np.float64)
        sums = zip(np.tensordot(counts, squares, axes=1), counts @ products, strict=True)
        drawn = np.array([nonnegative_least_squares(square, product) for square, product in sums])
        return value * had, drawn * had

    def _phase_energy(
        self, name: str, column: int, value: float, drawn: FloatArray
    ) -> AttributedPhaseEnergy:
        lo, hi = np.quantile(drawn, [0.025, 0.975])
        stretch = INTERVAL_STRETCH * max(self.intervals / MAX_AVERAGED_INTERVALS, 1.0) ** 0.5
        least = max(value - stretch * max(value - lo, 0.0), 0.0)
        most = value + stretch * max(hi - value, 0.0)
        return AttributedPhaseEnergy(
            name, value, float(least), float(most), float(self._phase_seconds[column])
        )


def _phase_seconds_between(times: FloatArray, ends: list[tuple[float, float]]) -> FloatArray:
    """Return the time that spans have between each two of ``times``, shape (n - 1,)."""
    if not ends:
        return np.zeros(len(times) - 1)
    edges = np.array(sorted(ends))
    had = np.cumsum(edges[:, 1] - edges[:, 0])
    before = np.column_stack([had - (edges[:, 1] - edges[:, 0]), had])
    return np.diff(np.interp(times, edges.ravel(), before.ravel()))


def nonnegative_least_squares(square: FloatArray, product: FloatArray) -> FloatArray:
    """Return the non-negative least-squares solution of rows known by their products."""
    from scipy.optimize import nnls  # slow to import, and every run imports this folder

    norms = np.sqrt(np.maximum(np.diag(square), MIN_SQUARE_SUM))
    sizes, axes = np.linalg.eigh(square / np.outer(norms, norms))
    # Less what mistimed steps add, products may be those of no rows at all: of the nearest.
    roots = np.sqrt(np.maximum(sizes, MIN_EIGENVALUE_FRAC * sizes[-1]))
    target = (axes.T @ (product / norms)) / roots
    solution: FloatArray = nnls(roots[:, None] * axes.T, target)[0] / norms
    return solution


def _independent_fracs(square: FloatArray) -> FloatArray:
    """Return what share of each column the others leave unexplained."""
    norms = np.sqrt(np.maximum(np.diag(square), MIN_SQUARE_SUM))
    shared = square / np.outer(norms, norms)
    shares = np.empty(len(shared))
    for column in range(len(shared)):
        others = np.delete(np.arange(len(shared)), column)
        with_it = shared[others, column]
        shares[column] = 1.0 - with_it @ np.linalg.lstsq(shared[np.ix_(others, others)], with_it)[0]
    return shares
