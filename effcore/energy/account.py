"""What a meter does with its readings: windows, steps of the counter, rows.

Knows neither threads nor waiting; :class:`RunMeter <effcore.energy.meter.RunMeter>` calls
it from one thread at a time.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from effcore.energy.base import BoardState, EnergySource, Reading, Tenancy
from effcore.energy.crosscheck import CrossCheck
from effcore.energy.ticks import EDGE_S, Ticks
from effcore.energy.totals import row_of
from effcore.energy.window import Window
from effcore.events import POWER_COLUMNS, Energy
from effcore.series import Table

#: Columns of the meter's own trace, a row for each of the power table.
TRACE_COLUMNS = (
    "seconds",
    "power_average_w",
    "power_instant_w",
    "temperature_c",
    "sm_clock_mhz",
    "power_limit_w",
    "utilisation_frac",
    "throttled",
)
#: What there is to say of a board that says nothing.
NO_STATE = BoardState(math.nan, math.nan, math.nan, None, math.nan, math.nan)
#: Rows of the table and of the trace that are kept: an hour at ten a second. Of a longer run
#: the older half is thinned; totals are differences at edges and lose nothing.
KEPT_ROWS = 36_000
#: A state stands for no longer than this until the next one.
MAX_STATE_S = 2.0


class Span:
    """A window under way, or ended; what ``RunMeter.window`` gives.

    Args:
        name: What it covers.
        tell: Makes joules of it.
        through_pauses: Whether it goes on while the run is held.
    """

    def __init__(
        self, name: str, tell: Callable[[Span], Energy], through_pauses: bool = False
    ) -> None:
        self.name = name
        self.through_pauses = through_pauses
        self.window = Window()
        self.last: Reading | None = None  # the reading it was counted up to
        self.open = False
        self.sealed = False  # ended with its joules known, whatever comes after
        self.begun_s = math.nan  # by the run clock
        self.lasted_s = math.nan  # by the run clock, once it has ended
        self._tell = tell

    def energy(self) -> Energy:
        """Return the joules so far; final about 150 ms after its end. Waits for nothing."""
        return self._tell(self)


class Account:
    """Readings of one source, as windows and rows.

    Args:
        source: The opened instrument.
        clock: The run clock, s.
        follow: Whether to time all steps of the counter; see :class:`Ticks`.

    Attributes:
        table: Rows of ``POWER_COLUMNS``, at most ``KEPT_ROWS`` of them.
        trace: Rows of ``TRACE_COLUMNS``, as many.
        ticks: The steps of the counter.
        spans: Windows that were begun and not ended.
        state: The last known state of the board.
        failures_in_row: Readings that failed since the last good one.
        read_s: Monotonic time of the last good one; NaN before.
    """

    def __init__(
        self, source: EnergySource, clock: Callable[[], float], follow: bool = False
    ) -> None:
        self.table = Table(len(POWER_COLUMNS), limit=KEPT_ROWS)
        self.trace = Table(len(TRACE_COLUMNS), limit=KEPT_ROWS)
        self.ticks = Ticks(follow)
        self.spans: list[Span] = []
        self.state: BoardState | None = None
        self.failures_in_row = 0
        self.read_s = math.nan
        self._source = source
        self._clock = clock
        self._check = CrossCheck()
        self._last: Reading | None = None
        self._tenancy: Tenancy | None = None
        self._steps = 0

    @property
    def active(self) -> bool:
        """Whether anything is being metered just now."""
        return bool(self._open())

    def take(
        self,
        opening: Sequence[Span] = (),
        closing: Sequence[Span] = (),
        record: Span | None = None,
    ) -> None:
        """Take a reading, at which windows may start or stop.

        Args:
            opening: Windows that start with it.
            closing: Windows that stop with it.
            record: The window whose joules go into the table.

        Raises:
            Exception: Whatever the source raised. Windows then start with the next
                reading, and have stopped with the one before.
        """
        for span in opening:
            span.open = True
            span.window = span.window.shared(self._tenancy or Tenancy(False, "")).limited(
                (self.state or NO_STATE).power_limit_w
            )
        try:
            now = self._read()
            self._count(now, closing)
            if record is not None:
                self._record(now, record)
        finally:
            for span in closing:
                span.open, span.last = False, None

    def look(self) -> None:
        """Look at the counter alone, to time its steps; failing is left to readings."""
        with contextlib.suppress(Exception):
            self._follow(self._source.count())

    def note_state(self, state: BoardState | None) -> None:
        """Keep what the board is doing, its limit, and for how long it was held down."""
        before, self.state = self.state, state
        if state is None:
            return
        for span in self._open():
            span.window = span.window.limited(state.power_limit_w)
        if before is None or before.throttle_reasons is None:
            return
        until_s = min(state.t, before.t + MAX_STATE_S) if before.throttled else before.t
        for span in self._open():
            span.window = span.window.throttled(before.t, until_s)

    def note_tenancy(self, tenancy: Tenancy | None, spans: Sequence[Span] = ()) -> None:
        """Keep who uses the board, for all open windows and for ``spans``."""
        self._tenancy = tenancy
        if tenancy is not None:
            for span in {*self._open(), *spans}:
                span.window = span.window.shared(tenancy)

    def end_row(self, span: Span) -> None:
        """Add a row with the joules as they stand once the last edge was timed."""
        if self._source.ticks and self._last is not None and len(self.table):
            joules = row_of(span.window, self._last, self._source)[3:]
            self.table.append(*self.table.view()[:4, -1], *joules)
            self.trace.append(*self.trace.view()[:, -1])

    def _open(self) -> list[Span]:
        return [span for span in self.spans if span.open]

    def _read(self) -> Reading:
        try:
            now = self._source.read()
        except Exception:
            self.failures_in_row += 1
            for span in self._open():
                span.window = span.window.failed()
            raise
        self.failures_in_row, self.read_s = 0, now.t_mono
        return now

    def _count(self, now: Reading, closing: Sequence[Span]) -> None:
        self._follow(now)
        pair, steps = self._check.add(now), self.ticks.seen - self._steps
        self._steps = self.ticks.seen
        spans = self._open()
        edged = self._source.ticks and (closing or any(span.last is None for span in spans))
        edge = self.ticks.edge() if edged else None
        for span in spans:
            first = span.last is None
            window = span.window.plus(span.last, now, pair, steps)
            stops = span in closing
            if edge is not None and first is not stops:  # where both, it has no length
                window = window.with_edge(1 if stops else -1, edge)
            span.window, span.last = window.settled(), now

    def _follow(self, now: Reading) -> None:
        """Note a counter that cannot be right, and the steps of one that can."""
        before, self._last = self._last, now
        void = "" if before is None else wrong(before, now, self._source.most_w)
        for span in self._open() if void else ():
            if span.last is not None:  # what went wrong while it was held is none of its
                span.window = replace(span.window, void=span.window.void or void)
        if self._source.ticks:
            self.ticks.look(now.t_mono, now.energy_j)

    def _record(self, now: Reading, span: Span) -> None:
        seconds, state = self._clock(), self.state or NO_STATE
        self.table.append(seconds, *row_of(span.window, now, self._source))
        powers = (now.power_average_w, now.power_instant_w)
        clocks = (state.sm_clock_mhz, state.power_limit_w, state.utilisation_frac)
        throttled = math.nan if state.throttle_reasons is None else state.throttled
        self.trace.append(seconds, *powers, state.temperature_c, *clocks, throttled)


def joined(
    before: Mapping[str, Span], spans: Sequence[Span], tell: Callable[[Span], Energy]
) -> dict[str, Span]:
    """Return ended windows, those of one name taken together.

    Args:
        before: What others came to already, by name; left as it is.
        spans: Windows that have ended.
        tell: Makes joules of a window.
    """
    totals = dict(before)
    for span in spans:
        earlier, total = totals.get(span.name), Span(span.name, tell)
        total.window, total.lasted_s = span.window, span.lasted_s
        if earlier is not None:
            total.window = earlier.window.joined(span.window).settled()
            total.lasted_s += earlier.lasted_s
        total.sealed = True  # what was wrong with a window stands in it
        totals[span.name] = total
    return totals


def wrong(before: Reading, now: Reading, most_w: float) -> str:
    """Return why what a counter gained between two readings is no energy; empty where it is."""
    if now.energy_lo_j < before.energy_lo_j or now.energy_hi_j < before.energy_hi_j:
        return (
            f"the counter fell from {before.energy_hi_j:,.1f} to {now.energy_hi_j:,.1f} J "
            "(it was reset, as by a driver that is reloaded, or ran over more often than can be "
            "told): what this window took is not known"
        )
    gained_j, gap_s = now.energy_lo_j - before.energy_lo_j, now.t_mono - before.t_mono
    if gained_j > most_w * (gap_s + EDGE_S):  # it may show a whole step within a short gap
        return (
            f"the counter leapt by {gained_j:,.1f} J in {gap_s:.2f} s, and no such board draws "
            "that: what this window took is not known"
        )
    return ""
