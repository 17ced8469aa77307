"""The Compare page: choosing, starting, watching and reading a study."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from effcore.config import resolve
from effcore.records import StepEvent
from effcore.records.settings import Settings
from effcore.runs.manager import DeviceReservedError, shared_run_manager
from effcore.store.study_table import StudyTable
from effcore.studies import study_job
from effcore.studies.comparison import (
    load_completed_runs,
    open_study,
    run_study,
    stored_run_ids,
    study_record,
)
from effcore.studies.executor import study_lock
from effcore.studies.plan import StudyPlan, plan_from_json, plan_study, plan_to_json, planned_runs
from effcore.studies.study_job import current_study_job, start_study_job
from effcore.testing.tiny_task import tiny_task
from tests.pages.visit import SHORT, press, said, visit

SHARED: Settings = {"task": "tiny", "model": "mlp", "size": "small", "epochs": 2, "device": "cpu",
          "threads": 1}  # fmt: skip


@pytest.fixture(autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def studied(**changes: Any) -> str:
    """Carry a study out and return its id."""
    usual: dict[str, Any] = {"policies": ["auto"], "budget": 0.6, "seeds": (100, 101)}
    study = start_study_job(shared_run_manager(), plan_study(SHARED, **usual | changes), 1)
    assert study.join(60)
    assert study.problem == ""
    return study.study_id


def shown(app: Any) -> str:
    return "\n".join(str(each.value) for each in app.markdown).replace("\\", "")


def test_an_empty_store_says_what_a_study_is() -> None:
    app = visit("compare.py")
    assert not app.exception
    assert "Each seed is trained" in shown(app)
    assert not app.dataframe


def test_pressing_start_carries_out_what_is_chosen() -> None:
    app = visit("compare.py")
    app.selectbox(key="study_of_task").select("tiny").run()
    app.number_input(key="study_of_seeds").set_value(2).run()
    app.number_input(key="study_of_epochs_tiny_mlp").set_value(2)
    app.number_input(key="study_of_jobs").set_value(1)
    app = press(app.run(), "start-study")
    assert not app.exception
    study = current_study_job()
    assert study is not None
    assert study.join(60)
    assert study.study_id in app.query_params["study"]
    assert isinstance(study.plan, StudyPlan)
    assert study.plan.shared["epochs"] == 2
    assert len(stored_run_ids(shared_run_manager().store, study.study_id, study.plan)) == 8
    app = visit("compare.py")
    assert "Too few seeds for a verdict." in shown(app)


def test_what_is_shown_is_what_the_store_says() -> None:
    study_id = studied()
    app = visit("compare.py")
    assert not app.exception
    differences, table = (each.value for each in app.dataframe)
    assert list(differences["Against"]) == ["full training", "same-budget training"]
    assert {"95% bootstrap (BCa)", "Sign-flip p"} <= set(differences)
    assert list(table["Variant"]) == ["full training", "same-budget training", "random", "auto"]
    store = shared_run_manager().store
    (stored,) = StudyTable(store).list_studies()
    plan = plan_from_json(stored.plan)
    told = study_record(study_id, plan, load_completed_runs(store, study_id, plan))
    for column, key in (("Skipped", "skipped_compute_frac"), ("Saved", "saved_compute_frac")):
        shares = [100 * arm[key] for arm in told["arms"]]
        assert list(table[column]) == pytest.approx(shares, abs=0.051)  # all to one place
    assert {"Worst class", "Calibration error", "seed 100", "seed 101"} <= set(table)
    charts = [json.loads(each.proto.spec) for each in app.get("plotly_chart")]
    assert len(charts) == 2
    code = app.code[0].value
    assert "effcore compare" in code
    assert "--seed-list 100,101" in code


def test_a_margin_changed_later_is_said() -> None:
    studied()
    studied(margin=0.2)
    app = visit("compare.py")
    assert "changed after the study began: 2, then 20 points" in said(app, "warning")
    assert any("lies above the margin (-20" in each.value for each in app.caption)


def test_a_cancelled_study_keeps_what_it_has_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    store = shared_run_manager().store
    plan = plan_study(SHARED, ["auto"], 0.6, (100, 101))
    study = start_study_job(shared_run_manager(), plan, 1)
    study.cancel()
    assert study.join(60)
    have = len(stored_run_ids(store, study.study_id, plan))
    assert have < 8
    app = visit("compare.py")
    assert "needs at least two seeds" in said(app, "info")
    assert f"{have} of 8 runs are done" in said(app, "info")
    large = visit("present.py", study=study.study_id)
    assert f"{have} of 8 runs are done" in said(large, "info")
    asked: list[int] = []

    def counted(of: Any, id_: str, plan: StudyPlan, jobs: int) -> Any:
        asked.append(jobs)
        return run_study(of, id_, plan, 1)

    monkeypatch.setattr(study_job, "run_study", counted)
    app.number_input(key="study_of_jobs").set_value(2)
    app = press(app.run(), "go-on")
    assert not app.exception
    again = current_study_job()
    assert again is not None
    assert again.join(60)
    assert again.study_id == study.study_id
    assert asked == [2], "as many at a time as is chosen"
    assert len(stored_run_ids(store, study.study_id, plan)) == 8


def test_one_study_at_a_time() -> None:
    first = start_study_job(
        shared_run_manager(), plan_study(SHARED, ["auto"], 0.6, range(100, 120)), 1
    )
    with pytest.raises(RuntimeError, match="a study is running"):
        start_study_job(shared_run_manager(), plan_study(SHARED, ["auto"], 0.5, (100,)), 1)
    first.cancel()
    assert first.join(60)


def test_a_run_and_a_study_leave_each_other_the_device() -> None:
    study = start_study_job(
        shared_run_manager(), plan_study(SHARED, ["auto"], 0.6, range(100, 120)), 1
    )
    with pytest.raises(DeviceReservedError, match="a study has reserved cpu"):
        shared_run_manager().start(resolve(SHARED))
    assert "has reserved cpu" in said(press(visit(**SHORT), "start"), "error")
    study.cancel()
    assert study.join(60)
    run = shared_run_manager().start(resolve({**SHARED, "epochs": 1000}))[-1]
    app = press(visit("compare.py"), "start-study")
    assert "trains on the same device" in said(app, "error")
    run.stop()
    assert run.join(60)


def test_what_cannot_be_compared_greys_the_button_and_says_why() -> None:
    app = visit("compare.py")
    app.selectbox(key="study_of_task").select("tiny").run()
    app.multiselect(key="study_of_policies_tiny_mlp_medium").set_value([]).run()
    assert app.button(key="start-study").disabled
    assert "needs a policy" in said(app, "error")


def test_an_address_of_no_study_and_a_damaged_one_are_said() -> None:
    studied()
    app = visit("compare.py")
    app.query_params["study"] = "nonsense"
    assert "There is no study" in said(app.run(), "warning")
    store = shared_run_manager().store
    shutil.rmtree(store.home / "runs" / store.runs()[0].run_id)
    app = visit("compare.py")
    assert not app.exception
    assert "Delete the damaged run on the Runs page" in said(app, "error")
    damaged = plan_to_json(plan_study(SHARED, ["auto"], 0.6, (100,))).replace("0.6", '"much"')
    store.execute_write("UPDATE studies SET plan = ?", damaged)
    app = visit("compare.py")
    assert not app.exception
    assert "cannot be read" in said(app, "error")


def test_a_study_of_another_process_is_followed_and_cancelled() -> None:
    store = shared_run_manager().store
    study, plan = open_study(store, plan_study(SHARED, ["auto"], 0.6, (100, 101)))
    (cell,) = (c for c in planned_runs(plan) if (c.variant, c.seed) == ("D-B", 101))
    with study_lock(store, study.study_id), closing(store.create_run(cell.config)) as writer:
        writer.write_event(StepEvent(1, 0.4, 0))
        writer.flush()
        app = visit("compare.py")
        assert not app.exception
        assert not any(button.key == "go-on" for button in app.button)
        assert "Now same-budget training, seed 101: 40%" in {each.value for each in app.caption}
        table = app.dataframe[0].value
        assert list(table["seed 101"].fillna("")) == ["", "now at 40%", "", ""]
        assert table["seed 100"].isna().all(), "what has not begun is there, too"
        press(app, "cancel-study")
        assert StudyTable(store).is_cancelled(study.study_id)
    assert "0 of 8 runs are done" in said(visit("compare.py"), "info")
