from __future__ import annotations

from typing import Any

import pandas as pd
from streamlit.testing.v1 import AppTest

from effcore.config import resolve
from effcore.manager import shared_runs
from tests.pages.visit import SHORT, finished_run, press, said, visit


def table(app: AppTest) -> dict[Any, list[Any]]:
    """The runs as listed, by column."""
    return app.dataframe[0].value.to_dict("list")


def test_an_empty_store_says_where_to_begin() -> None:
    app = visit("runs.py")
    assert not app.exception
    assert app.title[0].value == "Runs"
    assert "Start a run on the Live page" in said(app, "info")
    assert not app.dataframe


def test_finished_and_interrupted_runs_are_listed_newest_first() -> None:
    store = shared_runs().store
    config = resolve(SHORT)
    store.create(config, run_id="20200101-000000-aaaa").close()  # as after a kill
    press(visit(**SHORT, seed="4"), "start")
    run = finished_run()
    app = visit("runs.py")
    assert not app.exception
    shown = table(app)
    assert shown["Run"] == [run.run_id, "20200101-000000-aaaa"]
    assert shown["Status"] == ["finished", "interrupted"]
    assert shown["Seed"] == [4, 0]
    end = run.snapshot().end
    assert end is not None
    assert shown["Skipped"][0] == round(100 * end.skipped_compute_frac, 1)
    assert "Accuracy" in str(shown["Metric"][0])


def test_what_a_run_has_not_come_to_is_a_dash() -> None:
    shared_runs().store.create(resolve(SHORT), run_id="20200101-000000-aaaa").close()
    app = visit("runs.py")
    assert app.dataframe[0].proto.placeholder == "–"
    shown = table(app)
    for column in ("Metric", "Skipped", "Seconds"):
        assert pd.isna(shown[column][0]), "a word would be sorted among the numbers"


def test_a_run_that_trains_is_listed_as_running() -> None:
    press(visit(**SHORT | {"epochs": "1000"}), "start")
    assert table(visit("runs.py"))["Status"] == ["running"]
