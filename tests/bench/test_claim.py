"""The three questions: what is free by family, over faults of the data, and as time."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from effcore.__main__ import main
from effcore.bench import claim as claim_module
from effcore.bench.bench_store import BenchStore
from effcore.bench.claim import (
    DATA_FAULTS,
    auto_result,
    every_task_model,
    fault_grid,
    fault_grid_text,
    lossless_saving,
    model_savings_text,
    savings_by_model,
    time_saved_grid,
    time_saved_grid_text,
)
from effcore.bench.command_line import measurement_environment
from effcore.bench.study_commands import (
    data_faults_figure,
    figures_page,
    loss_by_budget_figure,
    time_saved_figure,
)
from effcore.bench.time_saved import PolicyTimeSaved
from effcore.records import RunConfig
from effcore.records.settings import Settings
from effcore.studies.comparison import study_result, study_results
from effcore.studies.plan import StudyPlan
from effcore.studies.statistics import MedianInterval
from effcore.tasks.base import TASKS
from effcore.testing.tiny_task import tiny_task
from tests.bench_runs import runs_with_metrics, scripted_training

SEEDS = range(100, 110)
CPU: Settings = {"device": "cpu", "threads": 1}


@pytest.fixture(autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def heard(_: str) -> None:
    """Take a progress message."""


def scripted(
    monkeypatch: pytest.MonkeyPatch, metric: Callable[[RunConfig], float]
) -> list[RunConfig]:
    """Put results by a formula in place of training; returns the runs that were asked for."""
    return scripted_training(monkeypatch, lambda config: {"metric": metric(config)})


def wobble(config: RunConfig) -> float:
    """Return a little noise, the same for all arms of a seed but for their budget."""
    return 0.001 * (config.seed % 3) + 0.0001 * (config.seed % 2) * (config.budget or 1.0)


# Judging ---------------------------------------------------------------------------------


def judged(task: str, own: list[float], dense: list[float]) -> dict[str, Any]:
    """Judge a policy where full and same-budget training come to the same."""
    baselines: dict[str, dict[str, float]] = {"D100": {}, "D-B": {}}
    margin = TASKS.get(task).metric.margin
    plan = StudyPlan({"task": task}, {"auto": {"selection": "auto"}}, 0.6,
                     tuple(range(len(own))), margin, baselines=baselines)  # fmt: skip
    metrics = {
        name: [None if math.isnan(value) else value for value in values]
        for name, values in (("D100", dense), ("D-B", dense), ("auto", own))
    }
    result = auto_result(study_result("", plan, runs_with_metrics(plan, metrics)))
    return dict(result.to_record())


def test_less_and_more_are_judged_by_the_metrics_direction() -> None:
    full = [0.90, 0.91, 0.92, 0.90, 0.91, 0.92]
    near = [value - 0.005 + 0.001 * place for place, value in enumerate(full)]
    told = judged("tiny", near, full)
    assert told["noninferior"] is True
    assert told["beats_db"] is False
    loss = [2.6, 2.61, 2.62, 2.6, 2.61, 2.62]
    assert judged("code", [2.5] * 6, loss)["beats_db"] is True
    assert judged("code", [2.7] * 6, loss)["noninferior"] is False


def test_five_seeds_decide_nothing() -> None:
    told = judged("tiny", [0.9] * 5, [0.8] * 5)
    assert told["diff"] == pytest.approx(0.1)
    assert told["noninferior"] is told["beats_db"] is None
    assert told["verdict"] == "too few seeds"


def test_a_broken_dense_run_leaves_its_seed_out_and_a_broken_policy_is_said() -> None:
    lost, dense = float("nan"), [0.9, 0.91, 0.92, 0.9, 0.91, 0.92, 0.9]
    told = judged("tiny", dense, [*dense[:-1], lost])
    assert told["noninferior"] is True
    told = judged("tiny", [*dense[:-1], lost], dense)
    assert (told["verdict"], told["noninferior"]) == ("broke down", False)


# Families --------------------------------------------------------------------------------


def test_a_saving_ends_at_the_first_budget_that_loses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # auto loses at 0.45 and is as good as ever at 0.3, which must not count any more.
    loses = {("auto", 0.45), ("dense", 0.8), ("dense", 0.6), ("dense", 0.45), ("dense", 0.3)}

    def metric(config: RunConfig) -> float:
        return 0.9 + wobble(config) - 0.1 * ((config.selection, config.budget) in loses)

    asked = scripted(monkeypatch, metric)
    budgets = (0.3, 0.45, 0.6, 0.8)
    rows = savings_by_model(
        [("tiny", "mlp")], budgets, SEEDS, CPU, BenchStore(tmp_path / "j"), 1, heard
    )  # fmt: skip
    assert len(asked) == 10 * (1 + 2 * len(budgets))
    assert lossless_saving(rows[0].auto) == pytest.approx(0.4)
    assert lossless_saving(rows[0].dense) == 0.0
    record = dict[str, Any](rows[0].to_record())
    assert (record["auto"], record["dense"]) == (pytest.approx(0.4), 0.0)
    text = model_savings_text(rows)
    assert "| 40% | nothing |" in text
    assert figures_page("Claim", {"families": loss_by_budget_figure(rows)}).count("<h2>") == 1


def test_too_few_seeds_free_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, wobble)
    store = BenchStore(tmp_path / "j")
    rows = savings_by_model([("tiny", "mlp")], (0.6,), range(2), CPU, store, 1, heard)
    assert lossless_saving(rows[0].auto) is None
    assert "too few seeds" in model_savings_text(rows)


def test_all_models_of_the_app_are_asked() -> None:
    pairs = list(every_task_model())
    assert {task for task, _ in pairs} == set(TASKS.ids())
    assert ("code", "convolution") in pairs


# The grid --------------------------------------------------------------------------------


def test_each_cell_compares_within_its_own_faults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def metric(config: RunConfig) -> float:
        data = dict(config.data)
        value = 0.9 - 0.5 * data["label_noise"] + wobble(config)
        if config.selection == "auto":
            value -= data["label_noise"]  # selection suffers from wrong labels more
        return value - 0.05 * (config.selection == "dense" and config.budget == 0.6)

    asked = scripted(monkeypatch, metric)
    faults = {"redundancy": (0.0, 0.5), "label_noise": (0.0, 0.1), "imbalance": (1, 5)}
    settings: Settings = {**CPU, "rows": 1000}
    store, seeds = BenchStore(tmp_path / "j"), range(100, 110)  # of eight cells it takes ten
    cells = fault_grid("tabular", faults, 0.6, seeds, settings, store, 1, heard)
    rows: list[dict[str, Any]] = [dict(cell.to_record()) for cell in cells]
    assert len(rows) == 8
    assert len(asked) == 8 * 3 * 10
    assert all(dict(config.data)["rows"] == 1000 for config in asked)
    for row in rows:
        clean = row["label_noise"] == 0.0
        assert row["noninferior"] is clean
        assert row["beats_db"] is clean
        assert row["diff"] == pytest.approx(-row["label_noise"], abs=1e-3)
        assert row["diff_db"] == pytest.approx(0.05 - row["label_noise"], abs=1e-3)
        assert row["shortening"] == pytest.approx(-0.05, abs=1e-3)
    assert fault_grid_text(cells).count("\n") == 9
    drawn = data_faults_figure(cells).to_plotly_json()["data"]
    assert len(drawn) == 2 * 2
    marked = [word for trace in drawn for word in trace["text"] if "○" in word]
    assert len(marked) == 2 * sum(row["label_noise"] == 0.0 for row in rows)


def test_the_cells_of_a_grid_are_judged_as_one_family() -> None:
    baselines: dict[str, dict[str, float]] = {"D100": {}, "D-B": {}}
    plan = StudyPlan({"task": "tiny"}, {"auto": {"selection": "auto"}}, 0.6, tuple(range(10)),
                     0.02, baselines=baselines)  # fmt: skip
    full = [0.9 + 0.001 * seed for seed in range(10)]
    studies = []
    for gain in (0.004, 0.001):
        own = [value + gain * (1 + seed % 3) for seed, value in enumerate(full)]
        metrics: dict[str, list[float | None]] = {"D100": [*full], "D-B": [*full], "auto": [*own]}
        studies.append((plan, runs_with_metrics(plan, metrics)))
    alone = [study_result("", *study).verdicts[0] for study in studies]
    together = [result.verdicts[0] for result in study_results([*studies, *studies[:1] * 2])]
    # Holm's method multiplies the smallest p by the number of cells.
    assert together[0].against_matched.p == pytest.approx(4 * alone[0].against_matched.p)
    assert together[0].min_seeds == 10 > alone[0].min_seeds == 6


def test_a_cell_that_broke_down_counts_for_the_family() -> None:
    plan = StudyPlan({"task": "tiny"}, {"auto": {"selection": "auto"}}, 0.6, tuple(range(10)),
                     0.02, baselines={"D100": {}, "D-B": {}})  # fmt: skip
    good = [0.9 + 0.001 * seed for seed in range(10)]
    metrics: dict[str, list[float | None]]
    metrics = {"D100": [*good], "D-B": [*good], "auto": [v - 0.01 * (i % 2) for i, v in
                                                         enumerate(good)]}  # fmt: skip
    broken = {**metrics, "auto": [None, *good[1:]]}
    studies = [(plan, runs_with_metrics(plan, each)) for each in (metrics, broken, broken)]
    first, *rest = study_results(studies)
    alone = study_result("", *studies[0]).verdicts[0]
    assert [each.policies[0].outcome for each in rest] == ["broke down"] * 2
    assert first.verdicts[0].against_full.p == pytest.approx(3 * alone.against_full.p)


def test_faults_are_settings_of_the_task_that_is_spoilt() -> None:
    from effcore.knobs import knobs_of

    for task in ("tabular", "digits"):
        assert set(DATA_FAULTS) <= {spec.name for spec in knobs_of(TASKS.get(task).settings)}


# Time ------------------------------------------------------------------------------------


def test_a_measured_cell_is_not_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def measured(
        task: str, model: str, policies: Any, settings: Any, *_: Any
    ) -> list[PolicyTimeSaved]:
        calls.append(settings)
        ratio = MedianInterval(0.97, 0.9, 1.1, 3)
        return [PolicyTimeSaved(policies[0], 0.4, MedianInterval(0.39, 0.3, 0.4, 3), ratio, ratio)]

    monkeypatch.setattr(claim_module, "measure_time_saved", measured)
    store = BenchStore(tmp_path / "j")
    rows = time_saved_grid("digits", 2, 3, True, "cpu", store, heard)
    assert len(calls) == len(rows) == 2
    assert time_saved_grid("digits", 2, 3, True, "cpu", BenchStore(tmp_path / "j"), heard) == rows
    assert len(calls) == 2
    for changed in ({"cpu": "another"}, {"torch": "9.9"}):
        elsewhere = {**measurement_environment(), **changed}
        monkeypatch.setattr(claim_module, "measurement_environment", lambda found=elsewhere: found)
        time_saved_grid("digits", 2, 3, True, "cpu", BenchStore(tmp_path / "j"), heard)
    assert len(calls) == 6, "on another machine, or by another PyTorch"
    assert {cell.threads for cell in rows} == {1, 2}
    assert rows[0].to_record()["ratio"] == {"median": 0.97, "lo": 0.9, "hi": 1.1, "n": 3}
    assert "0.97 (0.90 to 1.10)" in time_saved_grid_text(rows)
    assert len(time_saved_figure(rows).to_plotly_json()["data"]) == 2


# The command -----------------------------------------------------------------------------


def test_the_command_answers_draws_and_prints(tmp_path: Path) -> None:
    words = ["bench", "claim", "--part", "families", "--models", "tiny/mlp", "--quick", "--json"]
    drawn = tmp_path / "figure.html"
    places = ["--journal", str(tmp_path / "j"), "--figure", str(drawn)]
    result = CliRunner().invoke(main, [*words, *places])
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert [row["model"] for row in data["families"]] == ["mlp"]
    text = drawn.read_text(encoding="utf-8")
    assert "<h2>" in text
    assert not re.search(r'<script[^>]+src="http', text)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (["--models", "tiny/elm"], "elm"),
        (["--models", "tinny/mlp"], "tinny"),
        (["--part", "grid", "--grid-task", "photo"], "redundancy"),
        (["--figure", "no-such-folder/f.html"], "there is no folder for"),
    ],
)
def test_the_command_refuses_what_does_not_exist(
    tmp_path: Path, bad: list[str], words: str
) -> None:
    part = [] if "--part" in bad else ["--part", "families"]
    place = ["--journal", str(tmp_path / "j")]
    result = CliRunner().invoke(main, ["bench", "claim", *part, "--quick", *place, *bad])
    assert result.exit_code == 2
    assert words in result.stderr
