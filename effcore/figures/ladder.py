"""The scale ladder as a chart: rungs, fit and band; beyond the rungs hatched, dashed, and said.

As in :mod:`effcore.figures.charts`, the data stand apart from the drawing and a figure is a plain
dictionary in plotly's JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from effcore.events import FloatArray
from effcore.figures.charts import Spec
from effcore.figures.palette import COLOURS, rgba
from effcore.impact.scale_ladder import LadderFit, Rung

#: What stands beyond the rungs.
NOT_MEASURED: Final = "not measured"
_GRID: Final = "rgba(127,140,153,0.22)"
#: Behind white letters on a hatched ground: 6.2 to 1 in either theme.
_SIGN: Final = "#56626e"
_ROLE: Final = "efficient"
#: How far intervals may reach from savings that are all alike: a tenth of what dense takes.
_LEAST_ROOM: Final = 0.1


class LadderRows(NamedTuple):
    """What the chart draws, float64 arrays.

    Attributes:
        size: Of the rungs, shape (rungs,).
        saving: What was saved there.
        below: From there down to the lower end of the rung's own 95% interval.
        above: Up to its upper end.
        inside: Size, fit, lower and upper end of the band between the rungs, (4, points).
        beyond: The same from the largest rung on, its first point being the last of ``inside``.
    """

    size: FloatArray
    saving: FloatArray
    below: FloatArray
    above: FloatArray
    inside: FloatArray
    beyond: FloatArray


def ladder_rows(rungs: Sequence[Rung], band: LadderFit) -> LadderRows:
    """Return what is drawn of the rungs and their band."""
    ordered = sorted(rungs, key=lambda r: r.size)
    size, saving = (np.array([getattr(r, name) for r in ordered]) for name in ("size", "saving"))
    ends = np.array([r.interval for r in ordered]).T
    columns = np.stack([band.size, band.fit, band.lo, band.hi])
    last = int(np.flatnonzero(band.measured)[-1])
    below, above = saving - ends[0], ends[1] - saving
    return LadderRows(size, saving, below, above, columns[:, : last + 1], columns[:, last:])


def ladder_figure(rows: LadderRows, basis: str, size_name: str = "Parameters") -> Spec:
    """Return the chart.

    Args:
        rows: From :func:`ladder_rows`.
        basis: What was saved, as in "FLOPs saved".
        size_name: Title of the horizontal axis.
    """
    hatch = {"shape": "/", "size": 7, "solidity": 0.25}
    hatch |= {"fgcolor": rgba("dense", 0.55), "bgcolor": rgba("dense", 0.06)}
    traces = [
        *_band(rows.inside, "95% band", {"fillcolor": rgba(_ROLE, 0.18)}),
        *_band(rows.beyond, f"95% band, {NOT_MEASURED}", {"fillpattern": hatch}),
        _fit(rows.inside, "Fit", _ROLE, "solid"),
        _fit(rows.beyond, f"Fit, {NOT_MEASURED}", "dense", "dash"),
        _rungs(rows),
    ]
    return {"data": traces, "layout": _layout(rows, basis, size_name)}


def _line(columns: FloatArray, row: int, **options: Any) -> Spec:
    plain = {"type": "scatter", "mode": "lines", "line": {"width": 0}, "hovertemplate": "%{y:.1%}"}
    return {**plain, "x": columns[0], "y": columns[row], **options}


def _band(columns: FloatArray, name: str, filled: dict[str, Any]) -> list[Spec]:
    low = _line(columns, 2, name=f"{name}, low", showlegend=False)
    return [low, _line(columns, 3, name=name, fill="tonexty", **filled)]


def _fit(columns: FloatArray, name: str, role: str, dash: str) -> Spec:
    line = {"color": COLOURS[role], "width": 2, "dash": dash}
    return _line(columns, 1, name=name, line=line, showlegend=False)


def _rungs(rows: LadderRows) -> Spec:
    bars = {"type": "data", "symmetric": False, "array": rows.above, "arrayminus": rows.below}
    return {
        "type": "scatter",
        "name": "Measured, 95% interval",
        "mode": "markers",
        "x": rows.size,
        "y": rows.saving,
        "error_y": bars | {"color": COLOURS[_ROLE], "thickness": 1.5, "width": 4},
        "marker": {"color": COLOURS[_ROLE], "size": 9},
        "hovertemplate": "%{y:.1%} at %{x:.4s}",
    }


def shown_range(rows: LadderRows) -> tuple[float, float]:
    """Return the lowest and the highest saving that the chart has room for.

    The band of three rungs is wider than anything measured, and so is an interval over two
    seeds: they may leave the chart, so that what was measured can be told apart in it.
    """
    values = [*rows.saving, *rows.inside[1], *rows.beyond[1], 0.0]
    least, most = max(min(values), -1.0), min(max(values), 1.0)
    room = max(most - least, _LEAST_ROOM)
    lowest = max(min(least, *(rows.saving - rows.below)), least - room)
    highest = min(max(most, *(rows.saving + rows.above)), most + room)
    margin = 0.1 * (highest - lowest)
    return lowest - margin, min(highest + margin, 1.0 + margin / 2)


def leaves_chart(rows: LadderRows) -> bool:
    """Return whether a rung's interval reaches further than the chart."""
    lowest, highest = shown_range(rows)
    return bool(
        (rows.saving - rows.below < lowest).any() or (rows.saving + rows.above > highest).any()
    )


def _layout(rows: LadderRows, basis: str, size_name: str) -> dict[str, Any]:
    axis: dict[str, Any] = {"gridcolor": _GRID, "zeroline": False, "automargin": True}
    middle = float(np.sqrt(rows.beyond[0, 0] * rows.beyond[0, -1]))
    edge = float(rows.beyond[0, 0])
    return {
        "template": {},
        "font": {"size": 12, "color": COLOURS["dense"]},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 8, "r": 8, "t": 36, "b": 8},
        "legend": {"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom"},
        "xaxis": axis
        | {"type": "log", "title": {"text": size_name}, "dtick": 1, "exponentformat": "SI"},
        "yaxis": axis
        | {
            "title": {"text": f"{basis} saved"},
            "tickformat": ".0%",
            "range": list(shown_range(rows)),
        },
        "shapes": [
            {"type": "line", "xref": "x", "yref": "paper", "x0": edge, "x1": edge, "y0": 0, "y1": 1,
             "line": {"color": COLOURS["dense"], "width": 1, "dash": "dot"}},
        ],
        "annotations": [
            {"x": float(np.log10(middle)), "y": 0.98, "xref": "x", "yref": "paper",
             "text": f"<b>{NOT_MEASURED}</b>", "showarrow": False, "yanchor": "top",
             "font": {"size": 13, "color": "#ffffff"}, "bgcolor": _SIGN, "borderpad": 5},
        ],
    }  # fmt: skip
