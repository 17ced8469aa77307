"""The charts of a run filled with its data, for reports and tests.

The live panel fills the same charts (:mod:`effcore.figures.charts`) in the browser, from the same
rows (:mod:`effcore.figures.rows`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from effcore.events import FloatArray, Snapshot
from effcore.figures.charts import AXIS_FORMATS, templates
from effcore.figures.rows import (
    AXES,
    HistogramBars,
    Mark,
    change_marks,
    histogram_rows,
    skipped_rows,
)
from effcore.stream.thin import Tables, tables

__all__ = ["figures", "skipped_rows", "smooth", "templates"]


def figures(
    snapshot: Snapshot,
    info: Mapping[str, Any] | None = None,
    *,
    reference: Snapshot | None = None,
    axis: str = "step",
    smoothing: float = 20.0,
) -> dict[str, go.Figure]:
    """Return the four charts filled with a run's data.

    Args:
        snapshot: The run.
        info: See :func:`templates`.
        reference: The dense run drawn as dashed curves.
        axis: Horizontal axis, one of :data:`effcore.figures.rows.AXES`.
        smoothing: Time constant of the smoothed training loss, in steps; 0 turns it off.
    """
    result = templates(snapshot, info or {})
    data = tables(snapshot)
    if reference is not None:
        data |= {f"ref_{name}": rows for name, rows in tables(reference).items()}
    bars, marks = histogram_rows(snapshot.histogram), change_marks(snapshot)
    for figure in result.values():
        for trace in figure.data:
            _fill(trace, data, bars, marks, axis, smoothing)
        if figure.layout.meta["time"]:
            figure.layout.xaxis.title.text = AXES[axis]
            figure.layout.xaxis.hoverformat = AXIS_FORMATS[axis]
    return result


def smooth(step: FloatArray, values: FloatArray, span: float) -> FloatArray:
    """Return an exponential average with time constant ``span`` in steps.

    Points may be unevenly spaced: each weighs 1 − exp(−steps since the last ÷ span).
    """
    if span <= 0 or values.size == 0:
        return values
    result, average, last = np.empty_like(values), math.nan, step[0]
    for i, (at, value) in enumerate(zip(step, values, strict=True)):
        weight = 1.0 if math.isnan(average) else 1.0 - math.exp(-(at - last) / span)
        average = value if math.isnan(average) else average + weight * (value - average)
        result[i], last = average, at
    return result


def _fill(
    trace: Any,
    data: Tables,
    bars: HistogramBars,
    marks: tuple[Mark, ...],
    axis: str,
    smoothing: float,
) -> None:
    table, column = trace.meta["table"], trace.meta["y"]
    if table == "marks":
        trace.x = [x for mark in marks for x in (mark.x[axis], mark.x[axis], None)]
        trace.y = [y for _ in marks for y in (0, 1, None)]
    elif table == "histogram":
        _fill_bars(trace, column, bars)
    elif table in data:
        rows = data[table]
        y = rows[column]
        trace.x, trace.y = rows[axis], y
        if trace.meta.get("smooth"):
            trace.y = smooth(rows["step"], y, smoothing)


def _fill_bars(trace: Any, column: str, bars: HistogramBars) -> None:
    if column == "threshold":
        below = bars.hi[bars.cut]
        at = float(np.log10(below.max())) if below.size else None
        trace.x, trace.y = [at, at], [0, 1]
        return
    shown = bars.cut if column == "cut" else ~bars.cut
    trace.x, trace.width, trace.y = bars.centre[shown], bars.width[shown], bars.examples[shown]
    trace.customdata = np.stack([bars.lo[shown], bars.hi[shown]], axis=1)
