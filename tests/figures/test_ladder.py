from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from effcore.figures.study_charts import (
    NOT_MEASURED,
    has_clipped_interval,
    ladder_chart_data,
    ladder_figure,
    saving_axis_range,
)
from effcore.impact.scale_ladder import fit_ladder, make_rung

RUNGS = [make_rung(1e5, [0.16, 0.15]), make_rung(1e4, [0.10, 0.12]), make_rung(1e6, [0.20, 0.19])]
ROWS = ladder_chart_data(RUNGS, fit_ladder(RUNGS, decades=2, points=9))


def traces() -> dict[str, Any]:
    """By name, as plotly's own objects, which refuse an option that does not exist."""
    return {trace.name: trace for trace in go.Figure(ladder_figure(ROWS, "FLOPs")).data}


def test_rungs_stand_in_order_with_their_intervals() -> None:
    np.testing.assert_array_equal(ROWS.size, [1e4, 1e5, 1e6])
    np.testing.assert_allclose(ROWS.saving, [0.11, 0.155, 0.195])
    np.testing.assert_allclose(ROWS.saving - ROWS.below, [r.interval.lo for r in sorted(RUNGS)])
    assert traces()["Measured, 95% interval"].mode == "markers"


def test_the_band_is_divided_at_the_largest_rung() -> None:
    assert ROWS.measured_band[0, -1] == ROWS.extrapolated_band[0, 0] == 10 ** np.log10(1e6)
    np.testing.assert_allclose([ROWS.measured_band[0, 0], ROWS.extrapolated_band[0, 0]], [1e4, 1e6])
    np.testing.assert_allclose(ROWS.extrapolated_band[0, -1], 1e8)


def test_what_lies_beyond_is_hatched_dashed_and_said() -> None:
    found = traces()
    inside, beyond = found["95% band"], found[f"95% band, {NOT_MEASURED}"]
    assert (inside.fillpattern.shape, beyond.fillpattern.shape) == (None, "/")
    assert (found["Fit"].line.dash, found[f"Fit, {NOT_MEASURED}"].line.dash) == ("solid", "dash")
    layout = go.Figure(ladder_figure(ROWS, "FLOPs")).layout
    (sign,) = layout.annotations
    assert sign.text == f"<b>{NOT_MEASURED}</b>"
    # The axis is logarithmic: the sign stands between the largest rung and the end.
    assert 6 < sign.x < 8
    assert sign.bgcolor
    assert layout.xaxis.type == "log"
    assert layout.yaxis.title.text == "FLOPs saved"
    lo, hi = layout.yaxis.range
    assert -1 <= lo < 0.1
    assert 0.2 < hi <= 1


def test_an_interval_without_bounds_leaves_the_chart_and_not_the_savings_unreadable() -> None:
    assert not has_clipped_interval(ROWS)
    wide = [make_rung(1e4, [0.1, 0.32]), make_rung(1e5, [-0.9, 0.9]), make_rung(1e6, [0.2, 0.29])]
    rows = ladder_chart_data(wide, fit_ladder(wide))
    assert rows.saving[1] - rows.below[1] < -10
    lowest, highest = saving_axis_range(rows)
    assert has_clipped_interval(rows)
    assert -0.4 < lowest < 0 < 0.3 < highest < 0.7
    alike = [make_rung(size, [0.2, 0.2]) for size in (1e4, 1e5, 1e6)]
    lowest, highest = saving_axis_range(ladder_chart_data(alike, fit_ladder(alike)))
    assert lowest < 0 < 0.2 < highest


def test_a_ladder_without_beyond_is_drawn_too() -> None:
    rows = ladder_chart_data(RUNGS, fit_ladder(RUNGS, decades=0))
    assert go.Figure(ladder_figure(rows, "FLOPs")).data
