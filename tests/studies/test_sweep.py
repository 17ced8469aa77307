"""A sweep: planned, searched, cut short, gone on with and confirmed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from effcore.__main__ import main
from effcore.cli import studies as command
from effcore.config import ConfigError
from effcore.store import Store
from effcore.store.study_table import StudyTable
from effcore.studies import sweep_executor
from effcore.studies.candidates import (
    MAX_REPLICATIONS,
    find_candidate,
)
from effcore.studies.executor import StudyProgress
from effcore.studies.frontier import (
    SweepOutcome,
    conclusion_text,
    confirmation_plan,
    sweep_record,
    sweep_result,
    sweep_text,
)
from effcore.studies.sweep import (
    DENSE_BUDGETS,
    INITIAL_BUDGETS,
    default_trial_knobs,
    dense_curve_runs,
    replication_seeds,
    search_space,
    sweep_from_json,
    sweep_to_json,
    trial_runs,
)
from effcore.studies.sweep_executor import (
    load_confirmations,
    load_sweep_points,
    open_sweep,
    run_confirmation,
    run_sweep,
    suggest_trials,
)
from tests.studies.sweeps import AGAIN_SEEDS, DENSE, again, plan, point

DENSE_RUNS = len(DENSE_BUDGETS)
AGAIN_MOST = (1 + MAX_REPLICATIONS) * AGAIN_SEEDS

pytestmark = pytest.mark.usefixtures("tiny_sweeps")


# Planning --------------------------------------------------------------------------------


def test_the_budget_and_the_knobs_in_force_are_searched() -> None:
    names = [each.name for each in search_space(plan())]
    assert names == ["budget", "mass", "revisit"], "loss_threshold is of mass's group"
    held = plan(settings={"revisit": 6})
    assert [each.name for each in search_space(held)] == ["budget", "mass"]
    assert {cell.config.knobs["revisit"] for cell in trial_runs(held, 0, {}, 0.5)} == {6}
    assert [each.name for each in search_space(plan(policy="auto"))] == ["budget"]


def test_the_dense_curve_has_all_of_the_compute_first() -> None:
    cells = list(dense_curve_runs(plan(seeds=(0, 1))))
    assert [cell.config.budget for cell in cells] == [b for b in DENSE_BUDGETS for _ in range(2)]
    assert {cell.config.selection for cell in cells} == {"dense"}
    assert cells[0].variant == "dense 1"


def test_more_trials_are_the_same_sweep_and_another_margin_is_not() -> None:
    assert plan(trials=9).key == plan().key
    for other in (plan(margin=0.5), plan(seeds=(1,)), plan(settings={"revisit": 6}),
                  plan(by="joules")):  # fmt: skip
        assert other.key != plan().key
    assert sweep_from_json(sweep_to_json(plan())) == plan()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"trials": 0}, "trials"),
        ({"seeds": ()}, "seeds"),
        ({"seeds": (1, 1)}, "seeds"),
        ({"margin": -1.0}, "margin"),
        ({"margin": math.nan}, "margin"),
        ({"margin": 1e308}, "margin"),
        ({"policy": "dense"}, "policy"),
        ({"settings": {"beta": 1.0}}, "beta"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_trains(
    changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(**changes)
    assert caught.value.field == field


@pytest.mark.parametrize("text", ["[]", "{}", '{"seeds": 3}', "null", "{"])
def test_a_damaged_plan_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is damaged|Expecting"):
        sweep_from_json(text)


# Searching -------------------------------------------------------------------------------


def test_defaults_come_first_and_what_follows_depends_on_what_is_known() -> None:
    task = plan(trials=6)
    first = suggest_trials(task, DENSE, 2)
    assert [(number, budget) for number, budget, _ in first] == list(enumerate(INITIAL_BUDGETS[:2]))
    assert first[0][2] == default_trial_knobs(task) != {}
    known = [*DENSE, *(point(f"trial {n}", b, 0.9) for n, b in enumerate(INITIAL_BUDGETS))]
    later = suggest_trials(task, known, 8)
    assert [number for number, *_ in later] == [3, 4, 5], "no more than are asked for"
    assert later == suggest_trials(task, known, 8)
    for _, budget, knobs in later:
        assert 0.2 <= budget <= 0.9
        assert set(knobs) == {"mass", "revisit"}
    short = known[-1]._replace(is_complete=False)
    assert [n for n, *_ in suggest_trials(task, [*known[:-1], short], 2)] == [2], "goes on with it"
    assert suggest_trials(plan(trials=3), known, 2) == []


def test_a_sweep_is_carried_out_gone_on_with_and_confirmed(store: Store) -> None:
    task = plan(trials=2, margin=0.9)
    study, task = open_sweep(store, task)
    steps = list(run_sweep(store, study.study_id, task, 1))
    assert (steps[0].done, steps[0].total) == (0, DENSE_RUNS + 2 + AGAIN_MOST)
    assert steps[-1].done == DENSE_RUNS + 2 + 2 * AGAIN_SEEDS
    runs = len(store.runs())
    points = load_sweep_points(store, study.study_id, task)
    assert [len(p.replication_snapshots) for p in points if p.replication_snapshots] == [
        AGAIN_SEEDS
    ] * 2
    assert {len(p.snapshots) for p in points} == {1}
    assert [p.name for p in points if not p.is_dense] == ["trial 0", "trial 1"]
    assert [s.study_id for s in StudyTable(store).list_studies(sweeps=True)] == [study.study_id]
    assert StudyTable(store).list_studies() == []
    other, more = open_sweep(store, plan(trials=3, margin=0.9))
    assert other.study_id == study.study_id
    list(run_sweep(store, other.study_id, more, 1))
    assert len(store.runs()) == runs + 1 + AGAIN_SEEDS, "one trial, cheaper than the others"
    assert open_sweep(store, plan(trials=1, margin=0.9))[1].trials == 3, "none is taken back"
    points = load_sweep_points(store, study.study_id, more)
    assert load_confirmations(store, more, points) == {}
    best = find_candidate(more, points)
    assert best is not None
    assert set(confirmation_plan(more, best, 2).seeds) == {100, 101}
    list(run_confirmation(store, more, points, 2, 1))
    tried = load_confirmations(store, more, points)
    assert tried == {}, "so few seeds decide nothing"
    result = sweep_result(study.study_id, more, points, tried)
    record = sweep_record(result)
    looks = record["second_look"]["trials"]
    assert [(each["name"], each["passed"]) for each in looks] == [(best.name, True)]
    assert looks[0]["seeds"] == record["second_look"]["seeds"] == list(replication_seeds(more))
    assert f"Replication of {best.name}: " in sweep_text(result)


def test_a_cancelled_sweep_trains_no_more(store: Store) -> None:
    study, task = open_sweep(store, plan())
    steps = run_sweep(store, study.study_id, task, 1)
    next(steps)
    StudyTable(store).cancel(study.study_id)
    assert list(steps) == []
    assert store.runs() == []


def test_seeds_of_the_sweep_confirm_nothing() -> None:
    fresh = confirmation_plan(plan(seeds=(100, 102)), point("trial 0", 0.5, 0.9), 3)
    assert fresh.seeds == (101, 103, 104)


def test_the_command_searches_and_says_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EFFCORE_HOME", str(tmp_path / "home"))
    words = ["sweep", "--task", "tiny", "--epochs", "2", "--seeds", "1", "--trials", "1"]
    first = CliRunner().invoke(main, [*words, "--confirm-seeds", "0"])
    assert first.exit_code == 0, first.output
    assert "dense 0.45" in first.stdout
    assert f"sweep: {DENSE_RUNS + 1} of at most" in first.stderr
    told = json.loads(CliRunner().invoke(main, [*words, "--confirm-seeds", "0", "--json"]).stdout)
    assert len(told["points"]) == DENSE_RUNS + 1
    assert told["conclusion"] in first.stdout
    for bad, why in (
        (["--margin", "-1"], "margin=-1 is not allowed"),
        (["--confirm-seeds", "5"], "confirm-seeds=5 is not allowed: fewer than 6 seeds cannot"),
    ):
        refused = CliRunner().invoke(main, [*words, *bad])
        assert refused.exit_code == 2
        assert why in refused.stderr
    monkeypatch.setenv("EFFCORE_HOME", str(tmp_path / "home" / "effcore.sqlite"))
    closed = CliRunner().invoke(main, words)
    assert closed.exit_code == 1
    assert "cannot be opened" in closed.stderr


def test_a_confirmation_cancelled_elsewhere_is_not_begun_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    best = again(point("trial 0", 0.5, 0.95), 0.95)
    points, opened = [again(DENSE[0], 0.95), best], []

    def cancelled(_: Any, study_id: str, *__: Any) -> Iterator[StudyProgress]:
        opened.append(study_id)
        yield StudyProgress(3, 40, 9.0)

    monkeypatch.setattr(command, "run_sweep", lambda *_: iter([StudyProgress(9, 9, 0.0)]))
    monkeypatch.setattr(command, "load_sweep_points", lambda *_: points)
    monkeypatch.setattr(sweep_executor, "run_study", cancelled)
    told = command._run_sweep(store, plan(trials=1, margin=0.02), 1, 10)
    assert len(opened) == 1
    assert told.outcome is SweepOutcome.UNCONFIRMED
    assert conclusion_text(told).endswith("not confirmed yet.")
    said = capsys.readouterr().err
    assert "confirming: 3 of 40, about 9 s left" in said
    assert "cancelled by another process; run the same command again" in said
    monkeypatch.setattr(command, "run_sweep", lambda *_: iter([StudyProgress(8, 9, 0.0)]))
    command._run_sweep(store, plan(trials=1, margin=0.02), 1, 10)
    assert len(opened) == 1, "what was cancelled confirms nothing"
