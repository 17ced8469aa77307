from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from effcore.__main__ import main
from effcore.bench import time_saved as realised_module
from effcore.bench.bench_store import BenchStore
from effcore.bench.matched_comparison import (
    compare_matched,
    matched_comparison_text,
    plan_comparison,
    train_to_end,
)
from effcore.bench.step_overhead import (
    checkpoint_cost_text,
    evaluation_time_share,
    measure_checkpoint_cost,
    policy_step_costs,
    policy_step_costs_text,
    steps_per_second,
    trainer_speed_ratio,
)
from effcore.bench.time_saved import measure_time_saved, time_saved_text
from effcore.policies.selection.base import SELECTIONS
from effcore.records import RunConfig, StepEvent
from effcore.records.settings import Settings
from effcore.studies.plan import variants_of
from effcore.tasks.base import Metric
from effcore.testing.tiny_task import TinyTask, tiny_task
from effcore.training.reporter import Reporter
from effcore.training.train_step import TrainStep
from tests.bench_runs import scripted_training
from tests.tiny_runs import tiny_config

SETTINGS: Settings = {"task": "tiny", "selection": "confident-skip", "mass": 0.5, "epochs": 4,
            "device": "cpu", "threads": 1}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def test_the_arms_share_everything_but_policy_and_budget() -> None:
    shared: Settings = {
        "learning_rate": 0.02,
        "size": "small",
        "label_noise": 0.1,
        "clip_norm": 1.0,
    }
    own: Settings = {"update": "prefix-freeze", "frozen_share": 0.4}
    plan = plan_comparison({**SETTINGS, **shared, **own}, 0.6, [0])
    by_name = {each.name: {**plan.shared, **each.settings} for each in variants_of(plan)}
    assert [arm["budget"] for arm in by_name.values()] == [1.0, 0.6, 0.6]
    assert [arm["selection"] for arm in by_name.values()] == ["dense", "dense", "confident-skip"]
    for arm in ("D100", "D-B"):
        assert by_name[arm].keys() == {*SETTINGS, *shared, "budget"} - {"mass"}
    for name in ("task", "epochs", *shared):
        assert len({arm[name] for arm in by_name.values()}) == 1
    assert by_name["policy"]["frozen_share"] == 0.4


def test_the_matched_comparison_runs_all_arms_over_the_same_seeds(tmp_path: Path) -> None:
    said: list[str] = []
    store = BenchStore(tmp_path / "j")
    result = compare_matched(SETTINGS, 0.5, range(3, 5), store, 1, said.append)
    assert len(said) == 6
    assert {arm: len(values) for arm, values in result.metrics.items()} == {
        "D100": 2,
        "D-B": 2,
        "policy": 2,
    }
    first = train_to_end(tiny_config(selection="dense", epochs=4, budget=0.5, seed=3))
    assert result.metrics["D-B"][0] == first.metric
    mean = sum(result.metrics["policy"]) / 2 - sum(result.metrics["D-B"]) / 2
    record = json.loads(json.dumps(result.to_record()))
    assert record["against D-B"]["diff"] == pytest.approx(mean)
    assert record["verdict"] == record["outcome"] == "too few seeds"
    text = matched_comparison_text(result)
    assert "| D100 |" in text
    assert "policy against D-B: " in text
    assert "n=2; higher is better; margin 0.02: matches full training: too few seeds" in text
    again = compare_matched(SETTINGS, 0.5, range(3, 5), store, 1, said.append)
    assert again.to_record() == result.to_record()
    assert len(said) == 6, "nothing is trained twice"


def test_where_less_is_better_the_bound_is_on_the_worse_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bits = {"D100": 2.80, "D-B": 2.90, "policy": 2.81}

    def result(config: RunConfig) -> dict[str, Any]:
        dense = "D-B" if config.budget == 0.6 else "D100"
        name = "policy" if config.selection == "auto" else dense
        return {"metric": bits[name] + 0.001 * config.seed}

    bits_metric = Metric("bits", "Bits", "bits", higher_is_better=False, digits=3, margin=0.027)
    monkeypatch.setattr(TinyTask, "metric", bits_metric)
    scripted_training(monkeypatch, result)
    settings: Settings = {"task": "tiny", "selection": "auto", "device": "cpu"}
    found = compare_matched(settings, 0.6, range(6), BenchStore(tmp_path / "j"), 1, lambda _: None)
    full, matched = found.pairs["against D100"], found.pairs["against D-B"]
    assert full is not None
    assert full.paired.mean == full.paired.bound == pytest.approx(-0.01)
    assert full.noninferior is True
    assert matched is not None
    assert matched.better is True
    assert (
        "margin 0.027: matches full training: yes, beats same-budget training: yes"
        in matched_comparison_text(found)
    )


def test_a_policy_that_breaks_down_gets_the_outcome_that_compare_gives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def result(config: RunConfig) -> dict[str, Any]:
        broken = config.selection == "auto" and config.seed == 3
        return {"metric": None, "reason": "no number"} if broken else {"metric": 0.9}

    scripted_training(monkeypatch, result)
    settings: Settings = {"task": "tiny", "selection": "auto", "device": "cpu"}
    found = compare_matched(settings, 0.6, range(6), BenchStore(tmp_path / "j"), 1, lambda _: None)
    record = found.to_record()
    assert (record["verdict"], record["failed"]) == ("broke down", {"policy, seed 3": "no number"})
    assert record["against D100"] is None
    text = matched_comparison_text(found)
    assert "policy, seed 3: no number" in text
    assert "It broke down on 1 of 6 seeds that full and same-budget training finished" in text


def test_every_arm_spends_its_share() -> None:
    dense = train_to_end(tiny_config(selection="dense", epochs=4, budget=1.0))
    for raw in ({"selection": "dense"}, {"mass": 0.5}):
        spent = train_to_end(tiny_config(**raw, epochs=4, budget=0.5)).flops_spent
        assert spent <= 0.5 * dense.flops_spent
        assert spent > 0.45 * dense.flops_spent


def test_the_overhead_is_a_ratio_with_an_interval() -> None:
    said: list[str] = []
    interval, ratios, rate = trainer_speed_ratio("tiny", 4, 0.05, said.append)
    assert len(ratios) == len(said) == interval.n == 4
    assert interval.lo <= interval.median <= interval.hi
    assert interval.median > 0
    assert rate > 0
    assert evaluation_time_share("tiny", 2 * rate) > evaluation_time_share("tiny", rate / 2) > 0


def test_each_policys_own_cost_is_measured_beside_dense() -> None:
    said: list[str] = []
    costs = policy_step_costs("tiny", 3, 0.01, said.append)
    assert set(costs) == set(SELECTIONS.ids()) - {"dense"}
    assert all(cost.lo <= cost.median <= cost.hi for cost in costs.values())
    assert len(said) == len(costs)
    assert policy_step_costs_text(costs).count("| `") == len(costs)


def test_what_is_timed_of_a_policy_are_its_steps_not_its_preparation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted: list[int] = []

    def slower_by(own: Iterator[StepEvent], *_: object) -> Iterator[float]:
        counted.append(next(own).step)
        return iter([0.0] * 3)

    monkeypatch.setattr("effcore.bench.step_overhead.relative_slowdowns", slower_by)
    assert "rho-loss" in policy_step_costs("tiny", 3, 0.01, lambda _: None)
    assert set(counted) == {1}


def test_a_rate_is_steps_over_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, *[0.25 * i for i in range(20)]])
    monkeypatch.setattr("effcore.bench.step_overhead.time.perf_counter", lambda: next(now))
    assert steps_per_second(iter(range(100)), 1.0) == 4


def test_the_command_prints_result_and_circumstances() -> None:
    words = "bench overhead --task tiny --blocks 3 --seconds 0.02 --json"
    result = CliRunner().invoke(main, words.split())
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout.splitlines()[-1])
    assert data["ratio"]["n"] == 3
    assert data["evaluation_share"] > 0
    assert {"cpu", "cores", "python", "torch", "date"} <= set(data["circumstances"])
    assert not [v for v in data["circumstances"].values() if isinstance(v, str) and "/" in v]


def test_the_command_compares_arms_and_refuses_bad_settings() -> None:
    words = "bench matched --task tiny --epochs 2 --seeds 2 --mass 0.5 --budget 0.5"
    result = CliRunner().invoke(main, words.split())
    assert result.exit_code == 0, result.output
    assert "policy against D100: " in result.stdout
    bad = CliRunner().invoke(main, [*words.split(), "--mass", "2"])
    assert bad.exit_code == 2
    assert "mass='2' is not allowed" in bad.stderr


def test_the_command_finds_a_length() -> None:
    words = "bench length --task tiny --epochs 1,2 --seeds 1 --json"
    result = CliRunner().invoke(main, words.split())
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout.splitlines()[-1])
    assert list(data["epochs"]) == ["1", "2"]
    for bad, words in (("--epochs=3", "show no plateau"), ("--label-noise=0.1", "other tasks")):
        refused = CliRunner().invoke(main, ["bench", "length", "--task", "tiny", bad])
        assert refused.exit_code == 2
        assert words in refused.stderr


@pytest.mark.parametrize("bad", [("--seeds", "1"), ("--seeds", "-5"), ("--jobs", "0")])
def test_too_few_seeds_or_jobs_are_refused_before_anything_trains(bad: tuple[str, str]) -> None:
    result = CliRunner().invoke(main, ["bench", "matched", "--task", "tiny", *bad])
    assert result.exit_code == 2
    assert "is not in the range" in result.stderr


# What is saved as time -------------------------------------------------------------------


def test_time_saved_is_set_beside_computation_skipped() -> None:
    said: list[str] = []
    rows = measure_time_saved(
        "tiny", None, ["random", "confident-skip"], {"epochs": 2}, 3, said.append
    )
    assert len(said) == 3
    assert [row.policy for row in rows] == ["random", "confident-skip"]
    for row in rows:
        end = train_to_end(tiny_config(selection=row.policy, epochs=2))
        assert row.skipped == end.skipped_compute_frac
        assert row.saved.n == row.ratio.n == 3
        assert row.ratio.median == pytest.approx(row.saved.median / row.skipped)
    assert "| random |" in time_saved_text(rows)


class Ticking:
    """A clock on which a step takes a second, and every look at a run ten.

    Args:
        patch: Puts it in place.
        look: What a look takes instead.
        busy: Every other stretch of so many seconds, a step takes two.
    """

    def __init__(
        self, patch: pytest.MonkeyPatch, look: float = 10.0, busy: float = math.inf
    ) -> None:
        self.now, self.busy = 0.0, busy
        patch.setattr("time.monotonic", lambda: self.now)
        for owner, name, seconds in (
            (TrainStep, "update", 1.0),
            (TrainStep, "evaluate", look),
            (Reporter, "view_event", look),
            (Reporter, "loss_histogram_at", look),
        ):
            patch.setattr(owner, name, self.slow(getattr(owner, name), seconds))

    def slow(self, done: Callable[..., Any], seconds: float) -> Callable[..., Any]:
        def later(*args: Any) -> Any:
            self.now += seconds * (1 + self.now // self.busy % 2)
            return done(*args)

        return later


@pytest.mark.parametrize("selection", ["dense", "random", "confident-skip"])
def test_every_step_is_timed_and_no_look_at_the_run(
    selection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(selection=selection, epochs=4)
    Ticking(monkeypatch)
    run = realised_module.time_run(config)
    assert run.seconds == run.end.examples_trained / config.batch_size


def test_where_every_step_costs_alike_time_follows_computation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Ticking(monkeypatch)
    rows = measure_time_saved("tiny", None, ["random"], {"epochs": 4}, 3, lambda said: None)
    assert rows[0].ratio.median == pytest.approx(1.0, abs=0.01)
    assert rows[0].own_cost.median == pytest.approx(0.0, abs=1e-12)


def test_a_machine_that_is_busy_at_times_slows_all_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realised_module, "STRETCH_S", 2.0)
    Ticking(monkeypatch, look=0.0, busy=50.0)
    rows = measure_time_saved("tiny", None, ["random"], {"epochs": 4}, 4, lambda said: None)
    assert rows[0].ratio.median == pytest.approx(1.0, abs=0.05)


def test_checkpoints_are_set_beside_a_run_without(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_CHECKPOINT_S", "CHECKPOINT_INTERVAL_S", "INTERVAL_TO_COST_RATIO"):
        monkeypatch.setattr(f"effcore.runs.resume.{name}", 0.0)
    said: list[str] = []
    cost = measure_checkpoint_cost("tiny", "stale-pps", 3, 0.05, said.append)
    assert len(said) == cost.slower.n == 3
    assert cost.waits_ms.n >= 3
    assert cost.size_bytes > 1000
    assert "training waits" in checkpoint_cost_text("tiny", cost)


def test_help_stands_below_the_knobs() -> None:
    text = CliRunner().invoke(main, ["bench", "matched", "--help"]).output
    assert text.index("--seeds") < text.index("--mass") < text.index("--help")
