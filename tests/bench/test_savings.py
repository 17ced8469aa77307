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
from effcore.bench.bench_store import BenchStore, _place
from effcore.bench.journal import Journal
from effcore.bench.runner import run_missing
from effcore.bench.savings_study import (
    _variant_row,
    plan_savings_studies,
    run_savings_study,
    savings_text,
)
from effcore.bench.savings_variants import MAX_TRIES, TUNING_GRIDS, SavingsStudy, variants_for
from effcore.config import resolve
from effcore.figures.bench_charts import savings_figure
from effcore.knobs import knobs_of
from effcore.policies.combination import POLICY_REGISTRIES, registered_policies
from effcore.store import StoreError
from effcore.tasks.base import TASKS
from effcore.testing.tiny_task import TinyTask, tiny_task
from effcore.training.ledger import UncountedOperationError
from effcore.training.trainer import train
from tests.bench_runs import scripted_training
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


def test_every_policy_is_an_arm_and_may_try_what_it_has() -> None:
    ids = {policy.id for policy in registered_policies()} - {"dense", "every-step", "full"}
    assert set(TUNING_GRIDS) == ids
    for kind in POLICY_REGISTRIES.values():
        for policy in kind:
            own = {spec.name for spec in knobs_of(policy)}
            for settings in TUNING_GRIDS.get(policy.id, ()):
                assert set(settings) <= own


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


def result(metric: float | None, flops: float = 60.0) -> dict[str, Any]:
    plain = {"seconds": 1.0, "energy": {}, "reason": "broke", "skipped_compute_frac": 0.25}
    return {"metric": metric, "flops": flops, "flops_full": 100.0, **plain}


def rows_of(arm: list[float], matched: list[float], full: list[float], task: str = "tiny") -> Any:
    results = {
        "D100": [result(value, 100.0) for value in full],
        "D-B": [result(value) for value in matched],
        "mine": [result(value) for value in arm],
    }
    plan = study(seeds=range(len(arm)), task=task)
    return _variant_row(plan, TASKS.get(task).metric, "mine", {}, results)


def test_a_row_says_what_was_found() -> None:
    full, matched = [0.9, 0.91, 0.92, 0.9, 0.91, 0.92], [0.8, 0.81, 0.82, 0.8, 0.81, 0.82]
    row = rows_of([value - 0.005 for value in full], matched, full)
    assert set(row) >= ROW
    assert row["diff"] == pytest.approx(-0.005)
    assert row["saved_compute_frac"] == pytest.approx(0.4)
    assert row["skipped_compute_frac"] == 0.25, "the mean of the runs' own"
    assert (row["noninferior"], row["beats_db"], row["overtrained"]) == (True, True, False)
    row = rows_of([0.7, 0.9, 0.8, 0.9, 0.8, 0.7], matched, full)
    assert (row["noninferior"], row["beats_db"]) == (False, False)
    assert rows_of(full, full, full)["overtrained"] is True
    # Worse in the mean, but shown to lose less than the margin.
    wide = [0.89, 0.915, 0.9, 0.91, 0.88, 0.925]
    assert sum(wide) < sum(full)
    row = rows_of(full, wide, full)
    assert row["overtrained"] is True
    assert "is shown to be as good as full training" in savings_text([row])
    assert "edge of the batch sizes" in savings_text([row | {"edge": True}])


def test_less_is_better_where_it_is() -> None:
    full, matched = [2.7, 2.71, 2.72, 2.7, 2.71, 2.72], [2.8, 2.81, 2.82, 2.8, 2.81, 2.82]
    row = rows_of([value + 0.01 for value in full], matched, full, "code")
    assert row["diff"] == pytest.approx(-0.01)
    assert (row["noninferior"], row["beats_db"], row["overtrained"]) == (True, True, False)


def test_too_few_seeds_decide_nothing() -> None:
    row = rows_of([0.9, 0.9], [0.8, 0.8], [0.9, 0.9])
    assert (row["noninferior"], row["beats_db"], row["overtrained"]) == (None, None, None)
    assert "too few seeds" in savings_text([row])


def test_a_broken_run_is_said_and_compared_with_nothing() -> None:
    plan = study(seeds=[0, 1])
    results = {"D100": [result(0.9), result(0.9)], "mine": [result(None), result(0.9)]}
    row = _variant_row(plan, TinyTask.metric, "mine", {}, results)
    assert row["metric"] is None
    assert row["failed"] == ["broke"]
    assert "failed: broke" in savings_text([row])
    swapped = {"D100": results["mine"], "mine": results["D100"]}
    row = _variant_row(plan, TinyTask.metric, "mine", {}, swapped)
    assert (row["metrics"], row["failed"]) == ([0.9, 0.9], ["D100: broke"])
    assert _variant_row(plan, TinyTask.metric, "D100", {}, swapped)["failed"] == ["broke"]


def test_a_seed_on_which_dense_training_broke_does_not_count() -> None:
    full, matched = [0.9, 0.91, 0.92, 0.9, 0.91, 0.92, 0.9], [0.8, 0.81, 0.82, 0.8, 0.81, 0.82, 0.8]
    results = {
        "D100": [result(value, 100.0) for value in full[:-1]] + [result(None)],
        "D-B": [result(value) for value in matched],
        "mine": [result(value) for value in full],
    }
    plan = study(seeds=range(100, 107))
    row = _variant_row(plan, TinyTask.metric, "mine", {}, results)
    assert row["seeds"] == list(range(100, 106))
    assert row["left_out"] == {"106": "D100: broke"}
    assert row["verdict"] == "win"
    assert "seed 106 does not count: D100: broke." in savings_text([row])


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
    assert [{k: v for k, v in row.items() if k not in drop} for row in again] == [
        {k: v for k, v in row.items() if k not in drop} for row in first
    ]
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
    (whole,) = run_missing([config], BenchStore(tmp_path / "one"), 1, heard)
    assert whole["reason"] == ""
    assert whole["parameters_sha256"] == ended(config).parameters_sha256
    monkeypatch.setattr("effcore.studies.executor.MAX_STEPS_OVER_DENSE", 0.01)
    monkeypatch.setattr("effcore.studies.executor._CANCEL_CHECK_S", 0.01)
    long = replace(config, epochs=200)
    (given_up,) = run_missing([long], BenchStore(tmp_path / "two"), 1, heard)
    said: list[str] = []
    assert run_missing([long], BenchStore(tmp_path / "two"), 1, said.append) == [given_up]
    assert said == [], "it would be given up again"
    assert given_up["metric"] is given_up["validation"] is given_up["parameters_sha256"] is None
    assert "given up after 0.01 times the steps" in given_up["reason"]


@pytest.mark.parametrize(
    ("error", "told", "words"),
    [
        (torch.OutOfMemoryError, StoreError, "failed by the machine .OutOfMemoryError."),
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
        run_missing([config], store, 1, heard)
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
        run_missing([config], store, 1, heard)
    assert asked == []


def test_another_setting_is_another_run() -> None:
    keys = {
        _place(resolve({"task": "tiny", "device": "cpu", **changes}))
        for changes in ({}, {"seed": 1}, {"mass": 0.5}, {"budget": 0.6}, {"size": "small"})
    }
    assert len(keys) == 5


def test_quick_is_shorter_only_where_nothing_else_was_asked() -> None:
    options: dict[str, Any] = dict.fromkeys(("size", "epochs", "tries", "seeds", "journal"))
    options |= {"device": "cpu", "first_seed": 100, "tuning_seeds": 1, "arms": "", "budget": 0.6}
    (short,), _ = plan_savings_studies(["tiny"], None, quick=True, **options)
    assert (short.tries, len(short.seeds), short.settings["size"]) == (1, 2, "small")
    asked = {**options, "size": "large", "epochs": 9, "tries": 3, "seeds": 5}
    for quick in (True, False):
        (own,), _ = plan_savings_studies(["tiny"], None, quick=quick, **asked)
        assert (own.tries, len(own.seeds)) == (3, 5)
        assert own.settings == {"size": "large", "epochs": 9, "device": "cpu"}
    one = {**options, "arms": "random,auto"}
    assert len(plan_savings_studies(["tiny"], None, quick=False, **one)[0][0].seeds) == 6
    (usual,), _ = plan_savings_studies(["tiny"], None, quick=False, **options)
    assert (usual.tries, len(usual.seeds), usual.settings["epochs"]) == (MAX_TRIES, 10, 4)


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
    good = rows_of([value - 0.005 for value in full], matched, full)
    bad = rows_of([0.7, 0.9, 0.8, 0.9, 0.8, 0.7], matched, full) | {"arm": "other"}
    failed = {**good, "arm": "broken"}
    del failed["diff"], failed["diff_db"]
    data = savings_figure([good, bad, failed]).to_plotly_json()["data"]
    assert [list(trace["y"]) for trace in data] == [["mine", "other"]] * 2
    assert [trace["marker"]["symbol"] for trace in data] == [["circle", "x-thin"]] * 2
    assert data[0]["error_x"]["array"][0] == pytest.approx(good["diff_hi"] - good["diff"])
