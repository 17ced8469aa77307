"""The Frontier page: choosing, starting, watching and reading a sweep."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

import effcore.studies.frontier
import effcore.studies.sweep
import effcore.studies.verdict
from effcore.records import StepEvent
from effcore.records.settings import Settings
from effcore.runs.manager import shared_run_manager
from effcore.store.study_table import StudyTable
from effcore.studies.executor import study_lock
from effcore.studies.study_job import current_study_job, start_study_job
from effcore.studies.sweep import SweepPlan, dense_curve_runs, plan_sweep, sweep_to_json
from effcore.studies.sweep_executor import load_sweep_points, open_sweep, run_confirmation
from effcore.testing.tiny_task import tiny_task
from tests.pages.visit import press, said, visit

SHARED: Settings = {"task": "tiny", "model": "mlp", "size": "small", "epochs": 2, "device": "cpu",
          "threads": 1}  # fmt: skip


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(effcore.studies.sweep, "REPLICATION_SEEDS", 2)
    monkeypatch.setattr(effcore.studies.frontier, "CONFIRMATION_SEEDS", 3)
    monkeypatch.setattr(effcore.studies.verdict, "MIN_SEEDS", 3)
    with tiny_task():
        yield


def swept(**changes: Any) -> tuple[str, SweepPlan]:
    """Carry a sweep out; returns its id and plan."""
    usual: dict[str, Any] = {"policy": "confident-skip", "trials": 2, "seeds": (0,)}
    sweep = start_study_job(shared_run_manager(), plan_sweep(SHARED, **usual | changes), 1)
    assert sweep.join(60)
    assert sweep.problem == ""
    assert isinstance(sweep.plan, SweepPlan)
    return sweep.study_id, sweep.plan


def text(app: Any) -> str:
    kinds = (app.markdown, app.caption, app.info, app.warning, app.success)
    return "\n".join(str(box.value) for boxes in kinds for box in boxes).replace("\\", "")


def test_an_empty_store_says_what_a_sweep_is() -> None:
    app = visit("frontier.py")
    assert not app.exception
    assert "same-budget training" in text(app)
    assert not app.dataframe


def test_pressing_start_searches_what_is_chosen() -> None:
    app = visit("frontier.py")
    app.selectbox(key="sweep_of_task").select("tiny").run()
    app.number_input(key="sweep_of_trials").set_value(1)
    app.number_input(key="sweep_of_seeds").set_value(1)
    app.number_input(key="sweep_of_epochs_tiny_mlp").set_value(2)
    app = press(app.run(), "start-sweep")
    assert not app.exception
    sweep = current_study_job()
    assert sweep is not None
    assert sweep.join(60)
    assert sweep.study_id in app.query_params["sweep"]
    assert isinstance(sweep.plan, SweepPlan)
    assert (sweep.plan.trials, sweep.plan.shared["epochs"]) == (1, 2)


def test_a_sweep_shows_its_points_and_leads_on() -> None:
    sweep_id, plan = swept(margin=0.9)
    app = visit("frontier.py", sweep=sweep_id)
    assert not app.exception
    assert "not confirmed yet" in text(app)
    (table,) = app.dataframe
    assert list(table.value["Point"])[:2] == ["dense 1", "dense 0.8"]
    assert "trial 1" in list(table.value["Point"])
    loop, command = (code.value for code in app.code)
    assert "effcore sweep --device cpu" in command
    mass = float(next(shown.value for shown in app.metric if shown.label == "mass"))
    assert float(loop.partition("mass=")[2].partition(",")[0]) == pytest.approx(mass, rel=1e-3)
    assert "fresh seeds, cheapest first. The first that matches full training becomes" in text(app)
    assert "Replication of trial " in text(app)
    assert "(margin 90.0 points): up to 4 of the best trials are rerun on" in text(app)
    assert "Only the best trial in each tenth of the cost is rerun" in text(app)
    names = [getattr(button, "label", "") for button in app.get("download_button")]
    assert names == ["Report (HTML)", "Table (CSV)", "Table (Parquet)", "Record (JSON)"]
    large = visit("present.py", sweep=sweep_id)
    assert not large.exception
    assert "a candidate, not confirmed yet" in text(large)
    assert "less computation than full training" in text(large)
    assert "Settings: budget" in text(large)
    assert len(large.get("plotly_chart")) == 1
    press(app, "confirm")
    study = current_study_job()
    assert study is not None
    assert study.join(60)
    assert not isinstance(study.plan, SweepPlan)
    assert study.plan.seeds == (100, 101, 102)
    app = visit("frontier.py", sweep=sweep_id)
    assert "confirmed" in text(app) or "Nothing wins" in text(app)
    assert not any(button.key == "confirm" for button in app.button)
    points = load_sweep_points(shared_run_manager().store, sweep_id, plan)
    left = list(run_confirmation(shared_run_manager().store, plan, points, 3, 1))[1:]
    assert not left, "nothing was missing"


def test_a_sweep_that_was_cut_short_goes_on() -> None:
    sweep_id, plan = swept(trials=1)
    store = shared_run_manager().store
    more = plan_sweep(SHARED, plan.policy, 2, plan.seeds)
    StudyTable(store).create_or_replan_study(more.key, lambda _: sweep_to_json(more))
    app = visit("frontier.py", sweep=sweep_id)
    assert "1 of its points" in text(app)
    assert "1 of its points" in text(visit("present.py", sweep=sweep_id))
    press(app, "go-on")
    sweep = current_study_job()
    assert sweep is not None
    assert sweep.join(60)
    assert len([p for p in load_sweep_points(store, sweep_id, more) if not p.is_dense]) == 2


def test_damage_and_unknown_sweeps_are_said() -> None:
    StudyTable(shared_run_manager().store).create_or_replan_study(
        "sweep:x", lambda _: '{"trials": "many"}'
    )
    app = visit("frontier.py")
    assert not app.exception
    assert "cannot be read" in said(app, "error")
    app.query_params["sweep"] = "nonsense"
    assert "There is no sweep" in said(app.run(), "warning")


def test_a_sweep_of_another_process_is_followed_and_cancelled() -> None:
    store = shared_run_manager().store
    sweep, plan = open_sweep(store, plan_sweep(SHARED, "confident-skip", 1, (0,)))
    config = next(iter(dense_curve_runs(plan))).config
    with study_lock(store, sweep.study_id), closing(store.create_run(config)) as writer:
        writer.write_event(StepEvent(1, 0.4, 0))
        writer.flush()
        app = visit("frontier.py")
        assert not app.exception
        assert "Another process runs this sweep" in said(app, "info")
        assert "Now dense 1, seed 0: 40%" in text(app)
        assert "Another process" in said(visit("present.py", sweep=sweep.study_id), "info")
        press(app, "cancel-sweep")
        assert StudyTable(store).is_cancelled(sweep.study_id)
    assert "6 of its points are missing" in said(visit("frontier.py"), "info")
