from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from effcore.cli.listing import registered_listing, registered_listing_text
from effcore.records import Energy, EnergyQuality, RunConfig, RunEnd, RunStatus, Snapshot
from effcore.runs.summary import metric_text, run_summary, summary_text
from effcore.tasks.base import Metric
from effcore.testing.tiny_task import TinyTask, tiny_task
from effcore.training.warmup import load_task_once, warm_up, warm_up_once
from tests.tiny_runs import ended, tiny_config

UNKNOWN = Energy(None, 12.4, 80.2, 3.0, EnergyQuality.ESTIMATED, "processor time", "this process")


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def look(end: RunEnd | None, status: RunStatus = RunStatus.FINISHED) -> Snapshot:
    empty = np.empty((8, 0))
    return Snapshot(
        "20261123-224501-k3f9", tiny_config(), status, 0.0, None, end, 1.0, empty, empty[:6],
        empty[:7], (), UNKNOWN, exploratory=False,
    )  # fmt: skip


def test_the_record_has_what_the_run_came_to() -> None:
    end = ended(tiny_config())
    record = run_summary(look(end))
    assert record["skipped_compute_frac"] == end.skipped_compute_frac
    assert record["parameters_sha256"] == end.parameters_sha256
    assert record["energy"] == {
        "joules": None,
        "lo": 12.4,
        "hi": 80.2,
        "quality": "estimated",
        "source": "processor time",
        "scope": "this process",
        "seconds": 3.0,
        "notes": [],
        "device_uuid": None,
        "ticks": 0,
        "max_gap_s": 0.0,
        "crosscheck": None,
        "contended": False,
        "throttled_s": None,
        "left_out": "",
        "card": "",
        "driver": "",
        "power_limit_w": None,
        "hz": 0.0,
        "step_s": 0.0,
        "idle_w": [],
        "idle_s": [],
    }
    assert json.loads(json.dumps(record)) == record


def test_a_run_without_an_end_has_nothing_made_up() -> None:
    record = run_summary(look(None, RunStatus.INTERRUPTED))
    assert record["status"] == "interrupted"
    assert {record[name] for name in ("metric", "passes", "flops_spent", "parameters_sha256")} == {
        None
    }
    assert "interrupted" in summary_text(look(None, RunStatus.INTERRUPTED))


def test_the_text_says_joules_with_their_quality() -> None:
    text = summary_text(look(ended(tiny_config())))
    assert "≈ 12–80 J ESTIMATED · this process · processor time" in text
    assert "cost of selection counted" in text


@pytest.mark.parametrize(
    ("unit", "digits", "value", "text"),
    [
        ("%", 2, 0.98765, "98.77 %"),
        ("dB", 1, 31.26, "31.3 dB"),
        ("dB", 1, None, "no value"),
        ("", 3, 0.5, "0.500"),
    ],
)
def test_metrics_are_written_as_people_do(
    unit: str, digits: int, value: float | None, text: str
) -> None:
    assert metric_text(Metric("m", "M", unit, True, digits, 0.1), value) == text


def test_the_listing_is_plain_json_and_its_text_says_the_same() -> None:
    data = registered_listing()
    assert json.loads(json.dumps(data)) == data
    tiny = next(task for task in data["tasks"] if task["id"] == "tiny")
    assert tiny["n_train"] == TinyTask.n_train
    (model,) = tiny["models"]
    assert (model["id"], model["sizes"]) == ("mlp", ["small", "medium", "large"])
    assert model["defaults"]["epochs"] == TinyTask.models[0].defaults.epochs
    digits = next(task for task in data["tasks"] if task["id"] == "digits")
    assert [knob["option"] for knob in digits["data"]][0] == "--label-noise"
    text = registered_listing_text()
    for kind in ("selection", "update"):
        for policy in data[kind]:
            assert policy["summary"] in text
            assert all(knob["option"] in text for knob in policy["knobs"])


def test_warming_up_takes_one_step_of_the_default_task(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def resolve(raw: dict[str, Any]) -> Any:
        asked.append(raw)
        return tiny_config()

    monkeypatch.setattr("effcore.training.warmup.resolve", resolve)
    warm_up()
    assert "task" not in asked[0], "the default is warmed up, whatever it is"


def test_the_runs_own_task_is_warmed_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def trained(config: RunConfig) -> Iterator[Any]:
        asked.append((config.task, config.selection))
        raise ArithmeticError("it cannot be trained, which its run will say")

    monkeypatch.setattr("effcore.training.warmup.train", trained)
    for seed in (0, 1):
        warm_up_once(tiny_config(seed=seed, threads=7, selection="confident-skip"))
    assert asked == [("tiny", "dense")]


def test_what_a_task_needs_is_loaded_once_and_what_fails_is_left_to_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def made(config: RunConfig) -> None:
        asked.append(config.task)
        raise OSError("its files are not there")

    monkeypatch.setattr("effcore.training.warmup.make_task", made)
    load_task_once.cache_clear()
    for task in ("tiny", "tiny", "no such task"):
        load_task_once(task)
    load_task_once.cache_clear()
    assert asked == ["tiny"]
