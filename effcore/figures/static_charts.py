"""A run's charts with their data in them, for what is read without the live page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from tsdownsample import MinMaxLTTBDownsampler

from effcore.figures.run_charts import PlotlySpec, chart_templates
from effcore.figures.snapshot_rows import eval_rows, power_rows, step_rows
from effcore.records import FloatArray, Snapshot
from effcore.records.run_description import RunDescription

#: Points of a line that are drawn; all of them are in the table beside.
_MAX_POINTS = 1000
_DOWNSAMPLER = MinMaxLTTBDownsampler()  # type: ignore[no-untyped-call]


def filled_run_charts(snapshot: Snapshot, description: RunDescription) -> dict[str, PlotlySpec]:
    """Return loss, skipped computation and power over steps, filled.

    Args:
        snapshot: The run.
        description: Its titles and labels.
    """
    rows = {
        "steps": step_rows(snapshot),
        "evals": eval_rows(snapshot),
        "power": power_rows(snapshot),
    }
    figures = chart_templates(snapshot, description)
    return {name: _fill_figure(figures[name], rows) for name in ("loss", "skip", "power")}


def _fill_figure(figure: PlotlySpec, rows: Mapping[str, Mapping[str, FloatArray]]) -> PlotlySpec:
    traces = []
    for trace in figure["data"]:
        table = rows.get(trace["meta"]["table"])
        if table is None:  # knob changes, and a reference that is another run's
            continue
        x, y = table["step"], table[trace["meta"]["y"]]
        at = _thinned_indices(y)
        traces.append({**trace, "x": x[at].tolist(), "y": y[at].tolist()})
    return {**figure, "data": traces}


def _thinned_indices(y: FloatArray) -> Any:
    """Return which points are drawn: all, or those that keep the shape."""
    known = np.flatnonzero(np.isfinite(y))
    if len(known) <= _MAX_POINTS:
        return known
    return known[_DOWNSAMPLER.downsample(y[known], n_out=_MAX_POINTS)]
