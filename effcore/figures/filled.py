"""A run's charts with their data in them, for what is read without the live page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from tsdownsample import MinMaxLTTBDownsampler

from effcore.events import FloatArray, Snapshot
from effcore.figures.charts import Spec, templates
from effcore.figures.rows import eval_rows, power_rows, step_rows

#: Points of a line that are drawn; all of them are in the table beside.
_POINTS = 1000
_SHAPE = MinMaxLTTBDownsampler()  # type: ignore[no-untyped-call]


def charts(look: Snapshot, info: Mapping[str, Any]) -> dict[str, Spec]:
    """Return loss, skipped computation and power over steps, filled.

    Args:
        look: The run.
        info: Its words, from :func:`effcore.config.describe`.
    """
    rows = {"steps": step_rows(look), "evals": eval_rows(look), "power": power_rows(look)}
    figures = templates(look, info)
    return {name: _filled(figures[name], rows) for name in ("loss", "skip", "power")}


def _filled(figure: Spec, rows: Mapping[str, Mapping[str, FloatArray]]) -> Spec:
    traces = []
    for trace in figure["data"]:
        table = rows.get(trace["meta"]["table"])
        if table is None:  # knob changes, and a reference that is another run's
            continue
        x, y = table["step"], table[trace["meta"]["y"]]
        at = _chosen(y)
        traces.append({**trace, "x": x[at].tolist(), "y": y[at].tolist()})
    return {**figure, "data": traces}


def _chosen(y: FloatArray) -> Any:
    """Return which points are drawn: all, or those that keep the shape."""
    known = np.flatnonzero(np.isfinite(y))
    if len(known) <= _POINTS:
        return known
    return known[_SHAPE.downsample(y[known], n_out=_POINTS)]
