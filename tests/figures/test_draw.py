from __future__ import annotations

import math
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from effcore.events import KnobChange
from effcore.figures.charts import axes_of, templates
from effcore.figures.draw import figures, smooth
from effcore.figures.palette import COLOURS, rgba
from effcore.figures.rows import AXES
from effcore.stream.frames import COLUMNS
from tests.fakes import ESTIMATED, INFO, MEASURED, UNAVAILABLE, histogram, snapshot

ROOT = Path(__file__).parents[2]


def traces(figure: go.Figure) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


def test_four_charts_and_their_traces() -> None:
    found = figures(snapshot(), INFO)
    assert list(found) == ["loss", "skip", "power", "histogram"]
    loss = traces(found["loss"])
    assert list(loss["Training"].x) == list(range(1, 21))
    np.testing.assert_allclose(loss["Accuracy"].y, [0.5, 0.9])
    assert loss["Accuracy"].yaxis == "y2"
    assert loss["Each batch"].y[-1] == pytest.approx(1 / 20)
    skip = traces(found["skip"])
    np.testing.assert_allclose(skip["Since the start"].y, 1 - 0.5 * 1.1)
    assert found["skip"].layout.yaxis.tickformat == ".0%"


def test_every_trace_names_columns_that_are_streamed() -> None:
    for energy in (MEASURED, ESTIMATED, UNAVAILABLE):
        for figure in templates(snapshot(energy=energy, reference_id="dense"), INFO).values():
            for trace in figure.data:
                table = trace.meta["table"].removeprefix("ref_")
                assert table in {*COLUMNS, "marks", "histogram"}
                if table in COLUMNS:
                    assert trace.meta["y"] in COLUMNS[table]


@pytest.mark.parametrize("axis", AXES)
def test_the_time_charts_share_one_axis(axis: str) -> None:
    found = figures(snapshot(), INFO, axis=axis)
    ends = {traces(found[c])[t].x[-1] for c, t in (("loss", "Training"), ("skip", "Now"))}
    assert len(ends) == 1
    assert {found[c].layout.xaxis.title.text for c in ("loss", "skip", "power")} == {AXES[axis]}


def test_the_reference_is_dashed_and_only_there_where_there_is_one() -> None:
    assert "Dense" not in traces(figures(snapshot(), INFO)["loss"])
    pair = figures(snapshot(reference_id="d"), INFO, reference=snapshot(30))["loss"]
    assert traces(pair)["Dense"].line.dash == "dash"
    assert traces(pair)["Dense"].line.color == COLOURS["dense"]
    assert list(traces(pair)["Dense"].x) == list(range(1, 31))


def test_what_is_measured_is_a_line_with_its_label() -> None:
    figure = figures(snapshot(), INFO)["power"]
    assert {"Watts", "Joules since the start"} <= set(traces(figure))
    assert traces(figure)["Watts"].line.width > 0
    (note,) = figure.layout.annotations
    assert (note.text, note.hovertext) == ("MEASURED · GPU board", "a counter")


def test_what_is_estimated_is_a_hatched_band_and_never_a_line() -> None:
    power = snapshot().power.copy()
    power[[1, 4]] = math.nan
    power[[2, 3]], power[[5, 6]] = [[1.0], [4.0]], [power[0], 4 * power[0]]
    figure = figures(snapshot(energy=ESTIMATED, power=power), INFO)["power"]
    bands = [t for t in figure.data if t.meta["table"] == "power"]
    assert {t.line.width for t in bands} == {0}
    assert [t.fillpattern.shape for t in bands if t.fill == "tonexty"] == ["/", "."]
    assert figure.layout.annotations[0].text.startswith("ESTIMATED")
    assert np.isfinite(bands[0].y).all()


def test_where_there_is_no_energy_the_chart_says_why() -> None:
    look = snapshot(energy=UNAVAILABLE, power=np.empty((7, 0)))
    figure = figures(look, INFO)["power"]
    assert [t for t in figure.data if t.meta["table"] == "power"] == []
    assert "No TDP." in figure.layout.annotations[0].text
    assert figure.layout.xaxis.visible is False
    assert [a["why"] for a in axes_of(look) if a["id"] == "joules"] == ["No energy reading"]


def test_an_estimated_axis_says_so() -> None:
    titles = {a["id"]: a["title"] for a in axes_of(snapshot(energy=ESTIMATED))}
    assert titles["joules"] == "Joules (estimated: middle of the range)"
    assert titles["seconds"] == "Seconds"


def test_a_knob_change_is_a_vertical_mark_on_the_time_charts() -> None:
    found = figures(snapshot(changes=(KnobChange(7, "mass", 0.2),)), INFO)
    for name in ("loss", "skip", "power"):
        mark = traces(found[name])["Knob changes"]
        assert tuple(mark.x) == (7, 7, None)
        assert tuple(mark.y) == (0, 1, None)
    assert "Knob changes" not in traces(found["histogram"])


def test_the_histogram_shows_what_the_threshold_cuts() -> None:
    found = traces(figures(snapshot(histogram=histogram(0.01)), INFO)["histogram"])
    assert list(found["Below the cut"].y) == [1, 2]
    assert list(found["Kept"].y) == [3, 4]
    np.testing.assert_allclose(found["Cut"].x, [-2, -2])
    assert found["Kept"].marker.color != found["Below the cut"].marker.color


def test_smoothing_weighs_by_distance_and_can_be_off() -> None:
    step, values = np.array([1.0, 2.0, 102.0]), np.array([0.0, 1.0, 5.0])
    smoothed = smooth(step, values, 1.0)
    assert smoothed[1] == pytest.approx(1 - math.exp(-1))
    assert smoothed[2] == pytest.approx(5.0)  # a hundred time constants later
    assert smooth(step, values, 0.0) is values


def test_smoothing_goes_on_after_a_break() -> None:
    smoothed = smooth(np.arange(4.0), np.array([1.0, math.nan, 3.0, 3.0]), 1.0)
    assert math.isnan(smoothed[1])
    assert smoothed[2] == pytest.approx(3.0)


def test_an_empty_run_draws_empty_charts() -> None:
    empty = snapshot(0, start=None, steps=np.empty((8, 0)), evals=np.empty((6, 0)))
    assert len(traces(figures(empty)["loss"])["Training"].x) == 0


def luminance(colour: str) -> float:
    channels = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("role", COLOURS)
def test_role_colours_stand_out_on_both_backgrounds(role: str) -> None:
    theme = tomllib.loads((ROOT / ".streamlit/config.toml").read_text())["theme"]
    for mode in ("light", "dark"):
        pair = (luminance(COLOURS[role]), luminance(theme[mode]["backgroundColor"]))
        assert (max(pair) + 0.05) / (min(pair) + 0.05) >= 3.0
    assert theme["chartCategoricalColors"] == list(COLOURS.values())


def test_the_panel_and_the_logo_use_the_role_colours() -> None:
    css = (ROOT / "pages/ui/panel.css").read_text()
    assert f"--ec-blue: {COLOURS['efficient']};" in css
    assert set(re.findall(r"#[0-9a-f]{6}", css)) == {COLOURS["efficient"]}
    assert COLOURS["efficient"] in (ROOT / "assets/icon.svg").read_text()


def test_rgba_adds_opacity() -> None:
    assert rgba("efficient", 0.5) == "rgba(47,128,216,0.5)"
