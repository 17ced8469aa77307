"""Charts of the explanation page: loss cut, costs, importance weights, and budget race.

Figures are plain dictionaries in plotly's JSON, as in :mod:`effcore.figures.run_charts`. Their
axes do not depend on the sliders, so that only the data move.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from effcore.figures.palette import COLOURS, rgba_css
from effcore.figures.run_charts import PlotlySpec, loss_histogram_figure
from effcore.figures.snapshot_rows import histogram_rows
from effcore.insight.explanations import (
    DENSE_COST,
    FORWARD_COST,
    BudgetRace,
    BudgetRaceCurve,
    MaskingFlops,
    MeanLossEstimates,
    SubsetCost,
)
from effcore.records import FloatArray, LossHistogram

#: Range of the drawn errors, and width of a bar, as fractions of the true mean.
_ERROR_RANGE: Final = (-0.25, 0.7)
_BAR_WIDTH: Final = 0.01
_GRID: Final = "rgba(127,140,153,0.22)"
_AXIS: Final[PlotlySpec] = {
    "gridcolor": _GRID,
    "zeroline": False,
    "automargin": True,
    "fixedrange": True,
    "tickfont": {"size": 12},
}
_LEGEND: Final = {
    "orientation": "h",
    "x": 0,
    "y": 1.02,
    "yanchor": "bottom",
    "traceorder": "normal",
}


def _base_layout(height: int, **more: Any) -> PlotlySpec:
    base: PlotlySpec = {
        "template": {},
        "height": height,
        "font": {"size": 12, "color": COLOURS["dense"]},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 8, "r": 8, "t": 36, "b": 8},
        "legend": _LEGEND,
        "xaxis": _AXIS,
        "yaxis": _AXIS,
    }
    return base | {name: base.get(name, {}) | value for name, value in more.items()}


def loss_cut_figure(histogram: LossHistogram, loss_label: str) -> PlotlySpec:
    """Return the live page's loss histogram, with data.

    Args:
        histogram: The losses with a threshold.
        loss_label: Name of the loss.
    """
    bars = histogram_rows(histogram)
    figure = loss_histogram_figure(loss_label, "efficient")
    below, trained, line = figure["data"]
    for trace, selected in ((below, bars.cut), (trained, ~bars.cut)):
        shown = selected & (bars.examples > 0)
        trace |= {"x": bars.centre[shown], "width": bars.width[shown], "y": bars.examples[shown]}
        trace["customdata"] = np.stack([bars.lo, bars.hi], axis=1)[shown]
    if histogram.threshold > 0:
        line |= {"x": [np.log10(histogram.threshold)] * 2, "y": [0.0, 1.0]}
    has_examples = bars.examples > 0
    edge = bars.width.max()
    x_range = [bars.centre[has_examples].min() - edge, bars.centre[has_examples].max() + edge]
    layout = figure["layout"]
    layout |= {"height": 320, "hovermode": "closest", "barmode": "overlay"}
    layout["xaxis"] |= {"range": x_range, "fixedrange": True}
    layout["yaxis"] |= {"fixedrange": True}
    return figure


def _bar_trace(
    names: Sequence[str], values: Sequence[float], name: str, **options: Any
) -> PlotlySpec:
    return {
        "type": "bar", "orientation": "h", "name": name, "y": list(names), "x": list(values),
        "hovertemplate": "%{y}: %{x:.4s}<extra>" + name + "</extra>", "width": 0.62,
    } | options  # fmt: skip


def _reference_line(x: float) -> PlotlySpec:
    line = {"color": COLOURS["dense"], "width": 1.5, "dash": "dot"}
    return {"type": "line", "xref": "x", "yref": "paper", "x0": x, "x1": x, "y0": 0, "y1": 1,
            "line": line, "layer": "above"}  # fmt: skip


def subset_cost_figure(costs: Sequence[SubsetCost]) -> PlotlySpec:
    """Return the cost of each method, in forward passes over all examples, below full training.

    Args:
        costs: From :func:`effcore.insight.explanations.subset_costs`.
    """
    names = ["Full training", *(cost.name for cost in costs)]
    parts = {
        "Scoring only": ([0.0, *(cost.scoring for cost in costs)], COLOURS["power"]),
        "Forward": ([FORWARD_COST, *(cost.forward for cost in costs)], rgba_css("efficient", 0.55)),
        "Backward": (
            [DENSE_COST - FORWARD_COST, *(cost.backward for cost in costs)],
            COLOURS["efficient"],
        ),
    }
    traces = [
        _bar_trace(names, values, name, marker={"color": colour})
        for name, (values, colour) in parts.items()
    ]
    layout = _base_layout(
        280,
        xaxis={"range": [0, DENSE_COST + FORWARD_COST], "dtick": 1, "title": {"text": _COST_AXIS}},
        yaxis=_NAME_AXIS,
    )
    return {
        "data": traces,
        "layout": layout | {"barmode": "stack", "shapes": [_reference_line(DENSE_COST)]},
    }


_COST_AXIS: Final = "forward passes over all examples"
_NAME_AXIS: Final = {"autorange": "reversed", "showgrid": False, "ticklabelstandoff": 4}


def masking_figure(masking_flops: MaskingFlops) -> PlotlySpec:
    """Return the FLOPs of a step for each method of leaving out examples."""
    names = ("Nothing left out", "Loss times zero", "Loss taken out", "Never loaded")
    values = (
        masking_flops.everything,
        masking_flops.masked,
        masking_flops.sliced,
        masking_flops.never_loaded,
    )
    colours = [COLOURS["dense"]] * 3 + [COLOURS["efficient"]]
    trace = _bar_trace(names, values, "FLOPs of a step", marker={"color": colours})
    layout = _base_layout(
        230,
        xaxis={"range": [0, 1.05 * masking_flops.everything], "tickformat": "~s",
               "title": {"text": "FLOPs of one step, counted"}},
        yaxis=_NAME_AXIS,
        margin={"t": 8},
    )  # fmt: skip
    layout |= {"shapes": [_reference_line(masking_flops.everything)], "showlegend": False}
    return {"data": [trace], "layout": layout}


def importance_weights_figure(mean_loss_estimates: MeanLossEstimates) -> PlotlySpec:
    """Return the errors of the epochs' estimates, for the policy and for random selection."""
    edges = np.arange(_ERROR_RANGE[0], _ERROR_RANGE[1] + _BAR_WIDTH, _BAR_WIDTH)
    traces = [
        _error_histogram(
            mean_loss_estimates.random / mean_loss_estimates.truth - 1.0,
            edges,
            "As many at random",
            "random",
            0.45,
        ),
        _error_histogram(
            mean_loss_estimates.drawn / mean_loss_estimates.truth - 1.0,
            edges,
            "By their losses",
            "efficient",
            0.8,
        ),
    ]
    layout = _base_layout(
        300,
        xaxis={"range": list(_ERROR_RANGE), "tickformat": "+.0%",
               "title": {"text": "error of the estimated mean loss"}},
        yaxis={"title": {"text": "epochs"}, "nticks": 5},
    )  # fmt: skip
    layout |= {"barmode": "overlay", "bargap": 0, "shapes": [_reference_line(0.0)]}
    return {"data": traces, "layout": layout}


def _error_histogram(
    errors: FloatArray, edges: FloatArray, name: str, role: str, alpha: float
) -> PlotlySpec:
    counts, _ = np.histogram(np.clip(errors, *_ERROR_RANGE), edges)
    shown = counts > 0
    return {
        "type": "bar", "name": name, "x": (edges[:-1] + _BAR_WIDTH / 2)[shown], "y": counts[shown],
        "width": _BAR_WIDTH, "marker": {"color": rgba_css(role, alpha), "line": {"width": 0}},
        "hovertemplate": "%{y} epochs, error %{x:+.1%}<extra>" + name + "</extra>",
    }  # fmt: skip


def budget_race_figure(race: BudgetRace) -> PlotlySpec:
    """Return learning rate and accuracy of the four variants over the computation spent."""
    budget = float(race.matched.spent[-1])
    variants = (
        ("Full training", race.full, "dense", "solid"),
        ("Same-budget training", race.matched, "dense", "dash"),
        ("Confident skip, same budget", race.policy, "efficient", "solid"),
    )
    traces = [
        _race_curve_trace(*variant, subplot)
        for variant in variants
        for subplot in ("rate", "validation")
    ]
    cut_off = race.cut
    cross = {"symbol": "x", "size": 11, "color": COLOURS["power"]}
    for subplot, values in (("rate", cut_off.rate), ("validation", cut_off.validation)):
        traces.append(
            {"type": "scatter", "mode": "markers", "name": "Full training, cut off",
             "marker": cross, "x": [budget], "y": [float(values[-1])],
             "showlegend": subplot == "validation", "hovertemplate": "%{y:.1%}",
             **_SUBPLOT_AXES[subplot]}
        )  # fmt: skip
    layout = _base_layout(
        380,
        xaxis={"range": [0, 1.02], "tickformat": ".0%", "anchor": "y",
               "title": {"text": "share of full training's computation"}},
        yaxis={"domain": [0.0, 0.62], "tickformat": ".0%", "range": [0.75, 1.0],
               "title": {"text": "Accuracy"}},
        margin={"t": 60},
    )  # fmt: skip
    rate = {"domain": [0.72, 1.0], "tickformat": ".0%", "range": [0, 1.05], "nticks": 3}
    layout["yaxis2"] = _AXIS | rate | {"title": {"text": "Learning rate"}}
    return {"data": traces, "layout": layout | {"shapes": [_reference_line(budget)]}}


_SUBPLOT_AXES: Final[dict[str, PlotlySpec]] = {
    "rate": {"yaxis": "y2"},
    "validation": {"yaxis": "y"},
}


def _race_curve_trace(
    name: str, curve: BudgetRaceCurve, role: str, dash: str, subplot: str
) -> PlotlySpec:
    values: FloatArray = getattr(curve, subplot)
    return {
        "type": "scatter", "mode": "lines", "name": name, "x": curve.spent, "y": values,
        "line": {"color": COLOURS[role], "width": 2, "dash": dash}, "legendgroup": name,
        "showlegend": subplot == "validation", "hovertemplate": "%{y:.1%}",
        **_SUBPLOT_AXES[subplot],
    }  # fmt: skip
