from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from effcore.bench.bench_store import BenchStore
from effcore.bench.matched_comparison import (
    measure_reference_length,
    plateau_length,
    reference_length_text,
    validation_metrics,
)
from effcore.records import EvalEvent, RunEnd
from effcore.tasks.base import Metric
from effcore.testing.tiny_task import TinyTask, tiny_task
from tests.bench_runs import scripted_training
from tests.tiny_runs import tiny_config, trained

UP = Metric("accuracy", "Accuracy", "%", True, 2, margin=0.02)
DOWN = Metric("bits", "Bits", "bits", False, 2, margin=0.1)


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


@pytest.mark.parametrize(
    ("values", "metric", "found"),
    [
        ([0.80, 0.90, 0.905, 0.908], UP, 20),
        ([0.80, 0.90, 0.905, 0.914], UP, 30),  # ten to a hundredth of the best, not of the next
        ([0.80, 0.90, 0.95, 0.99], UP, None),
        ([0.95, 0.94, 0.93, 0.92], UP, 10),  # longer is worse: the shortest is the reference
        ([3.0, 2.5, 2.48, 2.46], DOWN, 20),
        ([3.0, 2.9, 2.8, 2.7], DOWN, None),
    ],
)
def test_the_plateau_is_the_shortest_that_nothing_longer_beats(
    values: list[float], metric: Metric, found: int | None
) -> None:
    assert plateau_length([10, 20, 30, 40], values, metric) == found


def measured(path: Path, epochs: list[int], seeds: range, say: Any = lambda _: None) -> Any:
    return measure_reference_length(
        {"task": "tiny", "device": "cpu"}, epochs, seeds, BenchStore(path), 1, say
    )


def test_one_length_shows_no_plateau(tmp_path: Path) -> None:
    for lengths, values in (([10], [0.5]), ([10, 20], [0.5]), ([10, 20], [0.5, math.nan])):
        with pytest.raises(ValueError, match="show no plateau"):
            plateau_length(lengths, values, UP)
    with pytest.raises(ValueError, match=r"epochs \[3\] show no plateau"):
        measured(tmp_path / "j", [3, 3], range(1))


def test_a_run_that_failed_is_no_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TinyTask, "losses", lambda self, out, _: out.sum(-1) * torch.inf)
    config, store = tiny_config(selection="dense"), BenchStore(tmp_path / "j")
    with pytest.raises(ArithmeticError, match="dense with 3 epochs, seed 0, failed: .*loss"):
        validation_metrics([config], store, 1, lambda _: None)


def test_what_is_validated_is_the_last_look_before_the_test_split(tmp_path: Path) -> None:
    config = tiny_config(selection="dense", epochs=5)
    *events, end = trained(config)
    assert isinstance(end, RunEnd)
    looks = [event.metric for event in events if isinstance(event, EvalEvent)]
    (found,) = validation_metrics([config], BenchStore(tmp_path / "j"), 1, lambda _: None)
    assert found == looks[-1]
    assert found not in (looks[0], end.metric)


def test_lengths_are_compared_on_the_same_seeds_and_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_training(
        monkeypatch, lambda config: {"validation": config.epochs + 0.01 * config.seed}
    )
    said: list[str] = []
    found = measured(tmp_path / "j", [2, 1], range(3, 5), said.append)
    result = json.loads(json.dumps(found.to_record()))
    assert result["epochs"] == {"1": [1.03, 1.04], "2": [2.03, 2.04]}
    assert result["shorter"] == {"budget": 0.6, "values": [4.03, 4.04]}
    assert result["in force"] == 4
    assert len(said) == 6
    assert "1/6 tiny" in said[0]
    assert said[0].endswith(" left")
    text = reference_length_text(found)
    assert "| 4 at 60% |" in text
    assert "default: 4" in text
    assert measured(tmp_path / "j", [2, 1], range(3, 5), said.append) == found
    assert len(said) == 6, "nothing is trained twice"
    around = measured(tmp_path / "j", [], range(1), said.append)
    assert list(around.by_epochs) == [2, 3, 4, 6], "those around the default"
