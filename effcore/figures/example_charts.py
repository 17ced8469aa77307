"""The charts of a run's examples: the data map's points, classes, and one example's history."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
from tsdownsample import MinMaxLTTBDownsampler

from effcore.figures.palette import COLOURS, rgba_css
from effcore.insight.class_shares import ClassShare
from effcore.insight.example_history import ExampleStatistics
from effcore.insight.example_timeline import ExampleTimeline
from effcore.records import FloatArray

#: From examples that were never skipped to those that were skipped most. Orange and blue stay
#: apart for the colour-blind, and each of the three from both backgrounds.
SKIPPED_SCALE: Final = ((0.0, COLOURS["power"]), (0.5, COLOURS["dense"]),
                        (1.0, COLOURS["efficient"]))  # fmt: skip
_NOT_ON_MAP: Final = 65_535
#: What one of a point's variability and of its confidence stands for: they are 0.5 and 1 at most.
MAP_UNITS: Final = (0.5 / (_NOT_ON_MAP - 1), 1.0 / (_NOT_ON_MAP - 1))
#: Points of a history that are drawn; all of them are in the table beside.
_MAX_POINTS: Final = 600
#: Losses below are drawn here: a loss of zero has no logarithm.
LEAST_LOSS: Final = 1e-4
_DOWNSAMPLER = MinMaxLTTBDownsampler()  # type: ignore[no-untyped-call]
_LEGEND: Final = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}


def data_map_arrays(statistics: ExampleStatistics) -> dict[str, Any]:
    """Return the data map's points as a browser reads them: a row for each example, uint16.

    ``x`` is variability and ``y`` mean confidence, in units of ``MAP_UNIT``; ``y`` is 65,535
    for an example that has no place on the map. ``skipped`` is how often it was. Two bytes
    tell points apart that are a tenth of a pixel from each other, and are half as many to send.
    """
    known_N = statistics.known_N
    place_N = {"x": statistics.variability_N, "y": statistics.confidence_N}
    arrays = {
        name: np.where(known_N, np.minimum(np.round(values / unit), _NOT_ON_MAP - 1), _NOT_ON_MAP)
        for (name, values), unit in zip(place_N.items(), MAP_UNITS, strict=True)
    }
    arrays["skipped"] = np.where(known_N, np.minimum(statistics.skipped_N, _NOT_ON_MAP), 0)
    return {name: values.astype(np.uint16) for name, values in arrays.items()}


def class_shares_figure(shares: Sequence[ClassShare]) -> go.Figure:
    """Return each class's skipped share as a bar, those that starve in another colour."""
    figure = go.Figure()
    for starves, name, role in ((False, "skipped", "efficient"), (True, "starves", "power")):
        own = [share for share in shares if share.starves == starves]
        if own:
            figure.add_bar(
                x=[html.escape(share.name, quote=False) for share in own],
                y=[share.skipped_frac for share in own],
                name=name,
                marker={"color": COLOURS[role]},
                hovertemplate="%{x}: %{y:.1%} skipped<extra></extra>",
            )
    names = [html.escape(share.name, quote=False) for share in shares]
    figure.update_xaxes(type="category", categoryorder="array", categoryarray=names)
    figure.update_yaxes(title="skipped share", tickformat=".0%", range=[0, 1])
    return figure.update_layout(
        height=280, margin={"l": 10, "r": 10, "t": 24, "b": 10}, bargap=0.35, legend=_LEGEND,
        showlegend=any(share.starves for share in shares), hovermode="closest",
    )  # fmt: skip


def example_timeline_figure(
    timeline: ExampleTimeline, loss_label: str, shown_epochs: int
) -> go.Figure:
    """Return one example's last loss by the end of each pass, and what was decided.

    Args:
        timeline: The example.
        loss_label: What a loss is called.
        shown_epochs: Passes up to which the rest of the page looks; a line is drawn there.
    """
    figure = go.Figure()
    at = _thinned_indices(timeline.loss_P)
    shown = np.maximum(timeline.loss_P[at], LEAST_LOSS)
    line = {"color": rgba_css("dense", 0.6), "width": 1.5}
    figure.add_scatter(x=timeline.epoch_P[at], y=shown, mode="lines", line=line, showlegend=False,
                       hoverinfo="skip")  # fmt: skip
    kinds = (
        (True, "trained on", COLOURS["power"], "circle"),
        (False, "skipped", COLOURS["efficient"], "circle-open"),
    )
    for trained, name, colour, symbol in kinds:
        own = timeline.trained_P[at] == trained
        figure.add_scatter(
            x=timeline.epoch_P[at][own], y=shown[own], name=name, mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 8, "line": {"width": 2}},
            hovertemplate=f"pass %{{x}}, {name}: loss %{{y:.4g}}<extra></extra>",
        )  # fmt: skip
    if 0 < shown_epochs < len(timeline.epoch_P):
        figure.add_vline(
            x=float(timeline.epoch_P[shown_epochs - 1]),
            line_dash="dot",
            line_color=COLOURS["dense"],
        )
    floor = f", at least {LEAST_LOSS:g}" if (timeline.loss_P[at] < LEAST_LOSS).any() else ""
    title = f"{html.escape(loss_label, quote=False).lower()}{floor}"
    figure.update_xaxes(
        title="pass", tickformat="d", dtick=1 if len(timeline.epoch_P) < 10 else None
    )
    figure.update_yaxes(title=title, type="log", tickformat=".3~g", nticks=5)
    return figure.update_layout(
        height=300, margin={"l": 10, "r": 10, "t": 24, "b": 10}, legend=_LEGEND, showlegend=True,
        hovermode="closest",
    )  # fmt: skip


def _thinned_indices(values: FloatArray) -> Any:
    """Return which points are drawn: all that are known, or those that keep the shape."""
    known = np.flatnonzero(np.isfinite(values))
    if len(known) <= _MAX_POINTS:
        return known
    return known[
        _DOWNSAMPLER.downsample(np.log(np.maximum(values[known], LEAST_LOSS)), n_out=_MAX_POINTS)
    ]
