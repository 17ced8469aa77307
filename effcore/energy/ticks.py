"""When a counter moved, and what it would have shown in between.

A board's energy counter moves in steps, every 20 to 100 ms. Read at the two ends of a
window it is out by up to a step at each: 7.6 % of a second at 100 ms (95th percentile, in
simulated bursts). Timing the steps and interpolating between them leaves 1.6 %. So the
counter is looked at every 5 ms at first, to learn its period, and after each end of a
window up to its next step. The one before is known, or a period earlier.

:class:`PhaseAttributor <effcore.energy.phases.PhaseAttributor>` needs all steps timed. They
are followed with two or three looks each, shortly before the next is due.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

from effcore.series import Table

#: Steps that are kept, an hour at ten a second; of more, the older half is thinned.
KEPT_STEPS = 36_000
#: Time between two looks where a step is expected.
POLL_S = 0.005
#: A step between two looks no further apart than this is timed well enough to count on.
SHARP_S = 0.010
#: The next step after an edge is waited for no longer.
EDGE_S = 0.150
#: The counter is looked at closely for this long at first, to learn its period.
LEARN_S = 0.350
#: Steps are timed about this far apart; a quicker counter's others are left out.
SPACING_S = 0.100
#: Across more steps than this a spacing no longer tells how many they were.
MAX_STEPS = 8
#: Furthest before its expected time that a step is looked for.
MAX_LEAD_S = 0.050
#: After so many steps in a row that were missed, they are looked for less often.
MAX_MISSES = 10


class Tick(NamedTuple):
    """One step of the counter; ``t`` is in the middle of the two looks that it fell between."""

    t: float
    before_j: float
    after_j: float
    sharp: bool


@dataclass(slots=True, eq=False)
class Edge:
    """An end of a window, between two steps of the counter.

    Attributes:
        t: Its time, s.
        shown_j: What the counter showed then.
        since_s: When it had begun to show that, where it is known.
        next: The first step after it.
        extra_j: What the counter had not yet shown, J; ``None`` until that is known.
    """

    t: float
    shown_j: float
    since_s: float | None
    next: Tick | None = None
    extra_j: float | None = None

    @property
    def timed(self) -> bool:
        """Whether the step after it was timed well."""
        return self.next is not None and self.next.sharp

    def settle(self, period_s: float | None) -> None:
        """Interpolate between the steps on both sides, as far as they are known."""
        if self.next is None or (self.since_s is None and period_s is None):
            return
        since_s = self.since_s
        if since_s is None:
            assert period_s is not None, "one of the two was asked for above"
            since_s = self.next.t - period_s
        share = (self.t - since_s) / max(self.next.t - since_s, POLL_S)
        self.extra_j = min(max(share, 0.0), 1.0) * (self.next.after_j - self.shown_j)


class Ticks:
    """Times the steps of one counter, look by look; not for two threads at once.

    Args:
        follow: Whether to time steps that are beside no edge, too.

    Attributes:
        table: Steps that were timed well: seconds and joules, two rows of equal length; at
            most ``KEPT_STEPS`` of them.
        seen: Changes of the counter that were seen, well timed or not.
        period_s: Time between two steps, as learnt; ``None`` before.
    """

    def __init__(self, follow: bool = False) -> None:
        self.table = Table(2, limit=KEPT_STEPS)
        self.seen = 0
        self.period_s: float | None = None
        self._follow = follow
        self._t = self._shown_j = math.nan
        self._last: Tick | None = None
        self._spacings: deque[float] = deque(maxlen=15)
        self._edges: list[Edge] = []
        self._learn_until_s = -math.inf
        self._expected_s = math.inf
        self._lead_s = POLL_S
        self._misses = 0

    @property
    def settled(self) -> bool:
        """Whether every edge has found the steps around it, or was given up."""
        return not self._edges

    def due(self) -> float:
        """Return when to look next, in the time of the looks; infinity if nothing is due."""
        if self._edges or self._t < self._learn_until_s:
            return self._t + POLL_S
        if not self._follow:
            return math.inf
        return max(self._expected_s - self._lead_s, self._t + POLL_S)

    def edge(self) -> Edge:
        """Put an edge at the last look."""
        last = self._last
        known = last is not None and last.after_j == self._shown_j
        edge = Edge(self._t, self._shown_j, last.t if last is not None and known else None)
        self._edges.append(edge)
        return edge

    def look(self, t: float, shown_j: float) -> None:
        """Take a look at the counter: ``shown_j`` at time ``t``."""
        before_t, before_j = self._t, self._shown_j
        if math.isnan(before_t):
            self._learn_until_s = t + LEARN_S
        self._t, self._shown_j = t, shown_j
        if shown_j > before_j:
            sharp = t - before_t <= SHARP_S
            self._step(Tick((before_t + t) / 2, before_j, shown_j, sharp))
        elif shown_j < before_j:
            self._forget()
        if t > self._expected_s + self._lead_s + POLL_S:
            self._miss()
        self._settle_edges()

    def _step(self, tick: Tick) -> None:
        self.seen += 1
        for edge in self._edges:
            edge.next = edge.next or tick
        if not tick.sharp:
            return
        if self._last is not None:
            self._learn(self._last, tick)
        self._last = tick
        self.table.append(tick.t, tick.after_j)
        self._lead_s, self._misses = max(0.9 * self._lead_s, POLL_S), 0
        self._expect(tick.t)

    def _learn(self, last: Tick, tick: Tick) -> None:
        """Take the time between two steps into the period."""
        spacing_s, steps = tick.t - last.t, 1
        if last.after_j != tick.before_j:  # others were in between, perhaps unseen
            steps = round(spacing_s / self.period_s) if self.period_s else 0
        if 1 <= steps <= MAX_STEPS:
            self._spacings.append(spacing_s / steps)
            self.period_s = fmean(self._spacings)

    def _miss(self) -> None:
        """Begin earlier next time, and later where that has not helped for long."""
        self._misses += 1
        self._lead_s = min(2 * self._lead_s, MAX_LEAD_S)
        rest_s = SPACING_S * MAX_MISSES if self._misses > MAX_MISSES else 0.0
        self._expect(max(self._expected_s, self._t - SPACING_S) + rest_s)

    def _expect(self, from_s: float) -> None:
        if self.period_s is not None:
            self._expected_s = from_s + self.period_s * max(1, round(SPACING_S / self.period_s))

    def _settle_edges(self) -> None:
        for edge in self._edges:
            edge.settle(self.period_s)
            late = self._t - edge.t > (EDGE_S if edge.next is None else LEARN_S)
            if edge.extra_j is None and late:
                edge.extra_j = 0.0  # what it showed stands
        self._edges = [edge for edge in self._edges if edge.extra_j is None]

    def give_up(self) -> None:
        """Let what the counter showed at the edges stand."""
        for edge in self._edges:
            edge.extra_j = 0.0
        self._edges = []

    def _forget(self) -> None:
        """The counter began anew: nothing from before says anything about it."""
        self.give_up()
        self._last = None
