"""Figures of a sweep: metric against cost, the front as it grew, and which knob matters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import plotly.graph_objects as go

from effcore.figures.palette import COLOURS

_MARGIN: Final = {"l": 10, "r": 10, "t": 30, "b": 10}
_LEGEND: Final = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0}


def frontier_figure(
    sweep_record: Mapping[str, Any], label: str, factor: float, unit: str
) -> go.Figure:
    """Return metric against cost: the dense curve, all trials, their front, the candidate.

    What the second look has seen is ringed; its own values are of other seeds and not drawn.

    Every point carries its name as custom data.

    Args:
        sweep_record: A sweep's record.
        label: What the metric is called.
        factor: By which the metric is multiplied to be shown.
        unit: What it is then in.
    """
    known = [point for point in sweep_record["points"] if point["metric"] is not None]
    dense = [point for point in known if point["name"].startswith("dense")]
    trials = [point for point in known if not point["name"].startswith("dense")]
    front = sorted((point for point in trials if point["front"]), key=lambda point: point["cost"])
    best = [point for point in trials if point["name"] == sweep_record["candidate"]]
    figure = go.Figure()
    _add_points(
        figure, dense, factor, "dense training for less", "dense", "square-open", lines=True
    )
    _add_points(
        figure, [p for p in trials if not p["front"]], factor, "other trials", "random", "circle"
    )
    _add_points(figure, front, factor, "front", "efficient", "circle", lines=True, size=11)
    _add_points(figure, best, factor, "candidate", "metric", "star", size=17)
    names = {look["name"] for look in sweep_record["second_look"]["trials"]}
    again = [point for point in trials if point["name"] in names]
    _add_points(figure, again, factor, "looked at again", "metric", "circle-open", size=17)
    _add_margin_line(figure, sweep_record, dense, factor)
    figure.update_xaxes(title=f"cost, {sweep_record['cost']}", tickformat=".0%", rangemode="tozero")
    figure.update_yaxes(title=f"{label} ({unit})".removesuffix(" ()") + ", validation")
    return figure.update_layout(height=440, margin=_MARGIN, legend=_LEGEND, hovermode="closest")


def _add_points(
    figure: go.Figure,
    points: Sequence[Mapping[str, Any]],
    factor: float,
    name: str,
    role: str,
    symbol: str,
    lines: bool = False,
    size: int = 9,
) -> None:
    if not points:
        return
    figure.add_scatter(
        x=[point["cost"] for point in points],
        y=[factor * point["metric"] for point in points],
        name=name,
        mode="lines+markers" if lines else "markers",
        line={"color": COLOURS[role], "width": 1.5, "dash": "dot" if role == "dense" else "solid"},
        marker={"size": size, "symbol": symbol, "color": COLOURS[role], "line": {"width": 1.5}},
        customdata=[point["name"] for point in points],
        text=[", ".join(f"{k} {v:.4g}" for k, v in point["knobs"].items()) for point in points],
        hovertemplate="%{customdata}: %{y:.4g} at %{x:.1%}<br>%{text}<extra></extra>",
    )


def _add_margin_line(
    figure: go.Figure,
    sweep_record: Mapping[str, Any],
    dense: Sequence[Mapping[str, Any]],
    factor: float,
) -> None:
    """Draw the line that a candidate must not fall behind."""
    full = [point["metric"] for point in dense if point["budget"] == 1.0]
    if not full:
        return
    way = 1.0 if sweep_record["higher_is_better"] else -1.0
    figure.add_hline(
        factor * (full[0] - way * sweep_record["margin"]),
        line_width=1,
        line_dash="dash",
        line_color=COLOURS["dense"],
        annotation_text="full dense, less the margin",
        annotation_position="bottom right" if way > 0 else "top right",
    )


def hypervolume_figure(values: Sequence[float]) -> go.Figure:
    """Return how the area behind the front grew with the trials."""
    figure = go.Figure()
    figure.add_scatter(
        x=list(range(1, len(values) + 1)),
        y=list(values),
        mode="lines+markers",
        line={"shape": "hv", "color": COLOURS["efficient"]},
        hovertemplate="%{y:.4g} after %{x} trials<extra></extra>",
    )
    figure.update_xaxes(title="trials that ended", rangemode="tozero")
    figure.update_yaxes(title="hypervolume", rangemode="tozero")
    return figure.update_layout(height=260, margin=_MARGIN, showlegend=False)


def importance_figure(shares: Mapping[str, float]) -> go.Figure:
    """Return how much of the metric's variation each knob explains, the largest on top."""
    figure = go.Figure()
    figure.add_bar(
        x=list(shares.values()),
        y=list(shares),
        orientation="h",
        marker_color=COLOURS["metric"],
        hovertemplate="%{y}: %{x:.0%}<extra></extra>",
    )
    figure.update_xaxes(title="share of the metric's variation", tickformat=".0%", range=[0, 1])
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure.update_layout(height=110 + 40 * len(shares), margin=_MARGIN)
