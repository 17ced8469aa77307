"""Charts of studies, sweeps and scale ladders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import plotly.graph_objects as go

from effcore.figures.palette import COLOURS, rgba_css
from effcore.figures.run_charts import PlotlySpec
from effcore.impact.scale_ladder import LadderFit, Rung
from effcore.records import EVAL_COLUMNS, FloatArray, Snapshot
from effcore.studies.frontier import PointResult, SweepResult
from effcore.studies.plan import RANDOM_SKIPPING
from effcore.studies.verdict import DENSE_FULL, DENSE_MATCHED, Verdict

#: Points at which the curves of different seeds are interpolated.
_CURVE_POINTS = 60
#: Title and short title of the baselines that a verdict refers to.
_BASELINE_TITLES: Final = {
    DENSE_FULL: ("full training", "full"),
    DENSE_MATCHED: ("same-budget training", "same-budget"),
}


def variant_title(variant: str) -> str:
    """Return the title of a variant: a baseline's plain name, otherwise the variant's own."""
    return _BASELINE_TITLES[variant][0] if variant in _BASELINE_TITLES else variant


class VariantCurve(NamedTuple):
    """A variant's validation metric over the computation spent, summarised over its seeds.

    Attributes:
        variant: Name of the variant.
        flops: FLOPs spent, shape (points,).
        mean: Mean over the seeds, shape (points,).
        lo: Lowest of the seeds, shape (points,).
        hi: Highest of the seeds, shape (points,).
    """

    variant: str
    flops: FloatArray
    mean: FloatArray
    lo: FloatArray
    hi: FloatArray


def variant_curves(runs: Mapping[str, Mapping[int, Snapshot]]) -> list[VariantCurve]:
    """Return each variant's curve, with its seeds interpolated at the same FLOPs."""
    curves = []
    for variant, by_seed in runs.items():
        eval_tables = [
            snapshot.evals for snapshot in by_seed.values() if snapshot.evals.shape[1] > 1
        ]
        if not eval_tables:
            continue
        flops_row, metric_row = EVAL_COLUMNS.index("flops"), EVAL_COLUMNS.index("metric")
        flops = np.linspace(
            0.0, min(float(evals[flops_row, -1]) for evals in eval_tables), _CURVE_POINTS
        )
        values = np.stack(
            [np.interp(flops, evals[flops_row], evals[metric_row]) for evals in eval_tables]
        )
        curves.append(VariantCurve(variant, flops, values.mean(0), values.min(0), values.max(0)))
    return curves


#: Roles whose colours the policies take in order, cyclically.
_POLICY_ROLES: Final = ("efficient", "metric", "power")
_BASELINE_ROLES: Final = {
    DENSE_FULL: "dense",
    DENSE_MATCHED: "dense",
    RANDOM_SKIPPING: "random",
}


def variant_roles(variants: Sequence[str]) -> dict[str, str]:
    """Return the role whose colour each variant has; same-budget training is also dashed."""
    policies = [variant for variant in variants if variant not in _BASELINE_ROLES]
    return _BASELINE_ROLES | {
        variant: _POLICY_ROLES[n % len(_POLICY_ROLES)] for n, variant in enumerate(policies)
    }


def variant_curves_figure(curves: Sequence[VariantCurve], label: str, percent: bool) -> go.Figure:
    """Return the variants' curves, each with a band from the lowest to the highest seed."""
    figure = go.Figure()
    factor, roles = 100.0 if percent else 1.0, variant_roles([curve.variant for curve in curves])
    for curve in curves:
        x, band = curve.flops, np.concatenate([curve.hi, curve.lo[::-1]]) * factor
        figure.add_scatter(
            x=np.concatenate([x, x[::-1]]),
            y=band,
            fill="toself",
            fillcolor=rgba_css(roles[curve.variant], 0.08),
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
        )
        figure.add_scatter(
            x=x,
            y=curve.mean * factor,
            name=variant_title(curve.variant),
            line={
                "color": COLOURS[roles[curve.variant]],
                "dash": "dash" if curve.variant == DENSE_MATCHED else "solid",
            },
        )
    figure.update_xaxes(title="FLOPs spent", tickformat=".2s")
    figure.update_yaxes(title=f"{label}, validation")
    return figure.update_layout(height=360, margin=_MARGIN, legend=_LEGEND)


_MARGIN: Final = {"l": 10, "r": 10, "t": 30, "b": 10}
_LEGEND: Final = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0}


def forest_figure(
    verdicts: Sequence[Verdict],
    margin: float,
    factor: float,
    unit: str,
    with_policy: bool = True,
) -> go.Figure:
    """Return differences with their 95% intervals, with lines at zero and at the margin.

    Args:
        verdicts: The verdicts of the policies.
        margin: The non-inferiority margin, in the metric's scale.
        factor: Factor by which values are multiplied for display.
        unit: Unit of the displayed values.
        with_policy: Whether each row names its policy; without it, rows fit a phone in large type.
    """
    figure = go.Figure()
    for index, (name, (title, short_title)) in enumerate(_BASELINE_TITLES.items()):
        pairs = [verdict.differences[index].paired for verdict in verdicts]
        figure.add_scatter(
            x=[factor * paired.mean for paired in pairs],
            y=[
                f"{verdict.arm}<br>against {title}"  # a phone is narrow
                if with_policy
                else f"against<br>{short_title}"
                for verdict in verdicts
            ],
            error_x={
                "symmetric": False,
                "array": [factor * (paired.hi - paired.mean) for paired in pairs],
                "arrayminus": [factor * (paired.mean - paired.lo) for paired in pairs],
            },
            mode="markers",
            marker={"size": 10, "color": COLOURS["efficient" if name == DENSE_FULL else "power"]},
            showlegend=False,
            hovertemplate="%{x:+.3g} " + unit + "<extra>%{y}</extra>",
        )
    figure.add_vline(0.0, line_width=1, line_color=COLOURS["dense"])
    figure.add_vline(
        -factor * margin,
        line_width=1,
        line_dash="dot",
        line_color=COLOURS["dense"],
        annotation_text="margin",
        annotation_position="top left",
        annotation_yshift=14,
    )
    figure.update_xaxes(title=f"difference, {unit}".rstrip(", "), zeroline=False)
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure.update_layout(height=130 + 88 * len(verdicts), margin=_MARGIN)


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


# Scale ladders ----------------------------------------------------------------------------


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
