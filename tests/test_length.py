from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch

from effcore.bench.length import length, length_text, plateau, validated
from effcore.events import EvalEvent, RunEnd
from effcore.tasks.base import Metric
from effcore.tiny import TinyTask, tiny_task
from tests.runs import tiny_config, trained

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
    assert plateau([10, 20, 30, 40], values, metric) == found


def test_one_length_shows_no_plateau() -> None:
    for lengths, values in (([10], [0.5]), ([10, 20], [0.5]), ([10, 20], [0.5, math.nan])):
        with pytest.raises(ValueError, match="show no plateau"):
            plateau(lengths, values, UP)
    with pytest.raises(ValueError, match=r"epochs \[3\] show no plateau"):
        length({"task": "tiny", "device": "cpu"}, [3, 3], range(1), 1, lambda _: None)


def test_a_run_that_failed_is_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TinyTask, "losses", lambda self, out, _: out.sum(-1) * torch.inf)
    with pytest.raises(ArithmeticError, match="a run of 3 epochs, seed 0, failed"):
        validated(tiny_config(selection="dense"))


def test_what_is_validated_is_the_last_look_before_the_test_split() -> None:
    config = tiny_config(selection="dense", epochs=5)
    *events, end = trained(config)
    assert isinstance(end, RunEnd)
    looks = [event.metric for event in events if isinstance(event, EvalEvent)]
    assert validated(config) == looks[-1]
    assert validated(config) not in (looks[0], end.metric)


def test_lengths_are_compared_on_the_same_seeds() -> None:
    said: list[str] = []
    result = length({"task": "tiny", "device": "cpu"}, [2, 1], range(3, 5), 1, said.append)
    assert list(result["epochs"]) == [1, 2]
    assert all(len(values) == 2 for values in result["epochs"].values())
    assert (result["in force"], result["shorter"]["budget"]) == (4, 0.6)
    assert len(said) == 6
    text = length_text(result)
    assert "| 4 at 60% |" in text
    assert "in force: 4" in text


def test_without_lengths_those_around_the_default_are_tried() -> None:
    result = length({"task": "tiny", "device": "cpu"}, [], range(1), 1, lambda _: None)
    assert list(result["epochs"]) == [2, 3, 4, 6]
