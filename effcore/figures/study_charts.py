"""Charts of a study: differences with their intervals, and the variants' curves with bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import plotly.graph_objects as go

from effcore.figures.palette import COLOURS, rgba_css
from effcore.records import EVAL_COLUMNS, FloatArray, Snapshot
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
