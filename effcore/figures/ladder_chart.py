"""Chart of the scale ladder: rungs, fit and band, with the extrapolated part marked.

The band beyond the rungs is hatched, the fit dashed, and a label says that it is not measured.
As in :mod:`effcore.figures.run_charts`, data and drawing are separate, and a figure is a plain
dictionary in plotly's JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from effcore.figures.palette import COLOURS, rgba_css
from effcore.figures.run_charts import PlotlySpec
from effcore.impact.scale_ladder import LadderFit, Rung
from effcore.records import FloatArray

#: Label of the extrapolated part.
NOT_MEASURED: Final = "not measured"
_GRID: Final = "rgba(127,140,153,0.22)"
#: Background of the label's white letters: contrast 6.2 to 1 in both themes.
_SIGN_COLOUR: Final = "#56626e"
_ROLE: Final = "efficient"
#: Least room for intervals above and below the savings, as a fraction of full training.
_MIN_ROOM: Final = 0.1


class LadderChartData(NamedTuple):
    """Data of the chart, float64 arrays.

    Attributes:
        size: Sizes of the rungs, shape (rungs,).
        saving: Saving at each rung, shape (rungs,).
        below: Distance from the saving to the lower end of the rung's own 95% interval.
        above: Distance to its upper end.
        measured_band: Size, fit, lower and upper end of the band between the rungs, (4, points).
        extrapolated_band: The same from the largest rung on; its first point is the last of
            ``measured_band``.
    """

    size: FloatArray
    saving: FloatArray
    below: FloatArray
    above: FloatArray
    measured_band: FloatArray
    extrapolated_band: FloatArray


def ladder_chart_data(rungs: Sequence[Rung], band: LadderFit) -> LadderChartData:
    """Return the chart's data for the rungs and their band."""
    ordered = sorted(rungs, key=lambda rung: rung.size)
    size, saving = (
        np.array([getattr(rung, name) for rung in ordered]) for name in ("size", "saving")
    )
    ends = np.array([rung.interval for rung in ordered]).T
    columns = np.stack([band.size, band.fit, band.lo, band.hi])
    last = int(np.flatnonzero(band.measured)[-1])
    below, above = saving - ends[0], ends[1] - saving
    return LadderChartData(size, saving, below, above, columns[:, : last + 1], columns[:, last:])


def ladder_figure(data: LadderChartData, basis: str, size_name: str = "Parameters") -> PlotlySpec:
    """Return the chart.

    Args:
        data: From :func:`ladder_chart_data`.
        basis: The saved quantity, such as "FLOPs".
        size_name: Title of the horizontal axis.
    """
    hatch = {"shape": "/", "size": 7, "solidity": 0.25}
    hatch |= {"fgcolor": rgba_css("dense", 0.55), "bgcolor": rgba_css("dense", 0.06)}
    traces = [
        *_band_traces(data.measured_band, "95% band", {"fillcolor": rgba_css(_ROLE, 0.18)}),
        *_band_traces(data.extrapolated_band, f"95% band, {NOT_MEASURED}", {"fillpattern": hatch}),
        _fit_trace(data.measured_band, "Fit", _ROLE, "solid"),
        _fit_trace(data.extrapolated_band, f"Fit, {NOT_MEASURED}", "dense", "dash"),
        _rung_trace(data),
    ]
    return {"data": traces, "layout": _ladder_layout(data, basis, size_name)}


def _curve_trace(columns: FloatArray, row: int, **options: Any) -> PlotlySpec:
    plain = {"type": "scatter", "mode": "lines", "line": {"width": 0}, "hovertemplate": "%{y:.1%}"}
    return {**plain, "x": columns[0], "y": columns[row], **options}


def _band_traces(columns: FloatArray, name: str, filled: dict[str, Any]) -> list[PlotlySpec]:
    low = _curve_trace(columns, 2, name=f"{name}, low", showlegend=False)
    return [low, _curve_trace(columns, 3, name=name, fill="tonexty", **filled)]


def _fit_trace(columns: FloatArray, name: str, role: str, dash: str) -> PlotlySpec:
    line = {"color": COLOURS[role], "width": 2, "dash": dash}
    return _curve_trace(columns, 1, name=name, line=line, showlegend=False)


def _rung_trace(rows: LadderChartData) -> PlotlySpec:
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


def saving_axis_range(rows: LadderChartData) -> tuple[float, float]:
    """Return the lowest and the highest saving that the axis shows.

    A band from three rungs, or an interval over two seeds, can be far wider than the measured
    values. Both may leave the chart, so that the measured values remain distinguishable.
    """
    values = [*rows.saving, *rows.measured_band[1], *rows.extrapolated_band[1], 0.0]
    lowest_value, highest_value = max(min(values), -1.0), min(max(values), 1.0)
    room = max(highest_value - lowest_value, _MIN_ROOM)
    lowest = max(min(lowest_value, *(rows.saving - rows.below)), lowest_value - room)
    highest = min(max(highest_value, *(rows.saving + rows.above)), highest_value + room)
    margin = 0.1 * (highest - lowest)
    return lowest - margin, min(highest + margin, 1.0 + margin / 2)


def has_clipped_interval(rows: LadderChartData) -> bool:
    """Return whether a rung's interval leaves the chart."""
    lowest, highest = saving_axis_range(rows)
    return bool(
        (rows.saving - rows.below < lowest).any() or (rows.saving + rows.above > highest).any()
    )


def _ladder_layout(rows: LadderChartData, basis: str, size_name: str) -> dict[str, Any]:
    axis: dict[str, Any] = {"gridcolor": _GRID, "zeroline": False, "automargin": True}
    middle = float(np.sqrt(rows.extrapolated_band[0, 0] * rows.extrapolated_band[0, -1]))
    edge = float(rows.extrapolated_band[0, 0])
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
            "range": list(saving_axis_range(rows)),
        },
        "shapes": [
            {"type": "line", "xref": "x", "yref": "paper", "x0": edge, "x1": edge, "y0": 0, "y1": 1,
             "line": {"color": COLOURS["dense"], "width": 1, "dash": "dot"}},
        ],
        "annotations": [
            {"x": float(np.log10(middle)), "y": 0.98, "xref": "x", "yref": "paper",
             "text": f"<b>{NOT_MEASURED}</b>", "showarrow": False, "yanchor": "top",
             "font": {"size": 13, "color": "#ffffff"}, "bgcolor": _SIGN_COLOUR, "borderpad": 5},
        ],
    }  # fmt: skip
