"""Figures of a study: differences with their intervals, and the arms' curves with bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import plotly.graph_objects as go

from effcore.figures.palette import COLOURS, rgba_css
from effcore.records import EVAL_COLUMNS, FloatArray, Snapshot
from effcore.studies.verdict import Verdict

#: Points at which curves of different runs are brought together.
_CURVE_POINTS = 60
_BASELINE_TITLES: Final = {"D100": "full dense", "D-B": "same compute, dense"}


class VariantCurve(NamedTuple):
    """An arm's validation metric over the computation spent, over its seeds.

    Attributes:
        variant: Its name.
        flops: Shape (points,).
        mean: Shape (points,).
        lo: Least of the seeds, shape (points,).
        hi: Largest of the seeds, shape (points,).
    """

    variant: str
    flops: FloatArray
    mean: FloatArray
    lo: FloatArray
    hi: FloatArray


def variant_curves(runs: Mapping[str, Mapping[int, Snapshot]]) -> list[VariantCurve]:
    """Bring the seeds of each arm onto the same points of computation."""
    found = []
    for arm, by_seed in runs.items():
        looks = [look.evals for look in by_seed.values() if look.evals.shape[1] > 1]
        if not looks:
            continue
        place, metric = EVAL_COLUMNS.index("flops"), EVAL_COLUMNS.index("metric")
        flops = np.linspace(0.0, min(float(each[place, -1]) for each in looks), _CURVE_POINTS)
        values = np.stack([np.interp(flops, each[place], each[metric]) for each in looks])
        found.append(VariantCurve(arm, flops, values.mean(0), values.min(0), values.max(0)))
    return found


#: Policies in the order they are drawn take these roles' colours, again from the first on.
_POLICY_ROLES: Final = ("efficient", "metric", "power")
_BASELINE_ROLES: Final = {"D100": "dense", "D-B": "dense", "random": "random"}


def variant_roles(variants: Sequence[str]) -> dict[str, str]:
    """Return in which role's colour each arm is drawn; D-B is told from D100 by dashes."""
    own = [arm for arm in variants if arm not in _BASELINE_ROLES]
    return _BASELINE_ROLES | {
        arm: _POLICY_ROLES[n % len(_POLICY_ROLES)] for n, arm in enumerate(own)
    }


def variant_curves_figure(curves: Sequence[VariantCurve], label: str, percent: bool) -> go.Figure:
    """Return the arms' curves, a band from the least to the largest seed."""
    figure = go.Figure()
    factor, colour = 100.0 if percent else 1.0, variant_roles([curve.variant for curve in curves])
    for curve in curves:
        x, band = curve.flops, np.concatenate([curve.hi, curve.lo[::-1]]) * factor
        figure.add_scatter(
            x=np.concatenate([x, x[::-1]]),
            y=band,
            fill="toself",
            fillcolor=rgba_css(colour[curve.variant], 0.08),
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
        )
        figure.add_scatter(
            x=x,
            y=curve.mean * factor,
            name=curve.variant,
            line={
                "color": COLOURS[colour[curve.variant]],
                "dash": "dash" if curve.variant == "D-B" else "solid",
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
    """Return differences with their 95% intervals, zero and the margin marked.

    Args:
        verdicts: What was shown of each policy.
        margin: The difference of no consequence, in the metric's scale.
        factor: By which values are multiplied to be shown.
        unit: What they are then in.
        with_policy: Whether each row names its policy; without, rows fit a phone in large type.
    """
    figure = go.Figure()
    for place, (name, against) in enumerate(_BASELINE_TITLES.items()):
        own = [verdict.differences[place].paired for verdict in verdicts]
        figure.add_scatter(
            x=[factor * paired.mean for paired in own],
            y=[
                f"{each.arm}<br>against {against}"  # a phone is narrow
                if with_policy
                else f"against<br>{against.replace(', dense', '')}"
                for each in verdicts
            ],
            error_x={
                "symmetric": False,
                "array": [factor * (paired.hi - paired.mean) for paired in own],
                "arrayminus": [factor * (paired.mean - paired.lo) for paired in own],
            },
            mode="markers",
            marker={"size": 10, "color": COLOURS["efficient" if name == "D100" else "power"]},
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
