"""No path prints joules without their quality, and an estimate stays one on all of them.

Energies of every quality are followed along every path on which they become text, JSON, a row or
a chart.
"""

from __future__ import annotations

import html
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from effcore.energy.arithmetic import has_joules, sum_by_quality
from effcore.figures.run_charts import axis_choices, chart_templates
from effcore.live.tiles import run_tiles
from effcore.records import (
    PHASES,
    POWER_COLUMNS,
    Energy,
    EnergyQuality,
    RunEnd,
    RunStatus,
    Snapshot,
)
from effcore.records.attribution import NO_PHASE, AttributedPhaseEnergy, PhaseAttribution
from effcore.report import run_report, run_table, study_table, to_csv, to_parquet
from effcore.runs.manager import shared_run_manager
from effcore.runs.summary import energy_record, run_summary, summary_text
from effcore.store.serialization import decode_record, encode_record
from effcore.store.store import Store
from effcore.studies.comparison import (
    CompletedRuns,
    RunResult,
    StudyResult,
    VariantResult,
    study_record,
)
from effcore.studies.frontier import sweep_record, sweep_result
from effcore.studies.plan import plan_study
from effcore.studies.sweep import plan_sweep
from effcore.studies.trials import SweepPoint
from tests.energy.labels import unlabelled
from tests.fakes import INFO, config, snapshot
from tests.pages.visit import visit
from tests.store.samples import CONFIG, END

ENERGY = Energy(9.0, 8.0, 10.0, 4.0, EnergyQuality.MEASURED, "a counter", "GPU board")


@st.composite
def energies(draw: st.DrawFn, quality: EnergyQuality | None = None) -> Energy:
    """Energies as meters make them: an estimate has ends only, what is missing nothing."""
    kind = quality or draw(st.sampled_from(EnergyQuality))
    ends = sorted(draw(st.lists(st.floats(0, 1e9), min_size=2, max_size=2)))
    nothing = kind is EnergyQuality.UNAVAILABLE or draw(st.integers(0, 9)) == 0
    point = not nothing and kind is not EnergyQuality.ESTIMATED
    return Energy(
        joules=draw(st.floats(*ends)) if point else None,
        lo=None if nothing else ends[0],
        hi=None if nothing else ends[1],
        seconds=draw(st.floats(0, 1e5)),
        quality=kind,
        source=draw(st.sampled_from(["a counter", "a model"])),
        scope=draw(st.sampled_from(["GPU board", "CPU package"])),
        notes=tuple(draw(st.lists(st.sampled_from(["hot", "as told"]), max_size=2))),
    )


def look(energy: Energy) -> Snapshot:
    end = RunEnd(RunStatus.FINISHED, "", "accuracy", 0.9, 4, 4000, 2000, 1.0, 2.0, 2.0, None)
    return snapshot(energy=energy, end=end, status=RunStatus.FINISHED, config=config(task="digits"))


def claims(text: str) -> set[EnergyQuality]:
    """The qualities that a text names."""
    words = {word.lower() for word in re.findall(r"[A-Za-z]+", text)}
    return {quality for quality in EnergyQuality if quality.value in words}


@given(energies())
def test_text_names_the_quality_and_no_other(energy: Energy) -> None:
    for text in (str(energy), energy.short_text(), summary_text(look(energy)).splitlines()[-1]):
        assert unlabelled(text) == []
        assert claims(text) == {energy.quality}


@given(energies())
def test_json_has_the_quality_beside_the_joules(energy: Energy) -> None:
    for record in (
        json.loads(json.dumps(energy_record(energy))),
        json.loads(json.dumps(run_summary(look(energy))))["energy"],
        json.loads(encode_record(energy)),
    ):
        assert record["quality"] == energy.quality.value
        assert (record["joules"], record["lo"], record["hi"]) == (
            energy.joules, energy.lo, energy.hi,
        )  # fmt: skip


@st.composite
def attributions(draw: st.DrawFn) -> PhaseAttribution:
    """What runs are stored with: joules of each phase, or why there are none."""
    if draw(st.booleans()):
        return PhaseAttribution(why=draw(st.sampled_from(["too few steps", "no counter"])))
    found = []
    for name in (*PHASES, NO_PHASE):
        lo, value, hi = sorted(draw(st.tuples(*[st.floats(0, 1e9)] * 3)))
        told_apart = draw(st.integers(0, 9)) > 0
        found.append(AttributedPhaseEnergy(name, value if told_apart else None, lo, hi, 1.0))
    return PhaseAttribution(tuple(found), notes=("counted from 99% of it",))


@given(attributions())
def test_joules_of_phases_are_attributed_on_every_path(attribution: PhaseAttribution) -> None:
    for found in attribution.phases:
        for text in (str(found), found.short_text()):
            assert unlabelled(text) == []
            assert text.endswith(" J ATTRIBUTED") or text.endswith(") ATTRIBUTED")
            assert claims(text) == set(), "nothing was measured of a phase"
    assert decode_record(PhaseAttribution, encode_record(attribution)) == attribution
    told_of = replace(look(ENERGY), attribution=attribution)
    record = json.loads(json.dumps(run_summary(told_of)))["phases_energy"]
    assert record["quality"] == "attributed"
    assert record["why"] == attribution.why
    assert [p["joules"] for p in record["phases"].values()] == [
        found.joules for found in attribution.phases
    ]


def test_the_page_says_of_each_phase_that_its_joules_are_attributed() -> None:
    spent = np.array([[4.0, *[0.5] * len(PHASES)]]).T
    known = tuple(
        AttributedPhaseEnergy(name, 20.0, 18.0, 23.0, 0.5) for name in (*PHASES, NO_PHASE)
    )
    for attribution in (
        PhaseAttribution(known, notes=("a note",)),
        PhaseAttribution(why="too few steps"),
    ):
        told_of = replace(look(ENERGY), attribution=attribution, phases=spent)
        app = AppTest.from_function(_page_of, kwargs={"look": told_of}).run()
        assert not app.exception
        shown = app.table[0].value
        if attribution.phases:
            (column,) = [name for name in shown.columns if "ATTRIBUTED" in name]
            texts = [text.replace("\\", "") for text in shown[column]]
            assert [unlabelled(text) for text in texts] == [[]] * (len(PHASES) + 1)
            assert texts[0] == "20.0 J (18.0 to 23.0) ATTRIBUTED"
        else:
            assert list(shown.columns) == ["Seconds", "Share"]
            said = app.caption[0].value.replace("\\", "")
            assert said == "No energy by phase: too few steps."


def _page_of(look):  # type: ignore[no-untyped-def]  # its source is run by itself
    from pages.ui.energy.run_breakdown import show_phase_table

    show_phase_table(look)


def test_joules_to_a_target_name_the_quality_of_value_and_interval() -> None:
    told_of = look(ENERGY)
    power = np.stack([told_of.power[0]] * len(POWER_COLUMNS))  # a watt, known from all sides
    app = AppTest.from_function(_target_of, kwargs={"look": replace(told_of, power=power)}).run()
    assert not app.exception
    shown = app.table[0].value["Amount"]
    assert list(shown.index) == ["Time", "Energy", "Interval"]
    assert [unlabelled(text.replace("\\", "")) for text in shown] == [[]] * 3
    assert claims(" ".join(shown)) == {EnergyQuality.MEASURED}


def test_a_run_that_diverged_has_no_target() -> None:
    told_of = look(ENERGY)
    evals = np.full_like(told_of.evals, np.inf)
    app = AppTest.from_function(_target_of, kwargs={"look": replace(told_of, evals=evals)}).run()
    assert not app.exception
    assert not app.number_input


def _target_of(look):  # type: ignore[no-untyped-def]  # its source is run by itself
    from pages.ui.energy.run_breakdown import show_cost_to_target

    show_cost_to_target(look)


@given(energies())
def test_tiles_name_the_quality_where_they_show_joules(energy: Energy) -> None:
    for tile in run_tiles(look(energy), INFO, look(energy)):
        if tile["id"] == "energy":
            assert tile["quality"] == energy.quality.value
            shown = " ".join([tile["value"], tile["unit"], *tile["lines"]])
            assert unlabelled(shown) == []
            assert claims(tile["lines"][0]) == {energy.quality}
        for line in tile["lines"]:
            assert unlabelled(line) == []
            if tile["id"] == "saving" and re.search(r"\d J", line):
                assert energy.quality is EnergyQuality.MEASURED, "an estimated saving restates time"


@given(energies())
def test_charts_name_the_quality_where_they_draw_joules(energy: Energy) -> None:
    figure = chart_templates(look(energy), INFO)["power"]
    drawn = [trace for trace in figure["data"] if "energy" in trace["meta"]["y"]]
    (note,) = figure["layout"]["annotations"]
    joules = next(axis for axis in axis_choices(look(energy)) if axis["id"] == "joules")
    if energy.quality is EnergyQuality.UNAVAILABLE:
        assert drawn == []
        assert joules["why"]
        return
    assert claims(note["text"]) == claims(joules["title"]) == {energy.quality}
    values = [trace for trace in drawn if trace["meta"]["y"] == "energy_j"]
    assert drawn
    assert values == [] or energy.quality is not EnergyQuality.ESTIMATED, "an estimate is no line"


@given(st.lists(energies(EnergyQuality.ESTIMATED), min_size=1, max_size=5), st.data())
def test_an_estimate_stays_an_estimate_however_far_it_travels(
    estimates: list[Energy], data: st.DataObject
) -> None:
    others = data.draw(st.lists(energies(), max_size=3))
    stored = [decode_record(Energy, encode_record(energy)) for energy in (*estimates, *others)]
    assert stored == [*estimates, *others]
    sums = sum_by_quality(stored)
    for quality in set(EnergyQuality) - {EnergyQuality.UNAVAILABLE}:
        parts = [e.seconds for e in stored if has_joules(e) and e.quality is quality]
        wholes = [e.seconds for e in sums if e.quality is quality]
        assert sum(wholes) == pytest.approx(sum(parts)), "seconds have changed their quality"
    for energy in sums:
        again = decode_record(Energy, encode_record(sum_by_quality([energy])[0]))
        assert again.quality is energy.quality
        assert claims(str(again)) == {energy.quality}
        if energy.quality is EnergyQuality.ESTIMATED:
            assert again.joules is None
            assert json.loads(json.dumps(energy_record(again)))["quality"] == "estimated"


def finished(store: Store, energy: Energy) -> str:
    writer = store.create_run(CONFIG)
    writer.finish(END, energy)
    return writer.run_id


@pytest.mark.parametrize("quality", EnergyQuality)
def test_the_store_keeps_the_quality_also_of_a_run_that_was_cut_off(
    quality: EnergyQuality, tmp_path: Path
) -> None:
    energy = Energy(None, 1.0, 2.0, 3.0, quality, "a meter", "a scope")
    store = Store(tmp_path)
    writer = store.create_run(CONFIG)
    writer.queue_energy(energy)
    writer.close()
    for run_id in (writer.run_id, finished(store, energy)):
        assert store.load_snapshot(run_id).energy.quality is quality
    assert {run.energy.quality for run in store.runs() if run.energy} == {quality}
    store.close()


@pytest.mark.parametrize("said", ["guessed", "", None, "MEASURED"])
def test_a_quality_that_is_none_is_not_taken_for_a_better_one(said: str | None) -> None:
    record = json.loads(
        encode_record(Energy(None, 1.0, 2.0, 3.0, EnergyQuality.ESTIMATED, "s", "s"))
    )
    with pytest.raises(ValueError, match="its Energy is damaged"):
        decode_record(Energy, json.dumps(record | {"quality": said}))
    del record["quality"]
    with pytest.raises(ValueError, match="its Energy is damaged"):
        decode_record(Energy, json.dumps(record))


@settings(max_examples=8)  # tables are slow to make, and say the same of any number
@given(energies(), energies())
def test_exports_name_the_quality_in_every_row_with_joules(own: Energy, dense: Energy) -> None:
    for exported in (run_table(look(own), "power"), study_table(told_of(own, dense))):
        for back in (
            pd.read_csv(io.BytesIO(to_csv(exported))),
            pd.read_parquet(io.BytesIO(to_parquet(exported))),
        ):
            assert {"joules", "energy_j"} & set(back)
            assert set(back["energy_quality"]) <= {own.quality.value, dense.quality.value}
            qualities = [own.quality.value] * len(back)
            if "arm" in back:
                qualities = [own.quality.value, dense.quality.value]
            assert back["energy_quality"].to_list() == qualities


def told_of(*each: Energy) -> StudyResult:
    """The result of a study with one run of an arm for each energy."""
    plan = plan_study({"task": "digits", "device": "cpu"}, ["auto"], 0.6, (0,))
    variants = tuple(
        VariantResult(
            f"arm {i}", (0,), (0.9,), 0.0, 0.0, 1.0, {}, (RunResult(0, look(energy), True),)
        )
        for i, energy in enumerate(each)
    )
    return StudyResult("x", plan, CompletedRuns({}, (0,), {}), (), variants)


@pytest.mark.parametrize("quality", EnergyQuality)
def test_pages_to_take_along_and_records_name_the_quality(
    quality: EnergyQuality, monkeypatch: pytest.MonkeyPatch
) -> None:
    energy = replace(ENERGY, quality=quality, notes=())
    if quality in (EnergyQuality.ESTIMATED, EnergyQuality.UNAVAILABLE):
        energy = replace(energy, joules=None)
    monkeypatch.setattr("effcore.report.filled_run_charts", lambda *_: {})  # tested above
    rows = re.findall(r"<tr>(.+?)</tr>", run_report(look(energy)))
    (said,) = [html.unescape(row) for row in rows if row.startswith("<td>energy</td>")]
    assert unlabelled(said) == []
    assert claims(said) == {quality}
    plan = plan_study({"task": "digits", "device": "cpu"}, ["auto"], 0.6, (0,))
    found = CompletedRuns({arm: {0: look(energy)} for arm in ("D100", "D-B", "auto")}, (0,), {})
    records = [arm["energy"] for arm in study_record("x", plan, found)["arms"]]
    sweep = plan_sweep({"task": "digits", "device": "cpu"}, "confident-skip", 1, (0,))
    points = [SweepPoint("trial 0", 0.6, {"mass": 0.3, "revisit": 4}, {0: look(energy)}, False)]
    told = sweep_record(sweep_result("x", sweep, points, {}))
    records += [point["energy"] for point in told["points"]]
    assert records
    for (kept,) in records:
        assert json.loads(json.dumps(kept))["quality"] == quality.value


def test_the_list_of_runs_names_the_quality_of_each() -> None:
    store = shared_run_manager().store
    known = Energy(5.0, 4.0, 6.0, 9.0, EnergyQuality.MEASURED, "a meter", "a scope")
    for quality in EnergyQuality:
        finished(store, replace(known, quality=quality))
    finished(store, Energy(None, 4.0, 6.0, 9.0, EnergyQuality.ESTIMATED, "a model", "a scope"))
    app = visit("runs.py")
    assert not app.exception
    shown = app.dataframe[0].value["Energy"].to_list()
    assert [unlabelled(text) for text in shown] == [[]] * len(shown)
    assert [claims(text) for text in shown] == [
        {quality} for quality in (EnergyQuality.ESTIMATED, *reversed(EnergyQuality))
    ]
