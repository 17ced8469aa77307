"""Charts of a run's training examples: data map, class shares, and one example's history."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
from tsdownsample import MinMaxLTTBDownsampler

from effcore.figures.palette import COLOURS, rgba_css
from effcore.insight.example_history import ClassShare, ExampleStatistics, ExampleTimeline
from effcore.records import FloatArray

#: Colour scale from never skipped to skipped most often. Colour-blind readers can distinguish
#: orange and blue, and all three colours contrast with both backgrounds.
SKIPPED_SCALE: Final = ((0.0, COLOURS["power"]), (0.5, COLOURS["dense"]),
                        (1.0, COLOURS["efficient"]))  # fmt: skip
_NOT_ON_MAP: Final = 65_535
#: Units of the integer coordinates: variability is 0.5 at most, confidence 1 at most.
MAP_UNITS: Final = (0.5 / (_NOT_ON_MAP - 1), 1.0 / (_NOT_ON_MAP - 1))
#: Most points drawn of a history; the table beside the chart has all of them.
_MAX_POINTS: Final = 600
#: Smaller losses are drawn at this value, because zero has no logarithm.
LEAST_LOSS: Final = 1e-4
_DOWNSAMPLER = MinMaxLTTBDownsampler()  # type: ignore[no-untyped-call]
_LEGEND: Final = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}


def data_map_arrays(statistics: ExampleStatistics) -> dict[str, Any]:
    """Return the data map's points for the browser: uint16 arrays, one entry per example.

    ``x`` is variability and ``y`` mean confidence, in units of ``MAP_UNITS``; ``y`` is 65,535
    for an example without a known confidence. ``skipped`` is the number of epochs that skipped
    it. Two bytes resolve a tenth of a pixel, at half the size of four.
    """
    known_N = statistics.known_N
    axes_N = {"x": statistics.variability_N, "y": statistics.confidence_N}
    arrays = {
        name: np.where(known_N, np.minimum(np.round(values / unit), _NOT_ON_MAP - 1), _NOT_ON_MAP)
        for (name, values), unit in zip(axes_N.items(), MAP_UNITS, strict=True)
    }
    arrays["skipped"] = np.where(known_N, np.minimum(statistics.skipped_N, _NOT_ON_MAP), 0)
    return {name: values.astype(np.uint16) for name, values in arrays.items()}


def class_shares_figure(shares: Sequence[ClassShare]) -> go.Figure:
    """Return each class's skipped share as a bar; starved classes have another colour."""
    figure = go.Figure()
    for starves, name, role in ((False, "skipped", "efficient"), (True, "starves", "power")):
        group_shares = [share for share in shares if share.starves == starves]
        if group_shares:
            figure.add_bar(
                x=[html.escape(share.name, quote=False) for share in group_shares],
                y=[share.skipped_frac for share in group_shares],
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
    """Return one example's last loss at the end of each epoch, and whether it was skipped.

    Args:
        timeline: The example.
        loss_label: Name of the loss.
        shown_epochs: Number of epochs that the rest of the page covers; a line marks the last.
    """
    figure = go.Figure()
    indices = _thinned_indices(timeline.loss_P)
    shown_losses = np.maximum(timeline.loss_P[indices], LEAST_LOSS)
    line = {"color": rgba_css("dense", 0.6), "width": 1.5}
    figure.add_scatter(
        x=timeline.epoch_P[indices], y=shown_losses, mode="lines", line=line, showlegend=False,
        hoverinfo="skip",
    )  # fmt: skip
    styles = (
        (True, "trained on", COLOURS["power"], "circle"),
        (False, "skipped", COLOURS["efficient"], "circle-open"),
    )
    for trained, name, colour, symbol in styles:
        is_kind = timeline.trained_P[indices] == trained
        figure.add_scatter(
            x=timeline.epoch_P[indices][is_kind], y=shown_losses[is_kind], name=name,
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 8, "line": {"width": 2}},
            hovertemplate=f"epoch %{{x}}, {name}: loss %{{y:.4g}}<extra></extra>",
        )  # fmt: skip
    if 0 < shown_epochs < len(timeline.epoch_P):
        figure.add_vline(
            x=float(timeline.epoch_P[shown_epochs - 1]),
            line_dash="dot",
            line_color=COLOURS["dense"],
        )
    floor = f", at least {LEAST_LOSS:g}" if (timeline.loss_P[indices] < LEAST_LOSS).any() else ""
    title = f"{html.escape(loss_label, quote=False).lower()}{floor}"
    figure.update_xaxes(
        title="epoch", tickformat="d", dtick=1 if len(timeline.epoch_P) < 10 else None
    )
    figure.update_yaxes(title=title, type="log", tickformat=".3~g", nticks=5)
    return figure.update_layout(
        height=300, margin={"l": 10, "r": 10, "t": 24, "b": 10}, legend=_LEGEND, showlegend=True,
        hovermode="closest",
    )  # fmt: skip


def _thinned_indices(values: FloatArray) -> Any:
    """Return the indices of the drawn points: all known ones, or a subset that keeps the shape."""
    known_indices = np.flatnonzero(np.isfinite(values))
    if len(known_indices) <= _MAX_POINTS:
        return known_indices
    return known_indices[
        _DOWNSAMPLER.downsample(
            np.log(np.maximum(values[known_indices], LEAST_LOSS)), n_out=_MAX_POINTS
        )
    ]
