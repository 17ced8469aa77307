"""The Examples page: a run of each kind of task, scrubbed, old, damaged, from elsewhere, none."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from effcore.config import resolve
from effcore.live.protocol import decode_frame
from effcore.records import EpochDrawEvent, RunStart
from effcore.records.epoch_record import EpochRecord
from effcore.runs.manager import shared_run_manager
from effcore.tasks.base import TASKS, make_task
from tests.pages.visit import MAIN, said
from tests.store.samples import END, ESTIMATE

PASSES = 3


def record(task: str, end: bool = True, losses: bool = True, **data: Any) -> str:
    """Record a run of a task without training one; returns its id."""
    config = resolve({"task": task, "epochs": PASSES, "device": "cpu", **data})
    n = TASKS.get(task).count_examples(TASKS.get(task).settings())
    rng = np.random.default_rng(0)
    writer = shared_run_manager().store.create_run(config)
    writer.write_event(RunStart(n, 1.0, 1.0, None, 1))
    for index in range(PASSES):
        bits = np.packbits(rng.random(n) < (1, 0.6, 0.4)[index])
        writer.write_event(EpochDrawEvent(10 * index, index, bits, n))
        if losses:
            last_N = rng.exponential(1 / (index + 1), n).astype(np.float16)
            writer.write_event(EpochRecord(10 * (index + 1), index, n, bits, last_N, n))
    if end:
        writer.finish(END, ESTIMATE)
    else:
        writer.close()
    return writer.run_id


def opened(**query: str) -> AppTest:
    """The page at an address, without another before it."""
    app = AppTest.from_file(str(MAIN), default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    app.session_state["examples-map-drawn"] = True  # which a browser says
    return app.switch_page("examples.py").run()


def words(app: AppTest) -> str:
    parts = [*app.markdown, *app.caption, *app.header, *app.subheader]
    return " ".join(str(part.value) for part in parts).replace("\\", "")


def the_map(app: AppTest) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the data map was told."""
    (frame,) = [m.proto.bytes for m in app.get("bidi_component") if m.proto.bytes]
    return decode_frame(frame)


def html_of(app: AppTest) -> str:
    return " ".join(str(part.proto.body) for part in app.get("html"))


def charts(app: AppTest) -> list[dict[str, Any]]:
    told = [json.loads(m.proto.json) for m in app.get("bidi_component") if m.proto.json]
    return [json.loads(data["figure"]) for data in told if "figure" in data]


def test_an_empty_store_says_where_to_begin() -> None:
    app = opened()
    assert not app.exception
    assert "Start a run on the Live page" in said(app, "info")


def test_pictures_map_classes_suspects_and_one_example() -> None:
    run_id = record("digits")
    app = opened(run=run_id)
    assert not app.exception
    head, arrays = the_map(app)
    assert (head["run"], head["most"]) == (run_id, 2)
    assert len(arrays["x"]) == 1257
    assert set(arrays["skipped"].tolist()) == {0, 1, 2}
    assert arrays["y"].max() * head["unit"][1] <= 1.0
    assert html_of(app).count("data:image/png") == 12 + 12 + 12 + 1
    assert "Most trained on" in words(app)
    bars, story = charts(app)
    assert bars["data"][0]["x"] == list("0123456789")
    assert [line.get("name") for line in story["data"]] == [None, "trained on", "skipped"]
    suspects = app.dataframe[-2].value
    assert suspects["Confidence"].is_monotonic_increasing
    assert len(suspects) == 100


def test_the_map_comes_first_and_the_rest_once_it_is_drawn() -> None:
    app = AppTest.from_file(str(MAIN), default_timeout=60)
    app.query_params["run"] = record("digits")
    app.switch_page("examples.py").run()
    assert the_map(app)[0]["ask"]
    assert "Top left" in words(app)
    assert not app.dataframe
    app.session_state["examples-map-drawn"] = True
    assert not the_map(app.run())[0]["ask"]
    assert app.dataframe


def test_the_address_says_how_far_and_which_example_and_the_slider_goes_on() -> None:
    run_id = record("digits")
    app = opened(run=run_id, **{"pass": "1", "example": "7"})
    assert not app.exception
    assert app.slider(key="examples-pass").value == 1
    assert app.number_input(key="examples-number").value == 7
    assert "At the end of epoch 1, step 10." in words(app)
    assert the_map(app)[0]["most"] == 0, "the first pass has skipped nobody"
    app.slider(key="examples-pass").set_value(2).run()
    assert the_map(app)[0]["id"] == f"{run_id} 2"
    assert app.query_params["pass"] == "2"
    app.slider(key="examples-pass").set_value(3).run()
    assert "pass" not in app.query_params
    assert app.number_input(key="examples-number").value == 7


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"run": "../../x"}, "There is no run ../../x"),
        ({"pass": "<b>"}, "pass=<b> is not a number"),
        ({"pass": "99", "example": "999999"}, ""),
    ],
)
def test_an_impossible_address_is_explained(query: dict[str, str], message: str) -> None:
    run_id = record("tabular-wine")
    app = opened(**{"run": run_id} | query)
    assert not app.exception
    assert message in said(app, "warning")
    if "run" in query:
        assert message in said(app.run(), "warning"), "it is drawn again once the map is there"
    assert app.number_input(key="examples-number").value in range(106)


def test_ranges_select_as_the_lasso_does() -> None:
    app = opened(run=record("tabular-wine"))
    app.slider(key="examples-confidence").set_value((0.0, 0.4)).run()
    assert not app.exception
    assert "examples** in the region" in words(app)
    assert app.dataframe[0].value["Confidence"].le(0.4).all()
    app.slider(key="examples-confidence").set_value((0.0, 0.0)).run()
    assert "No example lies in this region" in said(app, "info")


@pytest.mark.parametrize(
    ("task", "shown", "classes"),
    [("photo", "data:image/png", False), ("code", "<pre", False), ("snippets", "<pre", True),
     ("tabular-diabetes", "", False)],
)  # fmt: skip
def test_each_kind_of_task_is_shown_as_it_is(task: str, shown: str, classes: bool) -> None:
    app = opened(run=record(task))
    assert not app.exception
    assert shown in html_of(app)
    assert ("The examples of this task have no classes" in words(app)) != classes
    assert ("A squared error is not a probability" in words(app)) == (task in SQUARED)
    if task == "tabular-diabetes":
        assert "bmi" in app.dataframe[0].value.columns


SQUARED = ("photo", "tabular-diabetes")


def test_a_rare_class_that_starves_is_warned_of() -> None:
    config = resolve({"task": "digits", "imbalance": 20, "device": "cpu"})
    task = make_task(config)
    assert task.group_N is not None
    n, rare_N = task.n_train, task.group_N.numpy() >= 8
    writer = shared_run_manager().store.create_run(config)
    writer.write_event(RunStart(n, 1.0, 1.0, None, 1))
    bits, losses_N = np.packbits(~rare_N), np.ones(n, np.float16)
    writer.write_event(EpochRecord(1, 0, n, bits, losses_N, n))
    writer.finish(END, ESTIMATE)
    app = opened(run=writer.run_id)
    assert not app.exception
    assert "Rare classes starve: 8 (" in said(app, "warning").replace("*", "")


def test_old_runs_show_what_was_decided_and_interrupted_ones_what_was_stored() -> None:
    app = opened(run=record("digits", losses=False))
    assert not app.exception
    assert "An older version stored this run without losses" in said(app, "info")
    assert not [m for m in app.get("bidi_component") if m.proto.bytes]
    assert "Suspected label errors" not in words(app)
    assert "Most trained on" in words(app)
    app = opened(run=record("tabular-wine", end=False))
    assert not app.exception
    assert "interrupted" in words(app)


def test_a_run_that_has_just_begun_or_is_damaged_says_so() -> None:
    store = shared_run_manager().store
    writer = store.create_run(resolve({"task": "digits", "device": "cpu"}))
    writer.flush()
    app = opened(run=writer.run_id)
    assert not app.exception
    assert "when the first epoch ends" in said(app, "info")
    writer.write_event(RunStart(1257, 1.0, 1.0, None, 1))
    writer.close()
    (store.home / "runs" / writer.run_id / "losses.bin").write_bytes(b"LOSS" + bytes(99))
    app = opened(run=writer.run_id)
    assert not app.exception
    assert "This run has no history of its examples" in said(app, "info")


def test_data_that_is_other_data_here_is_not_shown_as_the_run_s() -> None:
    config = dataclasses.replace(resolve({"task": "tabular-wine", "device": "cpu"}), seed=1)
    writer = shared_run_manager().store.create_run(config)
    writer.write_event(RunStart(16, 1.0, 1.0, None, 1))
    bits, losses = np.packbits(np.ones(16, bool)), np.ones(16, np.float16)
    writer.write_event(EpochRecord(1, 0, 16, bits, losses, 16))
    writer.finish(END, ESTIMATE)
    app = opened(run=writer.run_id)
    assert not app.exception
    assert "has 106 examples here, but the run trained on 16" in said(app, "warning")
    assert "One example" in words(app)
