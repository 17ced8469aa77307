"""The charts that explain: the cut, what things cost, what weights undo, and the race.

Plain dictionaries in plotly's JSON, as in :mod:`effcore.figures.charts`. Their axes do not
depend on what is dragged, so that only what is talked about moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from effcore.events import FloatArray, LossHistogram
from effcore.explain.cost import DENSE, FORWARD, Way
from effcore.explain.masking import Counted
from effcore.explain.race import Course, Race
from effcore.explain.weights import Estimates
from effcore.figures.charts import Spec, histogram_figure
from effcore.figures.palette import COLOURS, rgba
from effcore.figures.rows import histogram_rows

#: Range in which estimates are drawn, and width of a bar, as shares of the truth.
_OFF: Final = (-0.25, 0.7)
_BAR: Final = 0.01
_GRID: Final = "rgba(127,140,153,0.22)"
_AXIS: Final[Spec] = {
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


def _layout(height: int, **more: Any) -> Spec:
    base: Spec = {
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


def cut_figure(histogram: LossHistogram, loss_label: str) -> Spec:
    """Return the live page's distribution of losses, filled.

    Args:
        histogram: The losses, with a cut in them.
        loss_label: What a loss is called.
    """
    bars = histogram_rows(histogram)
    figure = histogram_figure({"loss_label": loss_label}, "efficient")
    below, kept, line = figure["data"]
    for trace, wanted in ((below, bars.cut), (kept, ~bars.cut)):
        shown = wanted & (bars.examples > 0)
        trace |= {"x": bars.centre[shown], "width": bars.width[shown], "y": bars.examples[shown]}
        trace["customdata"] = np.stack([bars.lo, bars.hi], axis=1)[shown]
    if histogram.threshold > 0:
        line |= {"x": [np.log10(histogram.threshold)] * 2, "y": [0.0, 1.0]}
    full = bars.examples > 0
    edge = bars.width.max()
    ends = [bars.centre[full].min() - edge, bars.centre[full].max() + edge]
    layout = figure["layout"]
    layout |= {"height": 320, "hovermode": "closest", "barmode": "overlay"}
    layout["xaxis"] |= {"range": ends, "fixedrange": True}
    layout["yaxis"] |= {"fixedrange": True}
    return figure


def _bars(names: Sequence[str], values: Sequence[float], name: str, **options: Any) -> Spec:
    return {
        "type": "bar", "orientation": "h", "name": name, "y": list(names), "x": list(values),
        "hovertemplate": "%{y}: %{x:.4s}<extra>" + name + "</extra>", "width": 0.62,
    } | options  # fmt: skip


def _edge(at: float) -> Spec:
    """Return a vertical line: what dense training costs, or where the truth is."""
    line = {"color": COLOURS["dense"], "width": 1.5, "dash": "dot"}
    return {"type": "line", "xref": "x", "yref": "paper", "x0": at, "x1": at, "y0": 0, "y1": 1,
            "line": line, "layer": "above"}  # fmt: skip


def cost_figure(ways: Sequence[Way]) -> Spec:
    """Return what each way costs, in forward passes of all examples; dense training on top.

    Args:
        ways: From :func:`effcore.explain.cost.ways`.
    """
    names = ["Train on everything", *(way.name for way in ways)]
    parts = {
        "Looking only": ([0.0, *(way.scoring for way in ways)], COLOURS["power"]),
        "Forward": ([FORWARD, *(way.forward for way in ways)], rgba("efficient", 0.55)),
        "Backward": ([DENSE - FORWARD, *(way.backward for way in ways)], COLOURS["efficient"]),
    }
    traces = [
        _bars(names, values, name, marker={"color": colour})
        for name, (values, colour) in parts.items()
    ]
    layout = _layout(
        280,
        xaxis={"range": [0, DENSE + FORWARD], "dtick": 1, "title": {"text": _COST_AXIS}},
        yaxis=_NAMES,
    )
    return {"data": traces, "layout": layout | {"barmode": "stack", "shapes": [_edge(DENSE)]}}


_COST_AXIS: Final = "forward passes over all examples"
_NAMES: Final = {"autorange": "reversed", "showgrid": False, "ticklabelstandoff": 4}


def masking_figure(counted: Counted) -> Spec:
    """Return the FLOPs of a step by how the unwanted are kept out of it."""
    names = ("Nothing left out", "Loss times zero", "Loss taken out", "Never loaded")
    values = (counted.everything, counted.masked, counted.sliced, counted.never_loaded)
    colours = [COLOURS["dense"]] * 3 + [COLOURS["efficient"]]
    trace = _bars(names, values, "FLOPs of a step", marker={"color": colours})
    layout = _layout(
        230,
        xaxis={"range": [0, 1.05 * counted.everything], "tickformat": "~s",
               "title": {"text": "FLOPs of one step, counted"}},
        yaxis=_NAMES,
        margin={"t": 8},
    )  # fmt: skip
    layout |= {"shapes": [_edge(counted.everything)], "showlegend": False}
    return {"data": [trace], "layout": layout}


def weights_figure(found: Estimates) -> Spec:
    """Return how far off the passes' estimates are, by the policy and at random."""
    edges = np.arange(_OFF[0], _OFF[1] + _BAR, _BAR)
    traces = [
        _spread(found.random / found.truth - 1.0, edges, "As many at random", "random", 0.45),
        _spread(found.drawn / found.truth - 1.0, edges, "By their losses", "efficient", 0.8),
    ]
    layout = _layout(
        300,
        xaxis={"range": list(_OFF), "tickformat": "+.0%",
               "title": {"text": "estimate of the mean loss, off by"}},
        yaxis={"title": {"text": "passes"}, "nticks": 5},
    )  # fmt: skip
    layout |= {"barmode": "overlay", "bargap": 0, "shapes": [_edge(0.0)]}
    return {"data": traces, "layout": layout}


def _spread(off: FloatArray, edges: FloatArray, name: str, role: str, alpha: float) -> Spec:
    counts, _ = np.histogram(np.clip(off, *_OFF), edges)
    shown = counts > 0
    return {
        "type": "bar", "name": name, "x": (edges[:-1] + _BAR / 2)[shown], "y": counts[shown],
        "width": _BAR, "marker": {"color": rgba(role, alpha), "line": {"width": 0}},
        "hovertemplate": "%{y} passes, off by %{x:+.1%}<extra>" + name + "</extra>",
    }  # fmt: skip


def race_figure(race: Race) -> Spec:
    """Return learning rate and accuracy of the four arms over the computation they spent."""
    budget = float(race.matched.spent[-1])
    arms = (
        ("Dense, all of it", race.full, "dense", "solid"),
        ("Dense, decayed over the budget", race.matched, "dense", "dash"),
        ("Confident skip, likewise", race.policy, "efficient", "solid"),
    )
    traces = [_course(*arm, place) for arm in arms for place in ("rate", "validation")]
    end = race.cut
    cross = {"symbol": "x", "size": 11, "color": COLOURS["power"]}
    for place, values in (("rate", end.rate), ("validation", end.validation)):
        traces.append(
            {"type": "scatter", "mode": "markers", "name": "Dense, cut off", "marker": cross,
             "x": [budget], "y": [float(values[-1])], "showlegend": place == "validation",
             "hovertemplate": "%{y:.1%}", **_AXES[place]}
        )  # fmt: skip
    layout = _layout(
        380,
        xaxis={"range": [0, 1.02], "tickformat": ".0%", "anchor": "y",
               "title": {"text": "share of the whole computation"}},
        yaxis={"domain": [0.0, 0.62], "tickformat": ".0%", "range": [0.75, 1.0],
               "title": {"text": "Accuracy"}},
        margin={"t": 60},
    )  # fmt: skip
    rate = {"domain": [0.72, 1.0], "tickformat": ".0%", "range": [0, 1.05], "nticks": 3}
    layout["yaxis2"] = _AXIS | rate | {"title": {"text": "Learning rate"}}
    return {"data": traces, "layout": layout | {"shapes": [_edge(budget)]}}


_AXES: Final[dict[str, Spec]] = {"rate": {"yaxis": "y2"}, "validation": {"yaxis": "y"}}


def _course(name: str, course: Course, role: str, dash: str, place: str) -> Spec:
    values: FloatArray = getattr(course, place)
    return {
        "type": "scatter", "mode": "lines", "name": name, "x": course.spent, "y": values,
        "line": {"color": COLOURS[role], "width": 2, "dash": dash}, "legendgroup": name,
        "showlegend": place == "validation", "hovertemplate": "%{y:.1%}", **_AXES[place],
    }  # fmt: skip
