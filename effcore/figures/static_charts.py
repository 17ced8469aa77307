"""Charts of a run with their data, for reports and other static pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from tsdownsample import MinMaxLTTBDownsampler

from effcore.figures.run_charts import PlotlySpec, chart_templates
from effcore.figures.snapshot_rows import eval_rows, power_rows, step_rows
from effcore.records import FloatArray, Snapshot
from effcore.records.run_description import RunDescription

#: Most points drawn of a line; the table beside the chart has all of them.
_MAX_POINTS = 1000
_DOWNSAMPLER = MinMaxLTTBDownsampler()  # type: ignore[no-untyped-call]


def filled_run_charts(snapshot: Snapshot, description: RunDescription) -> dict[str, PlotlySpec]:
    """Return the charts of loss, skipped computation and power over steps, with data.

    Args:
        snapshot: The run.
        description: The run's titles and labels.
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
        if table is None:  # knob changes, and the reference, which is another run
            continue
        x, y = table["step"], table[trace["meta"]["y"]]
        indices = _thinned_indices(y)
        traces.append({**trace, "x": x[indices].tolist(), "y": y[indices].tolist()})
    return {**figure, "data": traces}


def _thinned_indices(y: FloatArray) -> Any:
    """Return the indices of the drawn points: all known ones, or a subset that keeps the shape."""
    known_indices = np.flatnonzero(np.isfinite(y))
    if len(known_indices) <= _MAX_POINTS:
        return known_indices
    return known_indices[_DOWNSAMPLER.downsample(y[known_indices], n_out=_MAX_POINTS)]
