from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from effcore.figures.palette import COLOURS
from effcore.figures.run_charts import axis_choices, chart_templates
from effcore.figures.snapshot_rows import AXES
from effcore.live.protocol import FRAME_COLUMNS
from effcore.records import Snapshot
from effcore.records.run_description import RunDescription
from tests.fakes import ESTIMATED, INFO, MEASURED, UNAVAILABLE, snapshot

TIME_CHARTS = ("loss", "skip", "power")


def charts(look: Snapshot | None = None, info: RunDescription = INFO) -> dict[str, go.Figure]:
    """The charts as plotly's own objects, which refuse an option that does not exist."""
    return {
        name: go.Figure(spec) for name, spec in chart_templates(look or snapshot(), info).items()
    }


def traces(figure: go.Figure) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


def test_four_charts_without_data() -> None:
    found = charts()
    assert list(found) == ["loss", "skip", "power", "histogram"]
    assert [t.name for f in found.values() for t in f.data if t.x or t.y] == []
    assert traces(found["loss"])["Accuracy"].yaxis == "y2"
    assert found["skip"].layout.yaxis.tickformat == ".1~%"
    assert found["skip"].layout.yaxis.autorangeoptions.clipmax == 1, "no more can be skipped"


@pytest.mark.parametrize(
    ("selection", "role"), [("dense", "dense"), ("random", "random"), ("mastered", "efficient")]
)
def test_a_run_is_drawn_in_the_colour_of_its_role(selection: str, role: str) -> None:
    look = snapshot()
    found = charts(replace(look, config=replace(look.config, selection=selection)))
    drawn = [("loss", "Training"), ("loss", "Validation"), ("skip", "Since the start")]
    assert {traces(found[c])[name].line.color for c, name in drawn} == {COLOURS[role]}
    assert traces(found["histogram"])["Kept"].marker.color == COLOURS[role]
    assert traces(found["loss"])["Accuracy"].line.color == COLOURS["metric"]


@pytest.mark.parametrize("energy", [MEASURED, ESTIMATED, UNAVAILABLE])
def test_every_trace_names_columns_that_are_streamed(energy: Any) -> None:
    for figure in charts(snapshot(energy=energy, reference_id="dense")).values():
        for trace in figure.data:
            table = trace.meta["table"].removeprefix("ref_")
            assert table in {*FRAME_COLUMNS, "marks", "histogram"}
            if table in FRAME_COLUMNS:
                assert trace.meta["y"] in FRAME_COLUMNS[table]


def test_the_time_charts_are_known_by_their_meta_and_have_the_marks() -> None:
    found = charts()
    assert [name for name in found if found[name].layout.meta["time"]] == list(TIME_CHARTS)
    assert [name for name in found if "Knob changes" in traces(found[name])] == list(TIME_CHARTS)
    assert {found[name].layout.xaxis.title.text for name in TIME_CHARTS} == {AXES["step"]}


def test_the_reference_is_dashed_and_only_there_where_there_is_one() -> None:
    assert "Reference" not in traces(charts()["loss"])
    ghost = traces(charts(snapshot(reference_id="d"))["loss"])["Reference"]
    assert (ghost.line.dash, ghost.line.color) == ("dash", COLOURS["dense"])
    assert ghost.meta["table"] == "ref_steps"


def test_what_is_measured_is_a_line_with_its_label() -> None:
    figure = charts()["power"]
    assert {"Watts", "Joules since the start"} <= set(traces(figure))
    assert traces(figure)["Watts"].line.width > 0
    (note,) = figure.layout.annotations
    assert (note.text, note.hovertext) == ("MEASURED · GPU board", "a counter")


def test_what_is_estimated_is_a_hatched_band_and_never_a_line() -> None:
    figure = charts(snapshot(energy=ESTIMATED))["power"]
    bands = [t for t in figure.data if t.meta["table"] == "power"]
    assert {t.line.width for t in bands} == {0}
    assert [t.fillpattern.shape for t in bands if t.fill == "tonexty"] == ["/", "."]
    assert [t.meta["y"].rsplit("_", 2)[-2] for t in bands] == ["lo", "hi", "lo", "hi"]
    assert figure.layout.annotations[0].text.startswith("ESTIMATED")


def test_where_there_is_no_energy_the_chart_says_why() -> None:
    look = snapshot(energy=UNAVAILABLE, power=np.empty((7, 0)))
    figure = charts(look)["power"]
    assert [t for t in figure.data if t.meta["table"] == "power"] == []
    assert "No TDP." in figure.layout.annotations[0].text
    assert figure.layout.xaxis.visible is False
    assert [a["why"] for a in axis_choices(look) if a["id"] == "joules"] == ["No energy reading"]


@pytest.mark.parametrize(
    ("energy", "title"),
    [
        (MEASURED, "Joules (measured)"),
        (ESTIMATED, "Joules (estimated: middle of the range)"),
        (UNAVAILABLE, "Joules"),
    ],
)
def test_the_axis_of_joules_says_how_they_came_to_be_known(energy: Any, title: str) -> None:
    titles = {a["id"]: a["title"] for a in axis_choices(snapshot(energy=energy))}
    assert (titles["joules"], titles["seconds"]) == (title, "Seconds")


def test_the_histogram_tells_what_is_cut_by_colour_and_hatching() -> None:
    found = traces(charts()["histogram"])
    below, kept = found["Below the cut"].marker, found["Kept"].marker
    assert below.color != kept.color
    assert (below.pattern.shape, kept.pattern.shape) == ("/", None)
    assert {found[name].meta["y"] for name in found} == {"cut", "kept", "threshold"}


def test_charts_need_no_steps() -> None:
    empty = snapshot(0, start=None, steps=np.empty((8, 0)), evals=np.empty((6, 0)))
    assert charts(empty)["loss"].layout.title.text == "<b>Loss and Accuracy</b>"
