"""How arms are tuned: the dense ones to a best between others, policies by what differs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from effcore.bench.bench_store import BenchStore, _place
from effcore.bench.savings_variants import SavingsStudy, SavingsVariant, variants_for
from effcore.bench.tuning import FIRST_POINTS, MAX_STEPS_BEYOND, Tuner, tune_dense, tune_policies
from effcore.policies.combination import DENSE_POLICIES, PolicyCombination
from effcore.records import RunConfig
from effcore.testing.tiny_task import TinyTask, tiny_task
from tests.bench_runs import scripted_training

USUAL = TinyTask.models[0].defaults


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def tuner(path: Path, said: list[str], tries: int = 4, task: str = "tiny") -> Tuner:
    study = SavingsStudy(
        task=task,
        model="mlp" if task == "tiny" else "resnet",
        budget=0.6,
        tries=tries,
        tuning_seeds=[0],
        seeds=[100, 101],
        arms=[],
        settings={"device": "cpu", "epochs": 3},
    )
    return Tuner(study, BenchStore(path / "j"), 1, said.append)


def scripted(
    monkeypatch: pytest.MonkeyPatch, result: Callable[[RunConfig], dict[str, Any]]
) -> list[RunConfig]:
    """Put results by a formula in place of training; returns the runs that were asked for."""
    return scripted_training(monkeypatch, lambda config: {"validation": 0.5} | result(config))


# Dense arms ------------------------------------------------------------------------------

MATCHED = SavingsVariant("D-B", DENSE_POLICIES, (), 0.6)


def peak(batch: float, rate: float) -> Callable[[RunConfig], dict[str, Any]]:
    """Results that fall off from a batch size and a rate, both told in steps of two."""

    def result(config: RunConfig) -> dict[str, Any]:
        size = math.log2(config.batch_size / USUAL.batch_size)
        step = math.log2(config.learning_rate / USUAL.learning_rate / 0.7**-size)
        return {"validation": -((size - batch) ** 2) - (step - rate) ** 2}

    return result


@pytest.mark.parametrize(
    ("batch", "rate", "edge"),
    [
        (0, 0, False),
        (-1, 0, False),
        (-2, 1, False),
        (2, -1, False),
        (-9, 0, True),
        (0, 9, True),
    ],
)
def test_the_grid_is_extended_until_the_best_lies_between_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int, rate: int, edge: bool
) -> None:
    asked, said = scripted(monkeypatch, peak(batch, rate)), list[str]()
    best = tune_dense(tuner(tmp_path, said), [MATCHED])["D-B"]
    place = (max(batch, -1 - MAX_STEPS_BEYOND), min(rate, 1 + MAX_STEPS_BEYOND))
    assert best.settings["batch_size"] == 16 * 2.0 ** place[0]
    expected = USUAL.learning_rate * 2.0 ** place[1] * 0.7 ** -place[0]
    assert best.settings["learning_rate"] == pytest.approx(expected)
    assert best.at_grid_edge is edge
    assert any("at the edge" in message for message in said) is edge
    assert len(asked) == len(set(map(_place, asked))) <= 16
    tried = {(run.batch_size, round(run.learning_rate, 9)) for run in asked}
    around = [(16, USUAL.learning_rate * factor) for factor in (1, 0.5, 2)]
    assert {(size, round(value, 9)) for size, value in around} <= tried


def test_a_batch_of_less_than_one_or_more_than_all_is_no_neighbour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TinyTask, "n_train", 24)  # so that 32 are more than all
    asked = scripted(monkeypatch, peak(1, 0))
    best = tune_dense(tuner(tmp_path, []), [MATCHED])["D-B"]
    assert best.settings["batch_size"] == max(run.batch_size for run in asked) == 16
    assert best.at_grid_edge is False


def test_a_single_try_takes_the_defaults(tmp_path: Path) -> None:
    best = tune_dense(tuner(tmp_path, [], tries=1), [MATCHED])["D-B"]
    usual = {"batch_size": USUAL.batch_size, "learning_rate": USUAL.learning_rate}
    assert best.settings == usual
    assert FIRST_POINTS[0] == (0, 0)


# Policies --------------------------------------------------------------------------------


def test_the_best_on_validation_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def result(config: RunConfig) -> dict[str, Any]:
        good = config.knobs.get("skip_fraction") == 0.6
        return {"validation": 0.9 if good else 0.5, "metric": 0.0}  # the test says otherwise

    asked = scripted(monkeypatch, result)
    arms = [
        a for a in variants_for("tiny", TinyTask.models[0], "medium", 0.6) if a.name == "random"
    ]
    best = tune_policies(tuner(tmp_path, []), arms, {"batch_size": 8})
    assert best["random"].settings == {"batch_size": 8, "skip_fraction": 0.6}
    assert len(asked) == 4 + 1  # and dense, to know what does nothing


def test_a_setting_that_does_nothing_new_gives_its_place_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def result(config: RunConfig) -> dict[str, Any]:
        share = config.knobs.get("hidden_share", 0.0)  # confidence decides nothing
        return {"validation": share, "parameters_sha256": f"{config.selection} {share}"}

    asked, said = scripted(monkeypatch, result), list[str]()
    (arm,) = [a for a in variants_for("tiny", TinyTask.models[0], "medium", 0.6)
              if a.name == "kakurenbo"]  # fmt: skip
    best = tune_policies(tuner(tmp_path, said), [arm], {})
    shares = [run.knobs["hidden_share"] for run in asked if run.selection == "kakurenbo"]
    assert shares == [0.4, 0.3, 0.6, 0.4, 0.2]
    assert best["kakurenbo"].settings == {"hidden_share": 0.6}
    assert sum("has no new effect" in message for message in said) == 1


def test_what_leaves_the_plain_parameters_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def result(config: RunConfig) -> dict[str, Any]:
        first = config.knobs.get("first_size") or 1.0
        grown = first if first < 0.75 else 1.0  # of two stages, three quarters are both
        return {"validation": first, "parameters_sha256": f"{config.selection} {grown}"}

    asked = scripted(monkeypatch, result)
    growing: tuple[dict[str, float], ...] = ({}, {"first_size": 0.75}, {"first_size": 0.25})
    arms = [
        SavingsVariant(
            "depth-growth", DENSE_POLICIES._replace(intensity="depth-growth"), growing, 0.6
        ),
        SavingsVariant(
            "auto+depth-growth", PolicyCombination("auto", intensity="depth-growth"), growing, 0.6
        ),
    ]
    assert [arm.baseline_policies for arm in arms] == [DENSE_POLICIES, PolicyCombination("auto")]
    best = tune_policies(tuner(tmp_path, [], tries=2, task="tabular"), arms, {})
    assert {name: each.settings for name, each in best.items()} == {
        "depth-growth": {},
        "auto+depth-growth": {},
    }
    assert len(asked) == 2 + 2 * 3, "the plain ones, and the spare setting of each"


def test_parameters_that_are_not_known_are_not_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = scripted(monkeypatch, lambda config: {"parameters_sha256": None})
    arm = SavingsVariant(
        "random", DENSE_POLICIES._replace(selection="random"), ({}, {"skip_fraction": 0.2}), 0.6
    )
    assert tune_policies(tuner(tmp_path, [], tries=2), [arm], {})["random"].settings == {}
    assert len(asked) == 3
