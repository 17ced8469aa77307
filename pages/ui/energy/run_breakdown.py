"""Where a run's time went, and what it took to reach a metric that the reader names."""

from __future__ import annotations

import numpy as np
import streamlit as st

from effcore.energy.energy_to_target import energy_to_target, seconds_to_target
from effcore.impact.ranges import Range, number_text, range_text
from effcore.records import EVAL_COLUMNS, Snapshot
from effcore.records.attribution import ATTRIBUTED, NO_PHASE
from effcore.registry import UnknownNameError
from effcore.runs.summary import phase_seconds
from effcore.tasks.base import TASKS, Metric
from pages.ui.common import escape_markdown
from pages.ui.tables import energy_text, name_amount_rows, text_table

_OTHER_PHASE = "reports and pictures"
_ENERGY_COLUMN = f"Energy, {ATTRIBUTED.upper()}, with its 95% interval"


def show_phase_table(snapshot: Snapshot) -> None:
    """Draw the seconds of each phase of a step, their share, and the joules they took."""
    spent = phase_seconds(snapshot.phases)
    whole = float(snapshot.phases[0, -1]) if spent else 0.0
    if not whole:
        return
    st.subheader("Where the time went")
    spent[_OTHER_PHASE] = max(0.0, whole - sum(spent.values()))
    took = {found.phase: found.short_text() for found in snapshot.attribution.phases}
    took[_OTHER_PHASE] = took.pop(NO_PHASE, "")
    rows = [
        {"Phase": name, "Seconds": number_text(value), "Share": f"{value / whole:.0%}"}
        | ({_ENERGY_COLUMN: took[name]} if snapshot.attribution.phases else {})
        for name, value in spent.items()
    ]
    text_table(rows)
    if snapshot.attribution.why:
        st.caption(escape_markdown(f"No energy by phase: {snapshot.attribution.why}."))
    else:
        st.caption(escape_markdown(f"Energy by phase: {'; '.join(snapshot.attribution.notes)}."))


def show_cost_to_target(snapshot: Snapshot) -> None:
    """Ask for a value of the metric on validation, and say what it took to reach it."""
    metric = _task_metric(snapshot)
    reached = snapshot.evals[EVAL_COLUMNS.index("metric")]
    reached = reached[np.isfinite(reached)]
    if metric is None or not len(reached):
        return
    st.subheader("To a target")
    best = float((reached.max if metric.higher_is_better else reached.min)())
    asked = st.number_input(
        f"{metric.label} on validation, {metric.unit}".rstrip(", "),
        value=round(metric.factor * best, metric.digits),
        step=10.0**-metric.digits,
        format=f"%.{metric.digits}f",
        key=f"energy_target_{snapshot.run_id}",
        help="At first the best that this run reached.",
    )
    # What is shown is rounded: the best itself must still count as reached.
    slack = 0.5 * 10.0**-metric.digits / metric.factor * (-1 if metric.higher_is_better else 1)
    target, better = float(asked) / metric.factor + slack, metric.higher_is_better
    seconds = seconds_to_target(snapshot, target, higher_is_better=better)
    if seconds is None:
        st.caption("This run did not reach it.")
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
    except UnknownNameError:  # a task that is gone has lost its own
        return None
