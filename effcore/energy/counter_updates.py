"""When a counter moved, and what it would have shown in between.

A board's energy counter moves in steps, every 20 to 100 ms. Read at the two ends of a
window it is out by up to a step at each: 7.6 % of a second at 100 ms (95th percentile, in
simulated bursts). Timing the steps and interpolating between them leaves 1.6 %. So the
counter is looked at every 5 ms at first, to learn its period, and after each end of a
window up to its next step. The one before is known, or a period earlier.

:class:`PhaseAttributor <effcore.energy.phase_attribution.PhaseAttributor>` needs all steps timed.
They are followed with two or three looks each, shortly before the next is due.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

from effcore.records.append_only_table import AppendOnlyTable

#: Steps that are kept, an hour at ten a second; of more, the older half is thinned.
MAX_UPDATES = 36_000
#: Time between two looks where a step is expected.
POLL_INTERVAL_S = 0.005
#: A step between two looks no further apart than this is timed well enough to count on.
MAX_WELL_TIMED_GAP_S = 0.010
#: The next step after an edge is waited for no longer.
MAX_EDGE_WAIT_S = 0.150
#: The counter is looked at closely for this long at first, to learn its period.
PERIOD_LEARNING_S = 0.350
#: Steps are timed about this far apart; a quicker counter's others are left out.
TIMED_UPDATE_SPACING_S = 0.100
#: Across more steps than this a spacing no longer tells how many they were.
MAX_UPDATES_PER_SPACING = 8
#: Furthest before its expected time that a step is looked for.
MAX_LEAD_S = 0.050
#: After so many steps in a row that were missed, they are looked for less often.
MAX_MISSED_UPDATES = 10


class CounterUpdate(NamedTuple):
    """One step of the counter; ``t`` is in the middle of the two looks that it fell between."""

    t: float
    before_j: float
    after_j: float
    well_timed: bool


@dataclass(slots=True, eq=False)
class WindowEdge:
    """An end of a window, between two steps of the counter.

    Attributes:
        t: Its time, s.
        shown_j: What the counter showed then.
        shown_since_s: When it had begun to show that, where it is known.
        next_update: The first step after it.
        unshown_j: What the counter had not yet shown, J; ``None`` until that is known.
    """

    t: float
    shown_j: float
    shown_since_s: float | None
    next_update: CounterUpdate | None = None
    unshown_j: float | None = None

    @property
    def is_well_timed(self) -> bool:
        """Whether the step after it was timed well."""
        return self.next_update is not None and self.next_update.well_timed

    def interpolate(self, period_s: float | None) -> None:
        """Interpolate between the steps on both sides, as far as they are known."""
        if self.next_update is None or (self.shown_since_s is None and period_s is None):
            return
        since_s = self.shown_since_s
        if since_s is None:
            assert period_s is not None, "one of the two was asked for above"
            since_s = self.next_update.t - period_s
        share = (self.t - since_s) / max(self.next_update.t - since_s, POLL_INTERVAL_S)
        self.unshown_j = min(max(share, 0.0), 1.0) * (self.next_update.after_j - self.shown_j)


class CounterUpdateTimer:
    """Times the steps of one counter, look by look; not for two threads at once.

    Args:
        time_all_updates: Whether to time steps that are beside no edge, too.

    Attributes:
        table: Steps that were timed well: seconds and joules, two rows of equal length; at
            most ``KEPT_STEPS`` of them.
        update_count: Changes of the counter that were seen, well timed or not.
        period_s: Time between two steps, as learnt; ``None`` before.
    """

    def __init__(self, time_all_updates: bool = False) -> None:
        self.table = AppendOnlyTable(2, limit=MAX_UPDATES)
        self.update_count = 0
        self.period_s: float | None = None
        self._time_all_updates = time_all_updates
        self._last_poll_s = self._shown_j = math.nan
        self._last_update: CounterUpdate | None = None
        self._spacings: deque[float] = deque(maxlen=15)
        self._edges: list[WindowEdge] = []
        self._learn_until_s = -math.inf
        self._expected_s = math.inf
        self._lead_s = POLL_INTERVAL_S
        self._missed_updates = 0

    @property
    def edges_settled(self) -> bool:
        """Whether every edge has found the steps around it, or was given up."""
        return not self._edges

    def next_poll_s(self) -> float:
        """Return when to look next, in the time of the looks; infinity if nothing is due."""
        if self._edges or self._last_poll_s < self._learn_until_s:
            return self._last_poll_s + POLL_INTERVAL_S
        if not self._time_all_updates:
            return math.inf
        return max(self._expected_s - self._lead_s, self._last_poll_s + POLL_INTERVAL_S)

    def add_edge(self) -> WindowEdge:
        """Put an edge at the last look."""
        last = self._last_update
        known = last is not None and last.after_j == self._shown_j
        edge = WindowEdge(
            self._last_poll_s, self._shown_j, last.t if last is not None and known else None
        )
        self._edges.append(edge)
        return edge

    def add_poll(self, t: float, shown_j: float) -> None:
        """Take a look at the counter: ``shown_j`` at time ``t``."""
        before_t, before_j = self._last_poll_s, self._shown_j
        if math.isnan(before_t):
            self._learn_until_s = t + PERIOD_LEARNING_S
        self._last_poll_s, self._shown_j = t, shown_j
        if shown_j > before_j:
            sharp = t - before_t <= MAX_WELL_TIMED_GAP_S
            self._add_update(CounterUpdate((before_t + t) / 2, before_j, shown_j, sharp))
        elif shown_j < before_j:
            self._reset()
        if t > self._expected_s + self._lead_s + POLL_INTERVAL_S:
            self._count_missed_update()
        self._settle_edges()

    def _add_update(self, update: CounterUpdate) -> None:
        self.update_count += 1
        for edge in self._edges:
            edge.next_update = edge.next_update or update
        if not update.well_timed:
            return
        if self._last_update is not None:
            self._learn_period(self._last_update, update)
        self._last_update = update
        self.table.append(update.t, update.after_j)
        self._lead_s, self._missed_updates = max(0.9 * self._lead_s, POLL_INTERVAL_S), 0
        self._schedule_next_update(update.t)

    def _learn_period(self, last: CounterUpdate, update: CounterUpdate) -> None:
        """Take the time between two steps into the period."""
        spacing_s, steps = update.t - last.t, 1
        if last.after_j != update.before_j:  # others were in between, perhaps unseen
            steps = round(spacing_s / self.period_s) if self.period_s else 0
        if 1 <= steps <= MAX_UPDATES_PER_SPACING:
            self._spacings.append(spacing_s / steps)
            self.period_s = fmean(self._spacings)

    def _count_missed_update(self) -> None:
        """Begin earlier next time, and later where that has not helped for long."""
        self._missed_updates += 1
        self._lead_s = min(2 * self._lead_s, MAX_LEAD_S)
        rest_s = (
            TIMED_UPDATE_SPACING_S * MAX_MISSED_UPDATES
            if self._missed_updates > MAX_MISSED_UPDATES
            else 0.0
        )
        self._schedule_next_update(
            max(self._expected_s, self._last_poll_s - TIMED_UPDATE_SPACING_S) + rest_s
        )

    def _schedule_next_update(self, from_s: float) -> None:
        if self.period_s is not None:
            self._expected_s = from_s + self.period_s * max(
                1, round(TIMED_UPDATE_SPACING_S / self.period_s)
            )

    def _settle_edges(self) -> None:
        for edge in self._edges:
            edge.interpolate(self.period_s)
            late = self._last_poll_s - edge.t > (
                MAX_EDGE_WAIT_S if edge.next_update is None else PERIOD_LEARNING_S
            )
            if edge.unshown_j is None and late:
                edge.unshown_j = 0.0  # what it showed stands
        self._edges = [edge for edge in self._edges if edge.unshown_j is None]

    def abandon_edges(self) -> None:
        """Let what the counter showed at the edges stand."""
        for edge in self._edges:
            edge.unshown_j = 0.0
        self._edges = []

    def _reset(self) -> None:
        """The counter began anew: nothing from before says anything about it."""
        self.abandon_edges()
        self._last_update = None
