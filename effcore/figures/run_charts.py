"""Charts of runs: templates in plotly's JSON, filled charts, and several runs in one chart.

Figures are plain dictionaries, because building plotly's own objects validates every option,
which delays a page by a tenth of a second; the tests validate them instead.

The ``meta`` of each trace names the table and column of its data (and ``smooth`` where it is an
average); the live panel fills the traces in the browser as data stream in.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import plotly.graph_objects as go
from tsdownsample import MinMaxLTTBDownsampler

from effcore.figures.palette import COLOURS, rgba_css, role_of_policy
from effcore.figures.snapshot_rows import AXES, eval_rows, power_rows, step_rows
from effcore.records import EVAL_COLUMNS, EnergyQuality, FloatArray, Snapshot
from effcore.records.run_description import RunDescription
from effcore.store.run_records import RunEvalCurve

#: Number format of a position on each axis when hovering (d3 format).
AXIS_FORMATS: Final = {
    "step": ",.0f",
    "epochs": ".2f",
    "seconds": ".1f",
    "flops": ".4s",
    "joules": ".4s",
}
#: A trace, or a figure of ``data`` and ``layout``, in plotly's JSON.
PlotlySpec = dict[str, Any]

_GRID = "rgba(127,140,153,0.22)"
_INTERVAL_QUALITIES = (EnergyQuality.ESTIMATED, EnergyQuality.MODELLED)
#: Overlay axis from 0 to 1 on which vertical marks are drawn.
_MARK_AXIS = {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True}
_LEGEND = {
    "orientation": "h",
    "x": 0,
    "y": 1.01,
    "yanchor": "bottom",
    "font": {"size": 11},
    "traceorder": "normal",
}
_RIGHT_AXIS: dict[str, Any] = {
    "overlaying": "y",
    "side": "right",
    "showgrid": False,
    "tickmode": "auto",  # round numbers of its own, not opposite the ticks of the left axis
    "nticks": 6,
}


def chart_templates(snapshot: Snapshot, description: RunDescription) -> dict[str, PlotlySpec]:
    """Return the four charts without data: ``loss``, ``skip``, ``power``, ``histogram``.

    Args:
        snapshot: The run. It decides whether there are traces of a reference, whether power is
            a line or a band, and by its policy the colour.
        description: Titles and labels of the run.
    """
    role = role_of_policy(snapshot.config.selection)
    return {
        "loss": _loss_figure(description, role, with_reference=snapshot.reference_id is not None),
        "skip": _skip_figure(role),
        "power": _power_figure(snapshot),
        "histogram": loss_histogram_figure(description.loss_label, role),
    }


def axis_choices(snapshot: Snapshot) -> list[dict[str, str]]:
    """Return the horizontal axes: ``id, name, title, format`` and ``why`` one is unavailable."""
    quality, titles = snapshot.energy.quality, dict(AXES)
    if quality is not EnergyQuality.UNAVAILABLE:
        range_note = ": middle of the range" if quality in _INTERVAL_QUALITIES else ""
        titles["joules"] = f"Joules ({quality.value}{range_note})"
    reasons = {"joules": "No energy reading"} if quality is EnergyQuality.UNAVAILABLE else {}
    return [
        {
            "id": axis,
            "name": name,
            "title": titles[axis],
            "format": AXIS_FORMATS[axis],
            "why": reasons.get(axis, ""),
        }
        for axis, name in AXES.items()
    ]


def energy_quality_note(snapshot: Snapshot) -> str:
    """Return the power chart's annotation: quality and scope, or why there is no energy."""
    energy = snapshot.energy
    if energy.quality is EnergyQuality.UNAVAILABLE:
        reason = energy.notes[0] if energy.notes else energy.source
        return "<br>".join(["<b>No energy reading</b>", *textwrap.wrap(reason, 38)])
    return "<br>".join(textwrap.wrap(f"{energy.quality.value.upper()} · {energy.scope}", 46))


def _line_trace(name: str, table: str, y: str, role: str, **more: Any) -> PlotlySpec:
    meta = {"table": table, "y": y} | more.pop("meta", {})
    line = {"color": COLOURS[role], "width": 2} | more.pop("line", {})
    options = {"mode": "lines", "hovertemplate": "%{y:.4g}", "connectgaps": False} | more
    return _empty_trace("scatter", name, meta, line=line, **options)


def _empty_trace(kind: str, name: str, meta: PlotlySpec, **options: Any) -> PlotlySpec:
    return {"type": kind, "name": name, "x": [], "y": [], "meta": meta, **options}


def _knob_change_trace() -> PlotlySpec:
    return _empty_trace(
        "scatter",
        "Knob changes",
        {"table": "marks", "y": "marks"},
        yaxis="y9",
        mode="lines+markers",
        line={"color": rgba_css("dense", 0.75), "width": 1, "dash": "dot"},
        marker={"symbol": "diamond", "size": 7, "color": COLOURS["dense"]},
        hovertemplate="%{text}",
        showlegend=False,
    )


def _base_figure(title: str, traces: list[Any], *, time: bool = True, **layout: Any) -> PlotlySpec:
    axis: dict[str, Any] = {"gridcolor": _GRID, "zeroline": False, "automargin": True}
    axis |= {"tickfont": {"size": 11}, "title": {"font": {"size": 11}, "standoff": 6}}
    xaxis = axis | {"showgrid": False, "linecolor": _GRID, "showline": True}
    xaxis |= {"spikethickness": 1, "spikedash": "solid", "spikecolor": COLOURS["dense"]}
    if time:
        xaxis |= {"tickformat": "~s", "title": axis["title"] | {"text": AXES["step"]}}
    base: dict[str, Any] = {
        "template": {},
        "title": {
            "text": f"<b>{title}</b>",
            "font": {"size": 14},
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "y": 1,
            "yanchor": "top",
            "pad": {"t": 8, "l": 6},
        },
        "font": {"size": 12, "color": COLOURS["dense"]},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 8, "r": 8, "t": 56, "b": 8},
        "legend": _LEGEND,
        "hovermode": "x unified",
        "uirevision": "run",
        "meta": {"time": time},
        "xaxis": xaxis,
        "yaxis9": _MARK_AXIS,
    }
    for name, value in layout.items():
        title = axis["title"] | value.get("title", {})
        base[name] = base.get(name, axis) | value | {"title": title}
    return {"data": traces, "layout": base}


def _loss_figure(description: RunDescription, role: str, with_reference: bool) -> PlotlySpec:
    loss = description.loss_label
    label, unit = description.metric.label, description.metric.unit
    percent = unit == "%"
    number_format = "%{y:.2%}" if percent else "%{y:.4g}" + (f" {unit}" if unit else "")
    reference_traces = [
        _line_trace("Reference", "ref_steps", "loss_mean", "dense", meta={"smooth": True},
              line={"dash": "dash", "width": 1.6}),
        _line_trace("Reference, validation", "ref_evals", "loss", "dense", showlegend=False,
              line={"dash": "dot", "width": 1.6}),
        _line_trace(f"Reference, {label}", "ref_evals", "metric", "dense", showlegend=False,
              yaxis="y2", line={"dash": "longdashdot", "width": 1.4},
              hovertemplate=number_format),
    ]  # fmt: skip
    run_traces = [
        _line_trace("Each batch", "steps", "loss", role, opacity=0.28, showlegend=False,
              line={"width": 1}),
        _line_trace("Training", "steps", "loss_mean", role, meta={"smooth": True}),
        _line_trace("Validation", "evals", "loss", role, mode="lines+markers",
              line={"dash": "dot", "width": 1.6}, marker={"size": 5, "symbol": "circle-open"}),
        _line_trace(label, "evals", "metric", "metric", yaxis="y2", mode="lines+markers",
              marker={"size": 4}, hovertemplate=number_format),
    ]  # fmt: skip
    return _base_figure(
        f"{loss} and {label}",
        [*(reference_traces if with_reference else []), *run_traces, _knob_change_trace()],
        # Logarithmic at first: a loss falls by decades, and its small values matter most.
        # Three ticks: with more, plotly labels every digit of a single decade. The live panel
        # sets more once it knows how many decades there are.
        yaxis={"title": {"text": loss}, "type": "log", "tickformat": ".3~g", "nticks": 3},
        yaxis2=_RIGHT_AXIS
        | {
            "title": {"text": f"{label}, {unit}" if unit and not percent else label},
            "tickformat": ".0%" if percent else "",
            "autorangeoptions": {"clipmin": 0, "clipmax": 1} if percent else {},
        },
    )


def _skip_figure(role: str) -> PlotlySpec:
    percent = {"hovertemplate": "%{y:.1%}"}
    traces = [
        _line_trace("Now", "steps", "skipped_now", role, opacity=0.55, line={"width": 1.2},
              **percent),
        _line_trace("Since the start", "steps", "skipped", role, line={"width": 2.5}, **percent),
        _line_trace("Cost of selection", "steps", "skipped_gross", "power", fill="tonexty",
              fillcolor=rgba_css("power", 0.5), line={"width": 0.6}, **percent),
    ]  # fmt: skip
    return _base_figure(
        "Computation skipped",
        [*traces, _knob_change_trace()],
        yaxis={
            "tickformat": ".1~%",
            "rangemode": "tozero",
            "title": {"text": "of FLOPs without skipping"},
            # The selection cost of an epoch is counted at its start: at the first step it may
            # exceed the step's cost, which would compress the rest of the chart.
            # Clipped above as well, since the margin grows with what is clipped below.
            "autorangeoptions": {"clipmin": -0.5, "clipmax": 1.0},
        },
    )


def _power_figure(snapshot: Snapshot) -> PlotlySpec:
    quality = snapshot.energy.quality
    is_unavailable = quality is EnergyQuality.UNAVAILABLE
    traces = (
        []
        if is_unavailable
        else _power_bands()
        if quality in _INTERVAL_QUALITIES
        else _power_lines()
    )
    figure = _base_figure(
        "Power and energy",
        [*traces, _knob_change_trace()],
        yaxis={
            "title": {"text": "Watts"},
            "nticks": 6,
            "rangemode": "tozero",
            "visible": not is_unavailable,
        },
        yaxis2=_RIGHT_AXIS
        | {"title": {"text": "Joules"}, "rangemode": "tozero", "tickformat": "~s"},
    )
    figure["layout"]["xaxis"]["visible"] = not is_unavailable
    annotation: dict[str, Any] = {"x": 0.5, "y": 0.5, "font": {"size": 13}}
    if not is_unavailable:
        annotation = {"x": 0.01, "y": 0.98, "xanchor": "left", "yanchor": "top", "align": "left"}
        annotation["font"] = {"size": 11}
    annotation |= {"xref": "paper", "yref": "paper", "showarrow": False}
    annotation["hovertext"] = "<br>".join(textwrap.wrap(snapshot.energy.source, 60))
    figure["layout"]["annotations"] = [annotation | {"text": energy_quality_note(snapshot)}]
    return figure


def _power_lines() -> list[PlotlySpec]:
    return [
        _line_trace("Watts", "power", "power_w", "power", hovertemplate="%{y:.1f} W",
              line={"width": 1.6}, fill="tozeroy", fillcolor=rgba_css("power", 0.12)),
        _line_trace("Joules since the start", "power", "energy_j", "power", yaxis="y2",
              hovertemplate="%{y:.4s}J", line={"dash": "dash", "width": 2}),
    ]  # fmt: skip


def _power_bands() -> list[PlotlySpec]:
    """Return hatched bands for intervals, without a line in the middle."""
    result = []
    for name, prefix, unit, role, shape, yaxis in (
        ("Watts, range", "power_{}_w", "W", "dense", "/", "y"),
        ("Joules since the start, range", "energy_{}_j", "J", "power", ".", "y2"),
    ):
        hatch: dict[str, Any] = {"shape": shape, "fgcolor": rgba_css(role, 0.55)}
        hatch["bgcolor"] = rgba_css(role, 0.10)
        hatch |= {"size": 7, "solidity": 0.25}
        text = "%{y:.4s}" + unit
        edge = {"width": 0}
        low = _line_trace(
            f"{name}, low", "power", prefix.format("lo"), role, line=edge, yaxis=yaxis
        )
        high = _line_trace(name, "power", prefix.format("hi"), role, line=edge, yaxis=yaxis)
        low |= {"showlegend": False, "hovertemplate": text}
        high |= {"fill": "tonexty", "fillpattern": hatch, "hovertemplate": text}
        result += [low, high]
    return result


def loss_histogram_figure(loss_label: str, role: str) -> PlotlySpec:
    """Return the loss histogram without data.

    Args:
        loss_label: Name of the loss.
        role: Role whose colour the examples above the cut have.
    """
    text = "%{y:,.0f} examples, loss %{customdata[0]:.3g} to %{customdata[1]:.3g}"
    hatch = {"shape": "/", "size": 6, "solidity": 0.3}
    hatch |= {"fgcolor": COLOURS["dense"], "bgcolor": rgba_css("dense", 0.3)}
    bars = [
        _empty_trace("bar", name, {"table": "histogram", "y": column},
               hovertemplate=text + "<extra></extra>", marker=marker)
        for name, column, marker in (
            ("Below the cut", "cut", {"color": COLOURS["dense"], "pattern": hatch}),
            ("Kept", "kept", {"color": COLOURS[role]}),
        )
    ]  # fmt: skip
    line = _line_trace("Cut", "histogram", "threshold", "power", yaxis="y9", showlegend=False,
                 hoverinfo="skip", hovertemplate=None)  # fmt: skip
    decades = list(range(-12, 5))
    ticks = {"tickvals": decades, "ticktext": [f"10<sup>{d}</sup>" for d in decades]}
    return _base_figure(
        f"{loss_label} of each example",
        [*bars, line],
        time=False,
        xaxis=ticks | {"title": {"text": "Last known loss, log scale"}},
        yaxis={"title": {"text": "Examples"}, "tickformat": "~s", "nticks": 6},
    )


# Several runs -----------------------------------------------------------------------------


#: Horizontal axes, with their titles.
OVERLAY_AXES: Final = {
    "flops": "FLOPs spent",
    "seconds": "Seconds",
    "passes": "Epochs",
}
_LINE_COLOURS: Final = tuple(
    COLOURS[role] for role in ("efficient", "power", "metric", "random", "dense")
)
_LINE_DASHES: Final = ("solid", "dash", "dot")
#: Number of distinguishable lines.
MAX_LINES: Final = len(_LINE_COLOURS) * len(_LINE_DASHES)
_OVERLAY_FORMATS: Final = {"flops": "~s", "seconds": "", "passes": ""}


class OverlayLine(NamedTuple):
    """One run's line.

    Attributes:
        name: Name of the run, plain text.
        place: Index of the run, which gives it the same colour and dashes in every chart.
        x: Shape (n,), float64.
        y: Shape (n,), float64.
    """

    name: str
    place: int
    x: Any
    y: Any


def overlay_line(
    name: str, place: int, curve: RunEvalCurve, column: str, axis: str
) -> OverlayLine | None:
    """Return a run's line; ``None`` if it has no points on the axis.

    Args:
        name: Name of the run.
        place: Index of the run.
        curve: Its evaluations.
        column: ``loss`` or ``metric``.
        axis: A key of ``OVERLAY_AXES``.
    """
    table = dict(zip(EVAL_COLUMNS, curve.evals, strict=True))
    if axis == "passes":
        if not curve.n_train:
            return None
        x = table["considered"] / curve.n_train
    else:
        x = table[axis]
    is_known = np.isfinite(table[column])
    return (
        OverlayLine(name, place, x[is_known], table[column][is_known]) if is_known.any() else None
    )


def overlay_figure(
    lines: Sequence[OverlayLine], title: str, axis: str, *, percent: bool = False, log: bool = False
) -> go.Figure:
    """Return lines over one axis.

    Args:
        lines: At most ``MAX_LINES``.
        title: Title of the vertical axis.
        axis: A key of ``OVERLAY_AXES``.
        percent: Whether values are fractions to be shown as percent.
        log: Whether the vertical axis is logarithmic.
    """
    figure = go.Figure()
    number_format = "%{y:.2%}" if percent else "%{y:.4g}"
    for line in lines:
        figure.add_scatter(
            x=line.x,
            y=line.y,
            name=html.escape(line.name, quote=False),  # plotly reads a few tags in a name
            mode="lines+markers",
            line={"color": _LINE_COLOURS[line.place % len(_LINE_COLOURS)], "width": 2,
                  "dash": _LINE_DASHES[line.place // len(_LINE_COLOURS) % len(_LINE_DASHES)]},
            marker={"size": 4},
            hovertemplate=number_format + " at %{x:.4s}",
        )  # fmt: skip
    figure.update_xaxes(
        title=OVERLAY_AXES[axis], tickformat=_OVERLAY_FORMATS[axis], rangemode="tozero"
    )
    figure.update_yaxes(title=title, tickformat=".0%" if percent else "", automargin=True)
    if log:
        figure.update_yaxes(type="log", tickformat=".3~g", nticks=3)
    legend = {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0}
    return figure.update_layout(
        height=330 + 22 * ((len(lines) + 1) // 2),
        margin={"l": 10, "r": 10, "t": 10, "b": 50 + 22 * ((len(lines) + 1) // 2)},
        legend=legend,
        showlegend=True,
        hovermode="closest",
    )


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
