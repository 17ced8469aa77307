"""Presenter mode: one run or one verdict, and the way back."""

from __future__ import annotations

import json
import re

from streamlit.testing.v1 import AppTest

from effcore.runs.manager import shared_run_manager
from effcore.studies.plan import plan_study
from effcore.studies.study_job import start_study_job
from effcore.testing.tiny_task import tiny_task
from tests.pages.test_compare_page import SHARED
from tests.pages.visit import SHORT, finished_run, panels, press, said, visit


def links(app: AppTest) -> dict[str, str]:
    return {link.proto.label: link.proto.query_string for link in app.get("page_link")}


def shown(app: AppTest) -> str:
    texts = [*app.markdown, *app.caption]
    return "\n".join(str(each.value) for each in texts).replace("\\", "")


def test_a_run_is_presented_from_where_it_is_shown() -> None:
    live = press(visit(**SHORT), "start")
    run = finished_run()
    assert links(live)["Present"] == f"run={run.run_id}&present=1"
    for app in (visit("present.py", run=run.run_id), visit(run=run.run_id, present="1")):
        assert not app.exception
        (panel,) = panels(app)
        assert json.loads(panel)["present"] == "yes"
        assert json.loads(panel)["run"] == run.run_id
        assert links(app)["Live"] == f"run={run.run_id}"
    assert json.loads(panels(visit(run=run.run_id))[0])["present"] == ""


def test_without_an_address_what_trains_is_presented() -> None:
    assert visit("present.py").title[0].value == "Nothing to present yet"
    for page in ("compare.py", "frontier.py"):
        assert visit(page, present="1").title[0].value == "Nothing to present yet"
    press(visit(**SHORT | {"epochs": "1000"}), "start")
    run = shared_run_manager().active_run()
    assert run is not None
    assert json.loads(panels(visit("present.py"))[0])["run"] == run.run_id


def test_what_is_not_there_is_said() -> None:
    app = visit("present.py", run="20200101-000000-aaaa")
    assert not app.exception
    assert "There is no run" in said(app, "warning")
    app.query_params = {"study": "nosuch"}
    assert "There is no study" in said(app.run(), "warning")
    app.query_params = {"sweep": "nosuch"}
    assert "There is no sweep" in said(app.run(), "warning")


def test_a_verdict_is_presented_with_its_savings_and_their_quality() -> None:
    with tiny_task():
        plan = plan_study(SHARED, ["auto", "infobatch"], 0.6, (100, 101))
        study = start_study_job(shared_run_manager(), plan, 1)
        assert study.join(60)
        app = visit("present.py", study=study.study_id)
        assert not app.exception
        words = shown(app)
        assert "too few seeds" in words
        assert "Too few seeds for a verdict." in words
        assert re.search(r"\*\*4\d\.\d%.*\*\*\n", words)
        assert "less computation than full training" in words
        assert "no energy claimed" in words
        (chart,) = (json.loads(each.proto.spec) for each in app.get("plotly_chart"))
        assert len(chart["data"]) == 2
        assert links(app)["Compare"] == f"study={study.study_id}"
        other_query = f"study={study.study_id}&arm=infobatch&present=1"
        assert links(app)["Verdict on infobatch"] == other_query
        other = visit("present.py", study=study.study_id, arm="infobatch")
        assert "infobatch" in shown(other)
        assert "Verdict on auto" in links(other)
