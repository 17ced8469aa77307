"""Charts of a sweep: metric against cost, hypervolume over trials, and knob importance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import plotly.graph_objects as go

from effcore.figures.palette import COLOURS
from effcore.studies.frontier import PointResult, SweepResult

_MARGIN: Final = {"l": 10, "r": 10, "t": 30, "b": 10}
_LEGEND: Final = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0}


def frontier_figure(result: SweepResult) -> go.Figure:
    """Return metric against cost: same-budget training, all trials, their front, the candidate.

    Trials that were replicated in the second look have a ring; the replications use other seeds
    and are not drawn. Every point has its name as custom data.
    """
    dense = [result_point for result_point in result.measured_points if result_point.point.is_dense]
    trials = [
        result_point for result_point in result.measured_points if not result_point.point.is_dense
    ]
    # Every point on the front has a known cost.
    front = sorted(
        (result_point for result_point in trials if result_point.is_on_front),
        key=lambda result_point: result_point.cost or 0.0,
    )
    others = [result_point for result_point in trials if not result_point.is_on_front]
    candidate = [result_point for result_point in trials if result_point is result.candidate]
    replicated_names = {result_point.point.name for result_point in result.replications}
    replicated = [result_point for result_point in trials if result_point.name in replicated_names]
    figure, metric = go.Figure(), result.metric
    _add_points(
        figure,
        dense,
        metric.factor,
        "same-budget training",
        "dense",
        "square-open",
        lines=True,
    )
    _add_points(figure, others, metric.factor, "other trials", "random", "circle")
    _add_points(figure, front, metric.factor, "front", "efficient", "circle", lines=True, size=11)
    _add_points(figure, candidate, metric.factor, "candidate", "metric", "star", size=17)
    _add_points(figure, replicated, metric.factor, "second look", "metric", "circle-open", size=17)
    _add_margin_line(figure, result, dense)
    figure.update_xaxes(
        title=f"cost, share of full training's {result.cost_unit}",
        tickformat=".0%",
        rangemode="tozero",
    )
    unit = f" ({metric.unit})" if metric.unit else ""
    figure.update_yaxes(title=f"{metric.label}{unit}, validation")
    return figure.update_layout(height=440, margin=_MARGIN, legend=_LEGEND, hovermode="closest")


def _add_points(
    figure: go.Figure,
    points: Sequence[PointResult],
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
        x=[point.cost for point in points],
        y=[factor * point.metric for point in points if point.metric is not None],
        name=name,
        mode="lines+markers" if lines else "markers",
        line={"color": COLOURS[role], "width": 1.5, "dash": "dot" if role == "dense" else "solid"},
        marker={"size": size, "symbol": symbol, "color": COLOURS[role], "line": {"width": 1.5}},
        customdata=[point.name for point in points],
        text=[", ".join(f"{k} {v:.4g}" for k, v in point.point.knobs.items()) for point in points],
        hovertemplate="%{customdata}: %{y:.4g} at %{x:.1%}<br>%{text}<extra></extra>",
    )


def _add_margin_line(figure: go.Figure, result: SweepResult, dense: Sequence[PointResult]) -> None:
    """Draw the line of full training less the margin, which a candidate must reach."""
    metric = result.metric
    full_metrics = [
        result_point.metric
        for result_point in dense
        if result_point.point.budget == 1.0 and result_point.metric is not None
    ]
    if not full_metrics:
        return
    sign = metric.sign
    figure.add_hline(
        metric.factor * (full_metrics[0] - sign * result.plan.margin),
        line_width=1,
        line_dash="dash",
        line_color=COLOURS["dense"],
        annotation_text="full training, less the margin",
        annotation_position="bottom right" if sign > 0 else "top right",
    )


def hypervolume_figure(values: Sequence[float]) -> go.Figure:
    """Return the hypervolume of the front over the number of trials."""
    figure = go.Figure()
    figure.add_scatter(
        x=list(range(1, len(values) + 1)),
        y=list(values),
        mode="lines+markers",
        line={"shape": "hv", "color": COLOURS["efficient"]},
        hovertemplate="%{y:.4g} after %{x} trials<extra></extra>",
    )
    figure.update_xaxes(title="finished trials", rangemode="tozero")
    figure.update_yaxes(title="hypervolume", rangemode="tozero")
    return figure.update_layout(height=260, margin=_MARGIN, showlegend=False)


def importance_figure(shares: Mapping[str, float]) -> go.Figure:
    """Return the share of the metric's variation that each knob explains, the largest on top."""
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
