"""Overlay of runs: loss and metric on the validation split, over one axis."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from effcore.figures.overlay_chart import (
    MAX_LINES,
    OVERLAY_AXES,
    OverlayLine,
    overlay_figure,
    overlay_line,
)
from effcore.registry import UnknownNameError
from effcore.runs.manager import shared_run_manager
from effcore.store import RunSummary
from effcore.tasks.base import TASKS
from pages.ui.display_names import run_title


def show_overlay(runs: Sequence[RunSummary]) -> None:
    """Draw the curves of the runs, one chart for each metric and each kind of loss."""
    over = st.radio(
        "Horizontal axis",
        list(OVERLAY_AXES),
        format_func=OVERLAY_AXES.__getitem__,
        key="overlay-over",
        horizontal=True,
    )
    drawn, names = list(runs[:MAX_LINES]), _distinct_run_names(runs[:MAX_LINES])
    curves = {run.run_id: shared_run_manager().store.read_eval_curve(run.run_id) for run in drawn}
    charts: dict[tuple[str, str, bool], list[OverlayLine]] = {}
    for place, run in enumerate(drawn):
        curve = curves[run.run_id]
        for kind in ("metric", "loss"):
            title, percent = _column_title(run, kind)
            if curve is None:
                continue
            line = overlay_line(names[place], place, curve, kind, over)
            if line is not None:
                charts.setdefault((kind, title, percent), []).append(line)
    if not charts:
        st.caption("These runs have no evaluations yet.")
    columns = [column for _ in range(0, len(charts), 2) for column in st.columns(2)]
    for column, ((kind, title, percent), lines) in zip(columns, charts.items(), strict=False):
        figure = overlay_figure(
            lines, f"{title}, validation", over, percent=percent, log=kind == "loss"
        )
        column.plotly_chart(figure, key=f"overlay-{kind}-{title}", alt=_alt_text(title, lines))
    if len(runs) > MAX_LINES:
        st.caption(f"Only the first {MAX_LINES} of {len(runs)} runs are drawn.")


def _column_title(run: RunSummary, column: str) -> tuple[str, bool]:
    """Return the title of a column, and whether its values are shares."""
    try:
        task = TASKS.get(run.config.task)
    except UnknownNameError:
        return column.capitalize(), False
    if column == "loss":
        return task.loss_label, False
    metric = task.metric
    percent = metric.unit == "%"
    return (
        metric.label if percent or not metric.unit else f"{metric.label} ({metric.unit})"
    ), percent


def _distinct_run_names(runs: Sequence[RunSummary]) -> list[str]:
    """Return the names of the runs, with the end of the id where names are equal."""
    names = [run.labels.name or run_title(run) for run in runs]
    return [
        f"{name} · {run.run_id[-4:]}" if names.count(name) > 1 else name
        for name, run in zip(names, runs, strict=True)
    ]


def _alt_text(title: str, lines: Sequence[OverlayLine]) -> str:
    ends = "; ".join(f"{line.name} ends at {line.y[-1]:.4g}" for line in lines)
    return f"{title} on the validation split: {ends}."
