"""The verdicts of RESULTS.md, judged again from the printed means, intervals and seeds.

``python -m tests.published`` prints every row with its verdict and exits with 1 where a printed
verdict is another one. The judge's own functions decide; a standard error is the half-width of a
printed interval, or the distance of a printed bound, over Student's t.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from scipy import special, stats

from effcore.studies.statistics import holm_adjusted
from effcore.studies.verdict import (
    NONINFERIORITY_ALPHA,
    SUPERIORITY_ALPHA,
    Outcome,
    min_seeds_for,
)
from effcore.tasks.base import TASKS

RESULTS = Path(__file__).parents[1] / "effcore" / "bench" / "RESULTS.md"
_NUMBER = r"([+-]\d+(?:\.\d+)?)"
_INTERVAL = re.compile(rf"{_NUMBER} \({_NUMBER} to {_NUMBER}\)")
_BOUND = re.compile(rf"{_NUMBER}, bound {_NUMBER}")
#: Seeds of the tables of several policies on one task.
_SAVINGS_SEEDS = 6


class Printed(NamedTuple):
    """A printed paired difference: its mean and standard error."""

    mean: float
    error: float

    def p_above(self, limit: float, seeds: int) -> float:
        """One-sided p of a mean above ``limit``."""
        if self.error < 1e-9:
            return 0.0 if self.mean > limit else 1.0
        return float(stats.t.sf((self.mean - limit) / self.error, seeds - 1))

    def p_below(self, limit: float, seeds: int) -> float:
        """One-sided p of a mean below ``limit``."""
        return Printed(-self.mean, self.error).p_above(-limit, seeds)


class Row(NamedTuple):
    """A row of a table that states a verdict."""

    table: str
    name: str
    against_full: Printed
    against_matched: Printed
    verdict: str


class Table(NamedTuple):
    """Rows judged together: the policies of one comparison."""

    name: str
    seeds: int
    margin: float
    matched_against_full: Printed | None
    rows: tuple[Row, ...]


def printed(text: str, seeds: int) -> Printed | None:
    """Read a difference with its interval or its one-sided bound."""
    if match := _INTERVAL.search(text):
        mean, lo, hi = map(float, match.groups())
        return Printed(mean, (hi - lo) / 2 / float(special.stdtrit(seeds - 1, 0.975)))
    if match := _BOUND.search(text):
        mean, bound = map(float, match.groups())
        return Printed(mean, (mean - bound) / float(special.stdtrit(seeds - 1, 0.95)))
    return None


def judged(table: Table) -> list[str]:
    """Return the verdict of each row, by the rule of the Compare page."""
    rows, seeds, margin = table.rows, table.seeds, table.margin
    if seeds < min_seeds_for(len(rows)):
        return [Outcome.TOO_FEW_SEEDS.value] * len(rows)
    noninferior = holm_adjusted([row.against_full.p_above(-margin, seeds) for row in rows])
    superior = holm_adjusted([row.against_matched.p_above(0.0, seeds) for row in rows])
    worse_full = holm_adjusted([row.against_full.p_below(-margin, seeds) for row in rows])
    worse_matched = holm_adjusted([row.against_matched.p_below(0.0, seeds) for row in rows])
    reference = table.matched_against_full
    over_trained = (
        reference is not None and reference.p_above(-margin, seeds) < NONINFERIORITY_ALPHA
    )
    verdicts = []
    for place in range(len(rows)):
        matches = noninferior[place] < NONINFERIORITY_ALPHA
        better = superior[place] < SUPERIORITY_ALPHA
        worse = min(worse_full[place], worse_matched[place]) < SUPERIORITY_ALPHA
        if worse and not better:
            outcome = Outcome.LOSS
        elif over_trained:
            outcome = Outcome.OVERTRAINED
        elif matches:
            outcome = Outcome.WIN if better else Outcome.TIE
        else:
            outcome = Outcome.BETTER_FOR_LESS if better else Outcome.INCONCLUSIVE
        verdicts.append(outcome.value)
    return verdicts


def margin_of(task: str) -> float:
    """Return a task's margin on the scale that its table is printed in."""
    metric = TASKS.get(task).metric
    return metric.margin * metric.factor


def tables(text: str) -> Iterator[Table]:
    """Yield the tables of a document that state verdicts."""
    lines = text.splitlines()
    task = ""
    for place, line in enumerate(lines):
        if match := re.match(
            r"(?:\*\*`|python -m effcore bench savings --tasks )([\w-]+)(?:`\*\*| --arms)", line
        ):
            task = match.group(1)
        if line.startswith("|-") and "verdict" in lines[place - 1]:
            head, body = _cells(lines[place - 1]), []
            for row in lines[place + 1 :]:
                if not row.startswith("|"):
                    break
                body.append(_cells(row))
            if head.count("verdict") > 1:
                yield from _columns(head, body)
            elif head[0] == "task, seeds":
                yield from _single(head, body)
            elif "against full training" in head:
                yield _several(task, head, body)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _single(head: list[str], body: list[list[str]]) -> Iterator[Table]:
    """Read a table whose rows are comparisons of one policy each."""
    place = {name: head.index(name) for name in head}
    for cells in body:
        match = re.match(r"`([\w-]+)`.*?, (\d+) seeds", cells[0])
        if match is None:
            continue
        task, seeds = match.group(1), int(match.group(2))
        full = printed(cells[place["against full training"]], seeds)
        matched = printed(cells[place["against same-budget training"]], seeds)
        if full is None or matched is None:
            continue
        name = "same-budget against full training"
        reference = printed(cells[place[name]], seeds) if name in place else None
        row = Row(task, cells[0], full, matched, cells[place["verdict"]])
        yield Table(cells[0], seeds, margin_of(task), reference, (row,))


def _several(task: str, head: list[str], body: list[list[str]]) -> Table:
    """Read a table of several policies on one task."""
    full, matched = head.index("against full training"), head.index("against same-budget training")
    rows, reference = [], None
    for cells in body:
        own = printed(cells[full], _SAVINGS_SEEDS)
        other = printed(cells[matched], _SAVINGS_SEEDS)
        if cells[0].startswith("same-budget training"):
            reference = own
        elif own is not None and other is not None and cells[-1] != "control":
            rows.append(Row(task, cells[0], own, other, cells[-1]))
    return Table(task, _SAVINGS_SEEDS, margin_of(task), reference, tuple(rows))


def _columns(head: list[str], body: list[list[str]]) -> Iterator[Table]:
    """Read a table whose columns are comparisons: a difference and a verdict each."""
    for place in range(1, len(head), 2):
        match = re.match(r"`([\w-]+)`, \d+%, (\d+) seeds", head[place])
        assert match is not None, head[place]
        task, seeds = match.group(1), int(match.group(2))
        rows, reference = [], None
        for cells in body:
            full = printed(cells[place].partition(";")[0], seeds)
            matched = printed(cells[place].partition(";")[2], seeds)
            if cells[0] == "same-budget training":
                reference = full
            elif full is not None and matched is not None and cells[place + 1] != "control":
                rows.append(Row(head[place], cells[0], full, matched, cells[place + 1]))
        yield Table(head[place], seeds, margin_of(task), reference, tuple(rows))


def main() -> int:
    """Print every verdict, and mark those that the document states otherwise."""
    wrong = 0
    for table in tables(RESULTS.read_text(encoding="utf-8")):
        for row, verdict in zip(table.rows, judged(table), strict=True):
            note = "" if verdict == row.verdict else f"  (the document says {row.verdict})"
            wrong += verdict != row.verdict
            sys.stdout.write(f"{table.name}: {row.name}: {verdict}{note}\n")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
