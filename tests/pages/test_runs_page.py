"""The Runs page: listing, finding, laying over, naming, deleting and taking along."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from effcore.config import resolve
from effcore.records import EvalEvent, RunConfig
from effcore.records.settings import Settings
from effcore.runs.exchange import bundle_bytes
from effcore.runs.manager import shared_run_manager
from effcore.store.labels import validated_labels
from effcore.store.study_table import StudyTable
from effcore.store.trash import Trash
from effcore.studies.plan import plan_study, plan_to_json
from tests.pages.visit import SHORT, finished_run, press, said, visit
from tests.store.bundles import RUN, full_run, setting, with_json
from tests.store.samples import CONFIG, END, ESTIMATE, block

HOSTILE = "<script>alert(1)</script> [x](javascript:y) :red[z]"


def table(app: AppTest) -> dict[Any, list[Any]]:
    """The runs as listed, by column."""
    return app.dataframe[0].value.to_dict("list")


def add(config: RunConfig = CONFIG, evals: int = 3, **labels: Any) -> str:
    """Record a run with a few evaluations; returns its id."""
    store = shared_run_manager().store
    writer = store.create_run(config)
    writer.write_event(block(1, 4))
    for step in range(1, evals + 1):
        writer.write_event(EvalEvent(step, 64 * step, step / 8, 1e6 * step, 1 / step, step / 10))
    writer.finish(END, ESTIMATE)
    if labels:
        store.set_labels(writer.run_id, validated_labels(**labels))
    return writer.run_id


def opened(page: str = "runs.py", **query: Any) -> AppTest:
    """A page at an address, this one where none is named."""
    return visit(page, **query)


def at(*run_ids: str) -> AppTest:
    """The page with some runs picked, as by a link."""
    return opened(run=list(run_ids))


def lines(app: AppTest) -> dict[str, list[str]]:
    """Names of the lines of each chart, by what its vertical axis shows."""
    figures = [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]
    return {
        f["layout"]["yaxis"]["title"]["text"]: [line["name"] for line in f["data"]] for f in figures
    }


def test_an_empty_store_says_where_to_begin() -> None:
    app = opened()
    assert not app.exception
    assert app.title[0].value == "Runs"
    assert "Start a run on the Live page" in said(app, "info")
    assert not app.dataframe


def test_finished_and_interrupted_runs_are_listed_newest_first() -> None:
    store = shared_run_manager().store
    config = resolve(SHORT)
    store.create_run(config, run_id="20200101-000000-aaaa").close()  # as after a kill
    press(visit(**SHORT, seed="4"), "start")
    run = finished_run()
    app = opened()
    assert not app.exception
    shown = table(app)
    assert shown["Run"] == [run.run_id, "20200101-000000-aaaa"]
    assert shown["Status"] == ["finished", "interrupted"]
    assert shown["Seed"] == [4, 0]
    assert shown["Progress"] == [1.0, 0.0]
    end = run.snapshot().end
    assert end is not None
    assert shown["Skipped"][0] == round(100 * end.skipped_compute_frac, 1)
    assert "Accuracy" in str(shown["Metric"][0])
    assert len(shown["Curve"][0]) == run.snapshot().evals.shape[1]
    assert shared_run_manager().trash_runs([run.run_id]) == {}
    assert shared_run_manager().find_run(run.run_id) is None, "nor is it shown from memory"


def test_what_a_run_has_not_come_to_is_a_dash() -> None:
    shared_run_manager().store.create_run(resolve(SHORT), run_id="20200101-000000-aaaa").close()
    app = opened()
    assert app.dataframe[0].proto.placeholder == "–"
    shown = table(app)
    for column in ("Metric", "Skipped", "Seconds"):
        assert pd.isna(shown[column][0]), "a word would be sorted among the numbers"
    assert not {"Tags", "Study"} & set(shown), "nobody said anything"
    assert shown["Name"] == ["digits · confident-skip · seed 0"], "what it is"


def test_a_run_that_trains_is_listed_as_running_and_not_deleted() -> None:
    press(visit(**SHORT | {"epochs": "1000"}), "start")
    run = shared_run_manager().active_run()
    assert run is not None
    app = press(at(run.run_id), "delete-runs")
    assert "is live: stop it first" in said(app, "warning")
    assert table(app)["Status"] == ["running"]


def test_runs_are_found_by_words_and_by_filters() -> None:
    store = shared_run_manager().store
    wine = resolve({"task": "tabular-wine", "selection": "dense", "device": "cpu"})
    one, two = add(name="Best of all", tags=["paper"]), add(wine, note="Éclair")
    study = StudyTable(store).create_or_replan_study("key", lambda _: "{}")
    StudyTable(store).record_run(study.study_id, "auto", 0, two)
    app = opened()
    for words, found in {
        "best DIGITS": [one], "paper": [one], "éclair": [two], "dense": [two],
        "finished": [two, one], one[-4:] + " best": [one], study.study_id: [two],
    }.items():  # fmt: skip
        app.text_input(key="find").set_value(words).run()
        assert table(app)["Run"] == found, words
        assert not app.exception
    app.text_input(key="find").set_value("nothing like it").run()
    assert "No run matches" in said(app, "info")
    app.text_input(key="find").set_value("").run()
    app.multiselect(key="find-tag").set_value(["paper"]).run()
    assert table(app)["Run"] == [one]
    app.multiselect(key="find-task").set_value(["tabular-wine"]).run()
    assert not app.dataframe
    app.multiselect(key="find-tag").set_value([]).run()
    assert table(app)["Run"] == [two]
    assert study.study_id[-4:] in str(table(app)["Study"][0])
    app = opened(study=study.study_id)
    assert table(app)["Run"] == [two]
    assert app.selectbox(key="find-study").value == study.study_id


def test_what_is_picked_stays_picked_while_the_list_changes() -> None:
    runs = [add(), add(name="Kept"), add()]
    app = at(runs[1])
    assert app.header[0].value == "Kept"
    app.text_input(key="find").set_value("kept").run()
    assert app.header[0].value == "Kept"
    app.text_input(key="find").set_value("").run()
    assert app.header[0].value == "Kept"
    assert app.query_params["run"] in (runs[1], [runs[1]])


def test_runs_are_laid_over_each_other_and_told_apart() -> None:
    wine = resolve({"task": "photo", "device": "cpu"})
    app = at(add(), add(), add(name=HOSTILE), add(wine), add(evals=0))
    assert not app.exception
    assert list(lines(app)) == [
        "PSNR (dB), validation", "Squared error, validation",
        "Accuracy, validation", "Cross-entropy, validation",
    ] or len(lines(app)) == 4  # fmt: skip
    drawn = lines(app)["Accuracy, validation"]
    assert len(set(drawn)) == 3
    assert "&lt;script&gt;alert(1)&lt;/script&gt; [x](javascript:y) :red[z]" in drawn
    app.radio(key="overlay-over").set_value("seconds").run()
    figure = json.loads(app.get("plotly_chart")[0].proto.spec)
    assert figure["layout"]["xaxis"]["title"]["text"] == "Seconds"
    app.radio(key="overlay-over").set_value("passes").run()
    assert not app.get("plotly_chart"), "no run of these knows how many examples a pass has"


def test_a_name_tags_and_a_note_are_kept_and_shown_as_they_are() -> None:
    run_id = add()
    app = at(run_id)
    app.text_input(key=f"name-{run_id}").set_value(HOSTILE)
    app.text_input(key=f"tags-{run_id}").set_value("one, two,one")
    app.text_area(key=f"note-{run_id}").set_value("# no heading\n<img src=x>")
    press(app, f"save-{run_id}")
    assert not app.exception
    assert shared_run_manager().store.summary(run_id).labels == validated_labels(
        HOSTILE, ["one", "two"], "# no heading\n<img src=x>"
    )
    assert table(app)["Name"] == [HOSTILE]
    assert app.header[0].value.replace("\\", "") == HOSTILE
    assert "\\[x\\]\\(javascript\\:y\\)" in app.header[0].value, "no link"
    assert app.text[0].value == "# no heading\n<img src=x>"
    app.text_input(key=f"tags-{run_id}").set_value("x" * 31)
    press(app, f"save-{run_id}")
    assert "at most 30 are allowed; shorten it" in said(app, "error")
    assert "&lt;" not in str(opened("energy.py", run=run_id).selectbox(key="energy_run").options)


def test_deleting_is_undone_complete_and_ends_in_the_trash() -> None:
    one, two, three = add(name="One"), add(), add()
    app = press(at(one, two), "delete-runs")
    assert table(app)["Run"] == [three]
    assert "Deleted 2 items. Kept for 24 hours" in str(app.success[0].value)
    assert not app.warning, "the address is this page's own"
    press(app, "undo")
    assert table(app)["Run"] == [three, two, one]
    assert table(app)["Name"][2] == "One"
    assert not app.success
    app = press(at(one), "delete-runs")
    assert str(app.success[0].value).startswith("Deleted One.")
    app.radio(key="runs-what").set_value("trash").run()
    assert table(app)["Id"] == [one]
    press(app, "restore")
    assert Trash(shared_run_manager().store).list_items() == []
    shared_run_manager().trash_runs([one])
    press(app.run(), "delete-for-good")
    assert "The trash is empty" in said(app, "info")
    assert not (shared_run_manager().store.home / "runs" / one).exists()


def test_studies_are_listed_named_and_deleted() -> None:
    store = shared_run_manager().store
    settings: Settings = {"task": "tabular-wine", "device": "cpu", "threads": 1}
    plan = plan_study(settings, ["auto"], 0.6, (1, 2))
    study = StudyTable(store).create_or_replan_study(plan.key, lambda _: plan_to_json(plan))
    run_id = add()
    StudyTable(store).record_run(study.study_id, "auto", 1, run_id)
    app = opened()
    app.radio(key="runs-what").set_value("studies").run()
    (row,) = app.dataframe[0].value.to_dict("records")
    assert (row["Kind"], row["State"], row["Runs"]) == ("comparison", "incomplete", "1 of 8")
    assert row["What"] == "tabular-wine · auto at 60% · 2 seeds"
    app.session_state["studies-table"] = {"selection": {"rows": [0], "columns": [], "cells": []}}
    app.run()
    app.text_input(key=f"name-{study.study_id}").set_value("Mine")
    press(app, f"save-{study.study_id}")
    assert app.dataframe[0].value["Name"].to_list() == ["Mine"]
    shared_run_manager().trash_runs([run_id])
    assert app.run().dataframe[0].value["State"].to_list() == ["1 of its runs deleted"]
    press(app, "study-runs")
    assert app.selectbox(key="find-study").value == study.study_id if app.selectbox else True
    compare = opened("compare.py", study=study.study_id)
    assert (
        "One run was deleted. Restore it on the Runs page, or continue to train it again"
        in said(compare, "info")
    )
    assert compare.selectbox[0].options[0].startswith("Mine · ")
    app.radio(key="runs-what").set_value("studies").run()
    app.session_state["studies-table"] = {"selection": {"rows": [0], "columns": [], "cells": []}}
    press(app.run(), "delete-studies")
    assert StudyTable(store).list_studies() == []
    press(app, "undo")
    assert len(StudyTable(store).list_studies()) == 1


def upload(app: AppTest, raw: bytes) -> AppTest:
    return app.file_uploader(key="import-file").set_value(("b.zip", raw, "application/zip")).run()


def test_a_bundle_is_imported_marked_and_its_joules_are_another_machines() -> None:
    store = shared_run_manager().store
    full_run(store)
    raw = bundle_bytes(store, RUN)
    store.delete_run(RUN)
    app = upload(opened(), raw)
    assert not app.exception
    assert f"Imported as {RUN}" in str(app.success[0].value).replace("\\", "")
    assert table(app)["Status"] == ["finished, imported"]
    assert table(app)["Name"] == ["<b>Bold</b>"]
    again = upload(opened(), raw)
    assert "is in this store already" in said(again, "warning")
    press(again, "import-fresh")
    assert len(table(again)["Run"]) == 2
    live = opened("live.py", run=RUN)
    assert "Imported: this run was trained" in str([c.value for c in live.caption])
    energy = opened("energy.py", run=RUN)
    assert not energy.exception
    assert "another machine's processor time" in str([t.value for t in energy.table])


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"<html>", "it is no zip"),
        (None, "unknown task 'unheard-of'"),
    ],
)
def test_a_hostile_bundle_is_refused_on_the_page(raw: bytes | None, why: str) -> None:
    store = shared_run_manager().store
    full_run(store)
    if raw is None:
        good = bundle_bytes(store, RUN)
        raw = with_json(good, "config.json", setting("task", to="unheard-of"))
    app = upload(opened(), raw)
    assert not app.exception
    assert "This file cannot be imported" in said(app, "error")
    assert why in said(app, "error")
    assert table(app)["Run"] == [RUN]


ADDRESSES = ("<script>alert(1)</script>", "x" * 5000, "../../etc/passwd", "[x](javascript:y)\0")


@pytest.mark.parametrize("page", ["live.py", "runs.py", "energy.py", "compare.py", "frontier.py"])
def test_a_hostile_address_gets_a_message_and_no_traceback(page: str) -> None:
    run_id = add()
    name = {"compare.py": "study", "frontier.py": "sweep"}.get(page, "run")
    app = opened(page, **{name: ADDRESSES[0]})
    for hostile in ADDRESSES:
        app.query_params[name] = hostile
        app.run()
        assert not app.exception
        (warning,) = app.warning
        assert warning.value.replace("\\", "").startswith(f"There is no {name} {hostile[:17]}")
        assert "[x]" not in warning.value
        assert len(warning.value) < 300
    assert [run.run_id for run in shared_run_manager().store.runs()] == [run_id]


def test_a_study_in_the_address_that_is_not_there_is_said() -> None:
    add()
    app = opened(study=ADDRESSES[0])
    assert said(app, "warning") == f"There is no study {ADDRESSES[0]} in this store."
    assert len(table(app)["Run"]) == 1


def test_two_hundred_runs_are_listed_from_their_small_files_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = add()
    store = shared_run_manager().store
    for number in range(200):
        copy = f"20200101-000000-{number:04d}"
        store.execute_write(
            "INSERT INTO runs (run_id, created_unix, config, status, progress, exploratory) "
            "SELECT ?, created_unix, config, status, 1.0, 0 FROM runs WHERE run_id = ?", copy, first
        )  # fmt: skip
        folder = store.home / "runs" / copy
        folder.mkdir()
        np.ones((50, 6)).astype("<f8").tofile(folder / "evals.f64")
    app = opened()
    assert not app.exception
    assert len(table(app)["Run"]) == 201
    assert {len(curve) for curve in table(app)["Curve"]} == {3, 32}
