"""Reports and tables: self-contained, escaped, and with the store's own numbers."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import effcore.studies.sweep
from effcore.records import POWER_COLUMNS, STEP_COLUMNS, EnergyQuality, Snapshot
from effcore.records.settings import Settings
from effcore.report import (
    run_report,
    run_table,
    study_report,
    study_table,
    sweep_report,
    sweep_table,
    to_csv,
    to_parquet,
)
from effcore.runs.manager import shared_run_manager
from effcore.studies.comparison import (
    load_completed_runs,
    open_study,
    run_study,
    stored_run_ids,
    study_result,
)
from effcore.studies.frontier import sweep_result
from effcore.studies.plan import plan_study
from effcore.studies.sweep import DENSE_BUDGETS, plan_sweep
from effcore.studies.sweep_executor import load_sweep_points, open_sweep, run_sweep
from effcore.testing.tiny_task import tiny_task
from tests.tiny_runs import tiny_config

SHARED: Settings = {"task": "tiny", "device": "cpu", "threads": 1, "epochs": 3}


def fetched(text: str) -> list[str]:
    """Return what a browser would fetch from elsewhere; what scripts only mention is not."""
    outside = re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=[^>]*>", text)
    bare = re.sub(r"<script[^>]*>.*?</script>", "", text, flags=re.DOTALL)
    return outside + re.findall(r"(?:src|href|url)[=(][\"']?(?:https?:)?//[^\s>]*", bare)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(effcore.studies.sweep, "REPLICATION_SEEDS", 2)
    with tiny_task():
        yield


def trained() -> Snapshot:
    run = shared_run_manager().start(tiny_config(selection="confident-skip", epochs=3))[-1]
    assert run.join(60)
    return shared_run_manager().store.load_snapshot(run.run_id)


def test_a_runs_page_needs_nothing_else_and_says_what_it_came_to() -> None:
    look = trained()
    text = run_report(look)
    assert fetched(text) == []
    assert look.end is not None
    assert str(look.end.parameters_sha256) in text
    assert "ESTIMATED" in text or "UNAVAILABLE" in text
    assert "python -m effcore run" in text
    assert "/live?task=tiny&amp;" in text
    assert text.count('class="plotly-graph-div"') == 3
    assert "@media print,(pointer:coarse),(max-width:640px){.modebar{display:none" in text


def test_what_came_from_outside_is_escaped() -> None:
    look = trained()
    broke = run_report(replace(look, reason="the loss is <b>no number</b>"))
    assert "the loss is &lt;b&gt;no number" in broke, "a run that broke down says why"
    energy = replace(look.energy, notes=("<script>alert(1)</script>",))
    text = run_report(replace(look, energy=energy))
    assert "<script>alert(1)" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_a_runs_tables_are_the_stores_and_survive_both_formats() -> None:
    look = trained()
    steps = run_table(look, "steps")
    assert list(steps) == list(STEP_COLUMNS)
    np.testing.assert_array_equal(steps["loss"], look.column("loss"))
    for back in (
        pd.read_csv(io.BytesIO(to_csv(steps))),
        pd.read_parquet(io.BytesIO(to_parquet(steps))),
    ):
        np.testing.assert_array_equal(back.to_numpy(), steps.to_numpy())
    power = run_table(look, "power")
    assert list(power) == [*POWER_COLUMNS, "energy_quality", "energy_source"]
    assert set(power["energy_quality"]) <= {each.value for each in EnergyQuality}
    with pytest.raises(KeyError):
        run_table(look, "secrets")


def test_a_studys_page_has_its_verdict_figures_and_command() -> None:
    store = shared_run_manager().store
    study, plan = open_study(store, plan_study(SHARED, ["auto"], 0.6, (100, 101)))
    for _ in run_study(store, study.study_id, plan, 1):
        pass
    found = load_completed_runs(store, study.study_id, plan)
    text = study_report(study.study_id, plan, found, "python -m effcore compare & more")
    assert "same-budget training" in text
    assert "planned runs are missing" not in text
    assert "Incomplete: 3 of the planned runs are missing." in study_report(
        study.study_id, plan, found._replace(runs_left=3), "again"
    )
    assert fetched(text) == []
    assert "Too few seeds for a verdict." in text
    assert "compare &amp; more" in text
    assert f"/compare?study={study.study_id}" in text
    assert text.count('class="plotly-graph-div"') == 2
    table = study_table(study_result(study.study_id, plan, found))
    assert len(table) == 4 * 2
    ids = stored_run_ids(store, study.study_id, plan).values()
    values = [end.metric for end in (store.load_snapshot(run_id).end for run_id in ids) if end]
    assert sorted(table["accuracy"]) == sorted(value for value in values if value is not None)
    assert set(table["energy_quality"]) <= {each.value for each in EnergyQuality}


def test_a_sweeps_page_and_table_hold_both_looks_and_its_command() -> None:
    store = shared_run_manager().store
    plan = plan_sweep(SHARED, "confident-skip", 1, (0,), margin=0.9)
    sweep, plan = open_sweep(store, plan)
    for _ in run_sweep(store, sweep.study_id, plan, 1):
        pass
    points = load_sweep_points(store, sweep.study_id, plan)
    told = sweep_result(sweep.study_id, plan, points, {})
    text = sweep_report(told, "python -m effcore sweep & more")
    assert fetched(text) == []
    assert "Trial 0 saves" in text
    assert "not confirmed yet" in text
    assert "Second look: up to 4 of the best trials are rerun on 2 fresh seeds" in text
    assert "Only the best trial in each tenth of the cost is rerun" in text
    assert "sweep &amp; more" in text
    assert f"/frontier?sweep={sweep.study_id}" in text
    assert text.count('class="plotly-graph-div"') == 2
    table = sweep_table(told)
    assert len(table) == len(DENSE_BUDGETS) + 1 + 2 * 2
    assert set(table["run"]) == {run.run_id for run in store.runs()}
    assert set(table.loc[table["candidate"], "point"]) == {"trial 0"}
    second = table[table["look"] == "second"]
    means = second.groupby("point")["accuracy"].mean()
    (replication,) = told.replications
    assert replication.paired is not None
    assert means["trial 0"] - means["dense 1"] == pytest.approx(replication.paired.mean)
    assert set(table["energy_quality"]) <= {each.value for each in EnergyQuality}
    assert len(pd.read_parquet(io.BytesIO(to_parquet(table)))) == len(table)
