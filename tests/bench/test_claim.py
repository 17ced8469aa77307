"""The three questions: what is free by family, over faults of the data, and as time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from effcore.__main__ import main
from effcore.bench import claim as claim_module
from effcore.bench.bench_store import BenchStore
from effcore.bench.claim import (
    DATA_FAULTS,
    _auto_columns,
    _judge_auto,
    every_task_model,
    fault_grid,
    savings_by_family,
    time_saved_grid,
)
from effcore.bench.claim_text import families_text, fault_grid_text, time_saved_grid_text
from effcore.bench.environment import measurement_environment
from effcore.bench.time_saved import PolicyTimeSaved
from effcore.figures.bench_charts import (
    data_faults_figure,
    figures_page,
    loss_by_budget_figure,
    time_saved_figure,
)
from effcore.records import RunConfig
from effcore.studies.statistics import MedianInterval
from effcore.tasks.base import TASKS
from effcore.testing.tiny_task import tiny_task

SEEDS = range(100, 106)


@pytest.fixture(autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def heard(_: str) -> None:
    """Take a progress message."""


def scripted(monkeypatch: pytest.MonkeyPatch, metric: Callable[[RunConfig], float]) -> list[Any]:
    """Put results by a formula in place of training; returns the runs that were asked for."""
    asked: list[Any] = []

    def results(configs: Sequence[RunConfig], *_: Any) -> list[dict[str, Any]]:
        asked.extend(configs)
        return [{"metric": metric(config), "reason": ""} for config in configs]

    monkeypatch.setattr(claim_module, "run_missing", results)
    return asked


def wobble(config: RunConfig) -> float:
    """Return a little noise, the same for all arms of a seed but for their budget."""
    return 0.001 * (config.seed % 3) + 0.0001 * (config.seed % 2) * (config.budget or 1.0)


# Judging ---------------------------------------------------------------------------------


def judged(task: str, own: list[float], dense: list[float]) -> dict[str, Any]:
    """Judge a policy where full training and training for less come to the same."""
    return _auto_columns(_judge_auto(task, own, dense, dense))


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
    rows = savings_by_family(
        [("tiny", "mlp")], budgets, SEEDS, {}, BenchStore(tmp_path / "j"), 1, heard
    )  # fmt: skip
    assert len(asked) == 6 * (1 + 2 * len(budgets))
    assert rows[0]["auto"] == pytest.approx(0.4)
    assert rows[0]["dense"] == 0.0
    text = families_text(rows)
    assert "| 40% | nothing |" in text
    assert figures_page("Claim", {"families": loss_by_budget_figure(rows)}).count("<h2>") == 1


def test_too_few_seeds_free_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, wobble)
    store = BenchStore(tmp_path / "j")
    rows = savings_by_family([("tiny", "mlp")], (0.6,), range(2), {}, store, 1, heard)
    assert rows[0]["auto"] is None
    assert "too few seeds" in families_text(rows)


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
    settings = {"rows": 1000}
    rows = fault_grid("tabular", faults, 0.6, SEEDS, settings, BenchStore(tmp_path / "j"), 1, heard)
    assert len(rows) == 8
    assert len(asked) == 8 * 3 * 6
    assert all(dict(config.data)["rows"] == 1000 for config in asked)
    for row in rows:
        clean = row["label_noise"] == 0.0
        assert row["noninferior"] is clean
        assert row["beats_db"] is clean
        assert row["diff"] == pytest.approx(-row["label_noise"], abs=1e-3)
        assert row["diff_db"] == pytest.approx(0.05 - row["label_noise"], abs=1e-3)
        assert row["shortening"] == pytest.approx(-0.05, abs=1e-3)
    assert fault_grid_text(rows).count("\n") == 9
    drawn = data_faults_figure(rows).to_plotly_json()["data"]
    assert len(drawn) == 2 * 2
    marked = [word for trace in drawn for word in trace["text"] if "○" in word]
    assert len(marked) == 2 * sum(row["label_noise"] == 0.0 for row in rows)


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
    assert {row["threads"] for row in rows} == {1, 2}
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
