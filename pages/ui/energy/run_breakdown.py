"""Energy of a run: its notes, time and energy by phase, and its cost to reach a target metric."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import streamlit as st

from effcore.energy.arithmetic import energy_to_target, seconds_to_target
from effcore.energy.sources.base import SOURCES
from effcore.impact.ranges import Range, number_text, range_text
from effcore.records import EVAL_COLUMNS, Energy, EnergyQuality, Snapshot
from effcore.records.attribution import ATTRIBUTED, NO_PHASE
from effcore.registry import UnknownNameError
from effcore.runs.summary import phase_seconds
from effcore.tasks.base import TASKS, Metric
from pages.ui.common import escape_markdown
from pages.ui.energy.sources import cached_source_survey
from pages.ui.tables import energy_text, name_amount_rows, text_table

_SEE_SOURCE_TABLE: Final = (
    "no energy source was available; the table at the top of this page gives the reasons and "
    "remedies for {titles}"
)
_SEE_RUN_RECORD: Final = "no energy source was available; the run's record gives the reasons"


def notes_heading(energy: Energy) -> str:
    """Return the heading of a run's notes."""
    is_unavailable = energy.quality is EnergyQuality.UNAVAILABLE
    return "Why there are no joules" if is_unavailable else "Before you quote it"


def notes_without_source_table(energy: Energy) -> list[str]:
    """Return a run's notes; those that repeat the table of this machine's sources become one."""
    titles_by_note = {
        f"{source.title}: {source.reason}; {source.remedy}": source.title
        for source in cached_source_survey()
    }
    titles = [titles_by_note[note] for note in energy.notes if note in titles_by_note]
    rest = [note for note in energy.notes if note not in titles_by_note]
    return [_SEE_SOURCE_TABLE.format(titles=", ".join(titles)), *rest] if titles else rest


def energy_for_claim(energy: Energy) -> Energy:
    """Return the energy for a claim, with one short note in place of the sources' reasons."""
    titles = tuple(f"{kind.title}: " for kind in SOURCES)
    refusals = [note for note in energy.notes if note.startswith(titles)]
    if energy.quality is not EnergyQuality.UNAVAILABLE or not refusals:
        return energy
    rest = [note for note in energy.notes if note not in refusals]
    return replace(energy, notes=(_SEE_RUN_RECORD, *rest))


_OTHER_PHASE = "reports and pictures"
_ENERGY_COLUMN = f"Energy, {ATTRIBUTED.upper()}, with its 95% interval"


def show_phase_table(snapshot: Snapshot) -> None:
    """Draw a table of the phases of a step: seconds, share of the time, and joules."""
    seconds_by_phase = phase_seconds(snapshot.phases)
    total = float(snapshot.phases[0, -1]) if seconds_by_phase else 0.0
    if not total:
        return
    st.subheader("Where the time went")
    seconds_by_phase[_OTHER_PHASE] = max(0.0, total - sum(seconds_by_phase.values()))
    energies = {phase.phase: phase.short_text() for phase in snapshot.attribution.phases}
    energies[_OTHER_PHASE] = energies.pop(NO_PHASE, "")
    rows = [
        {"Phase": name, "Seconds": number_text(value), "Share": f"{value / total:.0%}"}
        | ({_ENERGY_COLUMN: energies[name]} if snapshot.attribution.phases else {})
        for name, value in seconds_by_phase.items()
    ]
    text_table(rows)
    if snapshot.attribution.why:
        st.caption(escape_markdown(f"No energy by phase: {snapshot.attribution.why}."))
    else:
        st.caption(escape_markdown(f"Energy by phase: {'; '.join(snapshot.attribution.notes)}."))


def show_cost_to_target(snapshot: Snapshot) -> None:
    """Draw a field for a target of the validation metric, and the run's cost to reach it."""
    metric = _task_metric(snapshot)
    reached = snapshot.evals[EVAL_COLUMNS.index("metric")]
    reached = reached[np.isfinite(reached)]
    if metric is None or not len(reached):
        return
    st.subheader("Cost to reach a target")
    best = float((reached.max if metric.higher_is_better else reached.min)())
    entered = st.number_input(
        f"{metric.label} on validation, {metric.unit}".rstrip(", "),
        value=round(metric.factor * best, metric.digits),
        step=10.0**-metric.digits,
        format=f"%.{metric.digits}f",
        key=f"energy_target_{snapshot.run_id}",
        help="The default is the best value of this run.",
    )
    # The field shows a rounded value, which the best value must still reach.
    slack = 0.5 * 10.0**-metric.digits / metric.factor * (-1 if metric.higher_is_better else 1)
    target, better = float(entered) / metric.factor + slack, metric.higher_is_better
    seconds = seconds_to_target(snapshot, target, higher_is_better=better)
    if seconds is None:
        st.caption("This run did not reach the target.")
        return
    rows = [("Time", f"{number_text(seconds)} s")]
    energy = energy_to_target(snapshot, target, higher_is_better=better)
    rows.append(("Energy", energy_text(energy) if energy is not None else "not known"))
    if energy is not None and energy.lo is not None and energy.hi is not None:
        ends = range_text(Range(energy.lo, energy.hi))
        rows.append(("Interval", f"{ends} J {energy.quality.value.upper()}"))
    text_table(name_amount_rows(rows), show_header=False)


def _task_metric(snapshot: Snapshot) -> Metric | None:
    try:
        return TASKS.get(snapshot.config.task).metric
    except UnknownNameError:  # the task is not registered any more
        return None
