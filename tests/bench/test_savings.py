"""The savings bench: arms, tuning, rows and verdicts, and going on where it was cut short."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from effcore.__main__ import main
from effcore.bench.bench_store import BenchStore, Journal, _place
from effcore.bench.savings_study import (
    SavingsOptions,
    SavingsRow,
    plan_savings_studies,
    plan_test,
    run_savings_study,
    savings_rows,
    savings_text,
)
from effcore.bench.savings_variants import (
    MAX_TRIES,
    SavingsStudy,
    SavingsVariant,
    variants_for,
)
from effcore.bench.study_commands import savings_figure
from effcore.bench.tuning import BestSettings
from effcore.config import resolve
from effcore.policies.combination import DENSE_POLICIES, registered_policies
from effcore.store import StoreError
from effcore.studies.plan import BASELINES
from effcore.tasks.base import TASKS
from effcore.testing.tiny_task import tiny_task
from effcore.training.ledger import UncountedOperationError
from effcore.training.trainer import train
from tests.bench_runs import runs_with_metrics, scripted_training
from tests.tiny_runs import ended

ROW = {
    *("task", "model", "arm", "seeds", "metric", "diff", "diff_lo", "diff_hi"),
    *(
        "skipped_compute_frac",
        "saved_compute_frac",
        "seconds",
        "energy",
        "noninferior",
        "beats_db",
        "overtrained",
    ),
}


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def study(**changes: Any) -> SavingsStudy:
    usual: dict[str, Any] = {
        "task": "tiny",
        "model": "mlp",
        "budget": 0.6,
        "tries": 1,
        "tuning_seeds": [0],
        "seeds": [100, 101],
        "arms": ["random"],
        "settings": {"device": "cpu", "epochs": 3},
    }
    return SavingsStudy(**usual | changes)


def heard(_: str) -> None:
    """Take a progress message."""


# Arms ------------------------------------------------------------------------------------


def test_every_policy_is_a_variant_somewhere() -> None:
    ids = {policy.id for policy in registered_policies()} - set(DENSE_POLICIES)
    models = [(task.id, choice) for task in TASKS for choice in task.models]
    names = {v.name for task, choice in models for v in variants_for(task, choice, "small", 0.6)}
    assert ids <= names


def test_all_arms_may_try_equally_many_settings() -> None:
    choice = TASKS.get("code").model_choice("convolution")
    for arm in variants_for("code", choice, "medium", 0.6):
        if arm.is_dense:
            continue
        assert arm.tuning_grid[0] == {}
        assert (
            len(arm.tuning_grid) == 1 if arm.name == "auto" else len(arm.tuning_grid) >= MAX_TRIES
        )


def test_only_arms_that_go_with_a_model_are_there() -> None:
    names = {a.name for a in variants_for("digits", TASKS.get("digits").models[0], "medium", 0.6)}
    assert {"D100", "D-B", "random", "auto", "resolution", "auto+resolution"} <= names
    assert not names & {"depth-growth", "drop-backward", "sequence-growth"}


# Rows -------------------------------------------------------------------------------------


EDGE = BestSettings({}, at_grid_edge=True)


def rows_by_name(
    metrics: dict[str, list[float | None]], first_seed: int = 0, **changes: Any
) -> dict[str, SavingsRow]:
    """Return the rows of a study that came to these metrics, by variant."""
    seeds = range(first_seed, first_seed + len(metrics["D100"]))
    savings = study(seeds=seeds, model=TASKS.get(changes.get("task", "tiny")).models[0].id,
                    **changes)  # fmt: skip
    auto = DENSE_POLICIES._replace(selection="auto")
    variants = [
        SavingsVariant(name, DENSE_POLICIES if name in BASELINES else auto, (), 0.6)
        for name in metrics
    ]
    plan = plan_test(savings, variants, {name: {} for name in metrics})
    best = dict.fromkeys(metrics, BestSettings({}))
    rows = savings_rows(savings, plan, runs_with_metrics(plan, metrics), best)
    return {row.name: row for row in rows}


def row_of(
    arm: list[float], matched: list[float], full: list[float], task: str = "tiny"
) -> SavingsRow:
    return rows_by_name({"D100": [*full], "D-B": [*matched], "mine": [*arm]}, task=task)["mine"]


def record_of(*metrics: list[float], task: str = "tiny") -> dict[str, Any]:
    arm, matched, full = metrics
    row = row_of(arm, matched, full, task)
    record: dict[str, Any] = json.loads(json.dumps(row.to_record()))
    return record


def test_a_row_says_what_was_found() -> None:
    full, matched = [0.9, 0.91, 0.92, 0.9, 0.91, 0.92], [0.8, 0.81, 0.82, 0.8, 0.81, 0.82]
    row = record_of([value - 0.005 for value in full], matched, full)
    assert set(row) >= ROW
    assert row["diff"] == pytest.approx(-0.005)
    assert row["saved_compute_frac"] == pytest.approx(0.4)
    assert row["skipped_compute_frac"] == 0.25, "the mean of the runs' own"
    assert (row["noninferior"], row["beats_db"], row["overtrained"]) == (True, True, False)
    row = record_of([0.7, 0.9, 0.8, 0.9, 0.8, 0.7], matched, full)
    assert (row["noninferior"], row["beats_db"]) == (False, False)
    assert record_of(full, full, full)["overtrained"] is True
    # Worse in the mean, but shown to lose less than the margin.
    wide = [0.89, 0.915, 0.9, 0.91, 0.88, 0.925]
    assert sum(wide) < sum(full)
    assert record_of(full, wide, full)["overtrained"] is True
    found = row_of(full, wide, full)
    assert "same-budget training matches full training" in savings_text([found])
    assert "edge of the batch sizes" in savings_text([replace(found, best=EDGE)])


def test_less_is_better_where_it_is() -> None:
    full, matched = [2.7, 2.71, 2.72, 2.7, 2.71, 2.72], [2.8, 2.81, 2.82, 2.8, 2.81, 2.82]
    row = record_of([value + 0.01 for value in full], matched, full, task="code")
    assert row["diff"] == pytest.approx(-0.01)
    assert (row["noninferior"], row["beats_db"], row["overtrained"]) == (True, True, False)


def test_too_few_seeds_decide_nothing() -> None:
    row = row_of([0.9, 0.9], [0.8, 0.8], [0.9, 0.9])
    record = row.to_record()
    assert (record["noninferior"], record["beats_db"], record["overtrained"]) == (None, None, None)
    assert "too few seeds" in savings_text([row])


def test_a_broken_run_is_said_and_compared_with_nothing() -> None:
    good, broken, matched = [0.9, 0.9], [None, 0.9], [0.8, 0.8]
    row = rows_by_name({"D100": [*good], "D-B": [*matched], "mine": broken})["mine"]
    record = row.to_record()
    assert (record["metric"], record["verdict"]) == (None, "broke down")
    assert record["failed"] == ["broke"]
    assert "failed: broke" in savings_text([row])
    rows = rows_by_name({"D100": broken, "D-B": [*matched], "mine": [*good]})
    assert (rows["mine"].metrics, rows["mine"].failures) == ([0.9, 0.9], ["D100: broke"])
    assert rows["D100"].failures == ["broke"]


def test_a_seed_on_which_dense_training_broke_does_not_count() -> None:
    full, matched = [0.9, 0.91, 0.92, 0.9, 0.91, 0.92, 0.9], [0.8, 0.81, 0.82, 0.8, 0.81, 0.82, 0.8]
    metrics: dict[str, list[float | None]]
    metrics = {"D100": [*full[:-1], None], "D-B": [*matched], "mine": [*full]}
    row = rows_by_name(metrics, first_seed=100)["mine"]
    assert row.seeds == list(range(100, 106))
    assert row.left_out == {"106": "D100: broke"}
    assert row.outcome == "win"
    assert "seed 106 does not count: D100: broke." in savings_text([row])


def test_baselines_have_differences_and_no_outcome() -> None:
    full, matched = [0.9, 0.91, 0.92, 0.9, 0.91, 0.92], [0.8, 0.81, 0.82, 0.8, 0.81, 0.82]
    metrics: dict[str, list[float | None]]
    metrics = {"D100": [*full], "D-B": [*matched], "random": [*matched], "mine": [*full]}
    rows = {name: row.to_record() for name, row in rows_by_name(metrics).items()}
    answers = {n: (r["outcome"], r["noninferior"], r["beats_db"]) for n, r in rows.items()}
    assert answers == {
        "D100": (None, True, True),
        "D-B": (None, False, False),
        "random": (None, None, None),
        "mine": ("win", True, True),
    }
    assert rows["D-B"]["diff"] == pytest.approx(-0.1)
    assert rows["random"]["overtrained"] is None


# Going on --------------------------------------------------------------------------------


def test_what_was_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, plan = tmp_path / "store", study()
    first = run_savings_study(plan, BenchStore(path), 1, heard)
    runs = list(BenchStore(path).kept_runs())
    assert len(runs) == 3 * 2
    # Killed before the last of them ended.
    BenchStore(path)._store.delete_run(runs[-1].snapshot.run_id)
    calls = []

    def counted(config: Any, *rest: Any) -> Any:
        calls.append(config)
        return train(config, *rest)

    monkeypatch.setattr("effcore.runs.run.train", counted)
    again = run_savings_study(plan, BenchStore(path), 1, heard)
    assert len(calls) == 1
    drop = ("seconds", "energy")
    one, two = (
        [{k: v for k, v in row.to_record().items() if k not in drop} for row in rows]
        for rows in (first, again)
    )
    assert one == two
    calls.clear()
    run_savings_study(plan, BenchStore(path), 1, heard)
    assert not calls


def test_a_journal_survives_what_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('["a", {"x": 1}]\nnonsense\n[1, 2]\n["b", 3]\n["c", {"x"')
    journal = Journal(path)
    assert journal.get("a") == {"x": 1}
    assert journal.get("b") is None
    journal.append("d", {"y": 2})
    assert Journal(path).get("d") == {"y": 2}


def test_a_run_whose_steps_cost_next_to_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = resolve({"task": "tiny", "device": "cpu", "epochs": 2})
    (whole,) = BenchStore(tmp_path / "one").results([config], 1, heard)
    assert whole.reason == ""
    assert whole.parameters_sha256 == ended(config).parameters_sha256
    monkeypatch.setattr("effcore.studies.executor.MAX_STEPS_OVER_DENSE", 0.01)
    monkeypatch.setattr("effcore.studies.executor._CANCEL_CHECK_S", 0.01)
    long = replace(config, epochs=200)
    (given_up,) = BenchStore(tmp_path / "two").results([long], 1, heard)
    said: list[str] = []
    assert BenchStore(tmp_path / "two").results([long], 1, said.append) == [given_up]
    assert said == [], "it would be given up again"
    assert (given_up.metric, given_up.validation, given_up.parameters_sha256) == (None,) * 3
    assert "given up after 0.01 times the steps" in given_up.reason


@pytest.mark.parametrize(
    ("error", "told", "words"),
    [
        (torch.OutOfMemoryError, StoreError, "because of the machine .OutOfMemoryError."),
        (UncountedOperationError, UncountedOperationError, "as it is"),
    ],
)
def test_what_is_no_fault_of_the_run_is_told_and_not_kept(
    error: type[RuntimeError],
    told: type[RuntimeError],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(*_: Any, **__: Any) -> Iterator[Any]:
        raise error("as it is")

    monkeypatch.setattr("effcore.runs.run.train", failing)
    store, config = BenchStore(tmp_path / "j"), resolve({"task": "tiny", "device": "cpu"})
    with pytest.raises(told, match=words):
        store.results([config], 1, heard)
    assert not list(store.kept_runs())
    if error is UncountedOperationError:
        assert store._store.runs() == [], "a fault of the code is no run that failed"


def test_a_process_that_finds_other_files_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = scripted_training(monkeypatch, lambda config: {})
    config = resolve({"task": "tiny", "device": "cpu"})
    store = BenchStore(tmp_path / "j")
    monkeypatch.setattr("effcore.bench.bench_store.code_version", lambda: "0" * 16)
    with pytest.raises(RuntimeError, match="files were changed while this measurement ran"):
        store.results([config], 1, heard)
    assert asked == []


def test_another_setting_is_another_run() -> None:
    keys = {
        _place(resolve({"task": "tiny", "device": "cpu", **changes}))
        for changes in ({}, {"seed": 1}, {"mass": 0.5}, {"budget": 0.6}, {"size": "small"})
    }
    assert len(keys) == 5


def test_quick_is_shorter_only_where_nothing_else_was_asked() -> None:
    usual = SavingsOptions(size=None, epochs=None, device="cpu", arms="", budget=0.6, tries=None,
                           tuning_seeds=1, seeds=None, first_seed=100, quick=False)  # fmt: skip

    def planned(options: SavingsOptions) -> SavingsStudy:
        (one,), _ = plan_savings_studies(["tiny"], None, None, options)
        return one

    short = planned(replace(usual, quick=True))
    assert (short.tries, len(short.seeds), short.settings["size"]) == (1, 2, "small")
    for quick in (True, False):
        own = planned(replace(usual, size="large", epochs=9, tries=3, seeds=5, quick=quick))
        assert (own.tries, len(own.seeds)) == (3, 5)
        assert own.settings == {"size": "large", "epochs": 9, "device": "cpu"}
    assert len(planned(replace(usual, arms="random,auto")).seeds) == 6
    whole = planned(usual)
    assert (whole.tries, len(whole.seeds), whole.settings["epochs"]) == (MAX_TRIES, 10, 4)


@pytest.mark.parametrize("budget", ["0", "1", "1.5", "-1", "0.0001"])
def test_an_impossible_budget_is_refused_before_anything_trains(
    tmp_path: Path, budget: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = scripted_training(monkeypatch, lambda config: {"metric": 0.9})
    for tries in ("1", "2"):
        words = ["--tasks", "tiny", "--arms", "auto", "--tries", tries, "--budget", budget]
        place = ["--journal", str(tmp_path / "j")]
        refused = CliRunner().invoke(main, ["bench", "savings", *words, *place])
        assert refused.exit_code == 2, refused.output
        assert "budget" in refused.output
    assert asked == []


def test_the_command_prints_rows(tmp_path: Path) -> None:
    words = ["bench", "savings", "--tasks", "tiny", "--quick", "--arms", "random,auto", "--json"]
    words += ["--epochs", "1"]
    drawn = tmp_path / "figure.html"
    places = ["--journal", str(tmp_path / "j"), "--figure", str(drawn)]
    result = CliRunner().invoke(main, [*words, *places])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    assert [row["arm"] for row in rows] == ["D100", "D-B", "random", "auto"]
    assert set(rows[-1]) >= ROW
    for wrong in (
        ["--tasks", "tiny,tinny"],
        ["--arms", "randum"],
        ["--model", "mlpp"],
        ["--size", "huge"],
        ["--epochs", "0"],
        ["--epochs", "-3"],
        ["--tries", "99"],
        ["--device", "cuda:77"],
    ):
        refused = CliRunner().invoke(main, [*words, *wrong])
        assert refused.exit_code == 2, wrong
        assert "Error" in refused.output
        assert "runs" not in refused.output, "said before anything trains"
    assert "tiny: against full training" in drawn.read_text(encoding="utf-8")


def test_the_figure_marks_what_was_decided() -> None:
    full, matched = [0.9, 0.91, 0.92, 0.9, 0.91, 0.92], [0.8, 0.81, 0.82, 0.8, 0.81, 0.82]
    good = row_of([value - 0.005 for value in full], matched, full)
    metrics: dict[str, list[float | None]] = {"D100": [*full], "D-B": [*matched]}
    worse = [0.7, 0.9, 0.8, 0.9, 0.8, 0.7]
    bad = rows_by_name({**metrics, "other": [*worse]})["other"]
    failed = rows_by_name({**metrics, "mine": [None, *full[1:]]})["mine"]
    data = savings_figure([good, bad, failed]).to_plotly_json()["data"]
    assert [list(trace["y"]) for trace in data] == [["mine", "other"]] * 2
    assert [trace["marker"]["symbol"] for trace in data] == [["circle", "x-thin"]] * 2
    paired = good.against_full.paired if good.against_full else None
    assert paired is not None
    assert data[0]["error_x"]["array"][0] == pytest.approx(paired.hi - paired.mean)
