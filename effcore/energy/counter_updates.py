"""Timing of an energy counter's updates, and interpolation of window edges between them.

A board's energy counter updates in steps, every 20 to 100 ms. Read at the two edges of a
window it is off by up to one update at each: 7.6 % of a second at 100 ms (95th percentile, in
simulated bursts). Timing the updates and interpolating between them leaves 1.6 %. So the
counter is polled every 5 ms at first, to learn its period, and after each window edge until its
next update. The update before an edge is known, or is taken to be one period earlier.

:class:`PhaseAttributor <effcore.energy.phase_attribution.PhaseAttributor>` needs every update
timed. Each then takes two or three polls, shortly before it is due.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

from effcore.records.append_only_table import AppendOnlyTable

#: Most updates that are stored: an hour at ten a second. Beyond, the older half is thinned.
MAX_UPDATES = 36_000
#: Time between two polls while an update is expected, s.
POLL_INTERVAL_S = 0.005
#: An update is well timed if the polls on both sides of it are no further apart than this, s.
MAX_WELL_TIMED_GAP_S = 0.010
#: Longest wait for the first update after an edge, s.
MAX_EDGE_WAIT_S = 0.150
#: Time for which the counter is polled closely at first, to learn its period, s.
PERIOD_LEARNING_S = 0.350
#: Updates are timed about this far apart, s; a faster counter's updates in between are skipped.
TIMED_UPDATE_SPACING_S = 0.100
#: A spacing that spans more updates than this is not used to learn the period.
MAX_UPDATES_PER_SPACING = 8
#: Longest time before an update is expected at which polling for it starts, s.
MAX_LEAD_S = 0.050
#: After more consecutive missed updates than this, polling is less frequent.
MAX_MISSED_UPDATES = 10


class CounterUpdate(NamedTuple):
    """One update of the counter; ``t`` is the middle of the two polls around it, s."""

    t: float
    before_j: float
    after_j: float
    well_timed: bool


@dataclass(slots=True, eq=False)
class WindowEdge:
    """A window's edge between two counter updates.

    Attributes:
        t: Its time, s.
        shown_j: The counter's value at that time, J.
        shown_since_s: Time of the update to that value, s; ``None`` where it is not known.
        next_update: The first update after the edge.
        unshown_j: Energy used by then that the counter did not yet show, J; ``None`` until known.
    """

    t: float
    shown_j: float
    shown_since_s: float | None
    next_update: CounterUpdate | None = None
    unshown_j: float | None = None

    @property
    def is_well_timed(self) -> bool:
        """Whether the update after it is well timed."""
        return self.next_update is not None and self.next_update.well_timed

    def interpolate(self, period_s: float | None) -> None:
        """Set ``unshown_j`` by interpolation, if the updates on both sides are known."""
        if self.next_update is None or (self.shown_since_s is None and period_s is None):
            return
        since_s = self.shown_since_s
        if since_s is None:
            assert period_s is not None, "the condition above requires one of the two"
            since_s = self.next_update.t - period_s
        elapsed_frac = (self.t - since_s) / max(self.next_update.t - since_s, POLL_INTERVAL_S)
        self.unshown_j = min(max(elapsed_frac, 0.0), 1.0) * (
            self.next_update.after_j - self.shown_j
        )


class CounterUpdateTimer:
    """Times the updates of one counter from successive polls; not thread-safe.

    Args:
        time_all_updates: Whether to time every update, not only those next to window edges.

    Attributes:
        table: Well-timed updates: seconds and joules, two rows of equal length, at most
            ``MAX_UPDATES`` columns.
        update_count: Number of updates seen, well timed or not.
        period_s: Learnt time between two updates, s; ``None`` before it is learnt.
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
        """Whether no edge still waits for the updates around it."""
        return not self._edges

    def next_poll_s(self) -> float:
        """Return the time of the next poll, on the polls' clock, s; infinity if none is due."""
        if self._edges or self._last_poll_s < self._learn_until_s:
            return self._last_poll_s + POLL_INTERVAL_S
        if not self._time_all_updates:
            return math.inf
        return max(self._expected_s - self._lead_s, self._last_poll_s + POLL_INTERVAL_S)

    def add_edge(self) -> WindowEdge:
        """Add a window edge at the time of the last poll."""
        last = self._last_update
        is_last_update_timed = last is not None and last.after_j == self._shown_j
        edge = WindowEdge(
            self._last_poll_s,
            self._shown_j,
            last.t if last is not None and is_last_update_timed else None,
        )
        self._edges.append(edge)
        return edge

    def add_poll(self, t: float, shown_j: float) -> None:
        """Add a poll: the counter showed ``shown_j``, J, at time ``t``, s."""
        before_t, before_j = self._last_poll_s, self._shown_j
        if math.isnan(before_t):
            self._learn_until_s = t + PERIOD_LEARNING_S
        self._last_poll_s, self._shown_j = t, shown_j
        if shown_j > before_j:
            is_well_timed = t - before_t <= MAX_WELL_TIMED_GAP_S
            self._add_update(CounterUpdate((before_t + t) / 2, before_j, shown_j, is_well_timed))
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
        """Add the time between two updates to the estimate of the period."""
        spacing_s, updates = update.t - last.t, 1
        if last.after_j != update.before_j:  # there were updates in between, perhaps unseen
            updates = round(spacing_s / self.period_s) if self.period_s else 0
        if 1 <= updates <= MAX_UPDATES_PER_SPACING:
            self._spacings.append(spacing_s / updates)
            self.period_s = fmean(self._spacings)

    def _count_missed_update(self) -> None:
        """Start polling earlier for the next update; pause after many missed ones."""
        self._missed_updates += 1
        self._lead_s = min(2 * self._lead_s, MAX_LEAD_S)
        pause_s = (
            TIMED_UPDATE_SPACING_S * MAX_MISSED_UPDATES
            if self._missed_updates > MAX_MISSED_UPDATES
            else 0.0
        )
        self._schedule_next_update(
            max(self._expected_s, self._last_poll_s - TIMED_UPDATE_SPACING_S) + pause_s
        )

    def _schedule_next_update(self, since_s: float) -> None:
        if self.period_s is not None:
            self._expected_s = since_s + self.period_s * max(
                1, round(TIMED_UPDATE_SPACING_S / self.period_s)
            )

    def _settle_edges(self) -> None:
        for edge in self._edges:
            edge.interpolate(self.period_s)
            is_overdue = self._last_poll_s - edge.t > (
                MAX_EDGE_WAIT_S if edge.next_update is None else PERIOD_LEARNING_S
            )
            if edge.unshown_j is None and is_overdue:
                edge.unshown_j = 0.0  # the shown value is used as it is
        self._edges = [edge for edge in self._edges if edge.unshown_j is None]

    def abandon_edges(self) -> None:
        """Stop waiting for updates: use the values shown at the edges as they are."""
        for edge in self._edges:
            edge.unshown_j = 0.0
        self._edges = []

    def _reset(self) -> None:
        """Forget the last update after a counter reset."""
        self.abandon_edges()
        self._last_update = None
