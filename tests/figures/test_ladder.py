from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from effcore.figures.ladder import NOT_MEASURED, ladder_figure, ladder_rows
from effcore.impact.ladder import bands, rung

RUNGS = [rung(1e5, [0.16, 0.15]), rung(1e4, [0.10, 0.12]), rung(1e6, [0.20, 0.19])]
ROWS = ladder_rows(RUNGS, bands(RUNGS, decades=2, points=9))


def traces() -> dict[str, Any]:
    """By name, as plotly's own objects, which refuse an option that does not exist."""
    return {trace.name: trace for trace in go.Figure(ladder_figure(ROWS, "FLOPs")).data}


def test_rungs_stand_in_order_with_their_intervals() -> None:
    np.testing.assert_array_equal(ROWS.size, [1e4, 1e5, 1e6])
    np.testing.assert_allclose(ROWS.saving, [0.11, 0.155, 0.195])
    np.testing.assert_allclose(ROWS.saving - ROWS.below, [r.interval.lo for r in sorted(RUNGS)])
    assert traces()["Measured, 95% interval"].mode == "markers"


def test_the_band_is_divided_at_the_largest_rung() -> None:
    assert ROWS.inside[0, -1] == ROWS.beyond[0, 0] == 10 ** np.log10(1e6)
    np.testing.assert_allclose([ROWS.inside[0, 0], ROWS.beyond[0, 0]], [1e4, 1e6])
    np.testing.assert_allclose(ROWS.beyond[0, -1], 1e8)


def test_what_lies_beyond_is_hatched_dashed_and_said() -> None:
    found = traces()
    inside, beyond = found["95% band"], found[f"95% band, {NOT_MEASURED}"]
    assert (inside.fillpattern.shape, beyond.fillpattern.shape) == (None, "/")
    assert (found["Fit"].line.dash, found[f"Fit, {NOT_MEASURED}"].line.dash) == ("solid", "dash")
    layout = go.Figure(ladder_figure(ROWS, "FLOPs")).layout
    assert [note.text for note in layout.annotations] == [NOT_MEASURED]
    assert layout.xaxis.type == "log"
    assert layout.yaxis.title.text == "FLOPs saved"
    lo, hi = layout.yaxis.range
    assert -1 <= lo < 0.1
    assert 0.2 < hi <= 1


def test_a_ladder_without_beyond_is_drawn_too() -> None:
    rows = ladder_rows(RUNGS, bands(RUNGS, decades=0))
    assert go.Figure(ladder_figure(rows, "FLOPs")).data
