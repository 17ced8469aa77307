"""Chart of several runs: one line per run, distinguished by colour and dashes."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import plotly.graph_objects as go

from effcore.figures.palette import COLOURS
from effcore.records import EVAL_COLUMNS
from effcore.store.run_records import RunEvalCurve

#: Horizontal axes, with their titles.
OVERLAY_AXES: Final = {
    "flops": "FLOPs spent",
    "seconds": "Seconds",
    "passes": "Epochs",
}
_COLOURS: Final = tuple(
    COLOURS[role] for role in ("efficient", "power", "metric", "random", "dense")
)
_DASHES: Final = ("solid", "dash", "dot")
#: Number of distinguishable lines.
MAX_LINES: Final = len(_COLOURS) * len(_DASHES)
_AXIS_FORMATS: Final = {"flops": "~s", "seconds": "", "passes": ""}


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
            line={"color": _COLOURS[line.place % len(_COLOURS)], "width": 2,
                  "dash": _DASHES[line.place // len(_COLOURS) % len(_DASHES)]},
            marker={"size": 4},
            hovertemplate=number_format + " at %{x:.4s}",
        )  # fmt: skip
    figure.update_xaxes(
        title=OVERLAY_AXES[axis], tickformat=_AXIS_FORMATS[axis], rangemode="tozero"
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
