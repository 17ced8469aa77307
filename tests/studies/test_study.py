"""A study: planned, carried out, cut short and gone on with, judged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from effcore.__main__ import main
from effcore.config import ConfigError
from effcore.records import RunConfig, Snapshot
from effcore.store import Store, StoreError
from effcore.store.study_table import StudyTable
from effcore.studies import run_origin
from effcore.studies.comparison import (
    load_completed_runs,
    missing_runs,
    open_study,
    run_study,
    stored_run_ids,
    study_record,
)
from effcore.studies.executor import train_study_run
from effcore.studies.plan import (
    BASELINES,
    StudyPlan,
    merge_plans,
    plan_from_json,
    plan_study,
    plan_to_command,
    plan_to_json,
    planned_runs,
    variants_of,
)
from effcore.testing.tiny_task import TinyTask, tiny_task
from effcore.training.ledger import UncountedOperationError
from effcore.training.trainer import train

SHARED = {"task": "tiny", "device": "cpu", "threads": 1, "epochs": 3}


@pytest.fixture(autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "home")
    yield opened
    opened.close()


def plan(seeds: tuple[int, ...] = (100, 101), **changes: Any) -> StudyPlan:
    usual: dict[str, Any] = {"policies": ["confident-skip"], "budget": 0.6, "seeds": seeds}
    return plan_study(**{"settings": {**SHARED, "mass": 0.5}, **usual, **changes})


# Planning --------------------------------------------------------------------------------


def test_arms_share_all_but_policies_and_budget() -> None:
    found = list(planned_runs(plan()))
    assert [cell.variant for cell in found] == [
        "D100", "D-B", "random", "confident-skip", "confident-skip", "random", "D-B", "D100",
    ]  # fmt: skip
    by_arm = {cell.variant: cell.config for cell in found if cell.seed == 100}
    assert [by_arm[arm].budget for arm in (*BASELINES, "confident-skip")] == [1.0, 0.6, 0.6, 0.6]
    assert by_arm["random"].knobs["skip_fraction"] == pytest.approx(0.4)
    assert by_arm["confident-skip"].knobs["mass"] == 0.5
    for name in ("task", "epochs", "batch_size", "learning_rate", "size", "threads"):
        assert len({getattr(config, name) for config in by_arm.values()}) == 1


def test_policies_of_several_kinds_stack() -> None:
    arms = variants_of(plan(policies=["auto+prefix-freeze", "confident-skip"]))
    assert arms[3].settings["update"] == "prefix-freeze"
    assert arms[3].settings["selection"] == "auto"
    assert "mass" not in arms[3].settings
    assert arms[4].settings["mass"] == 0.5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"budget": 1.0}, "between 0 and 1"),
        ({"seeds": ()}, "at least one"),
        ({"seeds": (1, 1)}, "each once"),
        ({"margin": 0.0}, "above 0"),
        ({"policies": []}, "needs a policy"),
        ({"policies": ["dense"]}, "which every study has"),
        ({"policies": ["D-B"]}, "which every study has"),
        ({"policies": ["confident-skp"]}, "confident-skip"),
        ({"settings": {**SHARED, "mass": 7.0}}, "mass"),
        ({"policies": ["auto+sequence-growth"]}, "sequence-growth"),
        ({"policies": ["auto+infobatch"]}, "one of each kind"),
        ({"policies": ["auto+dense"]}, "dense left out"),
        ({"policies": ["auto"]}, "mass is no knob of auto"),
        ({"margin": float("inf")}, "above 0"),
        ({"margin": float("nan")}, "above 0"),
        ({"margin": 1e308}, "margin=1e\\+308 is not allowed: .* to 1000"),
        ({"margin": 1e-320}, "from 1e-06"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_anything_trains(
    changes: dict[str, Any], words: str
) -> None:
    with pytest.raises((ConfigError, ValueError), match=words):
        plan(**changes)


def test_a_plan_survives_being_written_down() -> None:
    whole = replace(plan(), margins=(0.01,))
    assert plan_from_json(plan_to_json(whole)) == whole
    text = plan_to_json(whole)
    empty = text.replace('"arms": {"', '"arms": {}, "x": {"')
    gone = text.replace('"tiny"', '"gone"')
    for bad in ("{}", "[]", "nonsense", text.replace("100", '"a"'), empty, gone):
        with pytest.raises(ValueError, match=r"."):
            plan_from_json(bad)


def test_seeds_join_and_an_old_margin_is_remembered() -> None:
    old, new = plan(), plan(seeds=(101, 102), margin=0.05)
    assert old.key == new.key
    whole = merge_plans(old, new)
    assert whole.seeds == (100, 101, 102)
    assert whole.margin == 0.05
    assert whole.margins == (TinyTask.metric.margin,)
    assert whole.extended == (2,)
    assert len(whole.exploratory_reasons) == 2
    assert old.exploratory_reasons == []
    assert merge_plans(whole, new) == whole
    early = merge_plans(old, new, results_seen=False)
    assert (early.seeds, early.margin, early.exploratory_reasons) == ((100, 101, 102), 0.05, [])
    assert merge_plans(whole, plan(margin=0.07), results_seen=False).exploratory_reasons, (
        "what was told stays"
    )
    assert plan(budget=0.5).key != old.key


# Carrying out ----------------------------------------------------------------------------


def done(
    store: Store, wanted: StudyPlan, cells_at_most: int | None = None
) -> tuple[str, StudyPlan]:
    study, whole = open_study(store, wanted)
    for progress in run_study(store, study.study_id, whole, jobs=1):
        if progress.done == cells_at_most:
            break
    return study.study_id, whole


def test_a_study_cut_short_goes_on_without_repeating_anything(store: Store) -> None:
    study_id, whole = done(store, plan(), cells_at_most=3)
    before = stored_run_ids(store, study_id, whole)
    assert len(before) == 3
    assert (
        len(missing_runs(store, study_id, whole))
        == load_completed_runs(store, study_id, whole).runs_left
        == 5
    )
    again, whole = done(store, plan())
    assert again == study_id
    after = stored_run_ids(store, study_id, whole)
    assert len(after) == 8
    assert before.items() <= after.items()
    assert len(store.runs()) == 8


def test_more_seeds_join_the_same_study(store: Store) -> None:
    study_id, _ = done(store, plan(seeds=(100,)))
    again, whole = done(store, plan(seeds=(101,)))
    assert again == study_id
    found = load_completed_runs(store, study_id, whole)
    assert found.counted_seeds == (100, 101)
    assert len(store.runs()) == 8


def test_the_record_agrees_with_the_store(store: Store) -> None:
    study_id, whole = done(store, plan())
    told = study_record(study_id, whole, load_completed_runs(store, study_id, whole))
    assert told["verdict"] == {"confident-skip": "too few seeds"}
    stored = {
        (run.config.selection, run.config.budget, run.config.seed): run.end.metric
        for run in store.runs()
        if run.end
    }
    by_arm = {arm["name"]: arm for arm in told["arms"]}
    for seed, value in zip(told["seeds"], by_arm["D-B"]["metrics"], strict=True):
        assert value == stored["dense", 0.6, seed]
    for key in ("skipped_compute_frac", "saved_compute_frac"):
        assert by_arm["D100"][key] == 0.0
    assert by_arm["D-B"]["skipped_compute_frac"] == 0.0
    assert by_arm["D-B"]["saved_compute_frac"] == pytest.approx(0.4, abs=0.05)
    assert set(by_arm["D100"]["details"]) == {"worst_class", "calibration_error"}
    assert by_arm["confident-skip"]["saved_compute_frac"] == pytest.approx(0.4, abs=0.05)
    skipped = [
        run.end.skipped_compute_frac
        for run in store.runs()
        if run.end and run.config.selection == "confident-skip"
    ]
    assert by_arm["confident-skip"]["skipped_compute_frac"] == pytest.approx(
        sum(skipped) / len(skipped)
    )
    assert [row["against"] for row in told["diffs"]] == ["D100", "D-B"]
    assert json.loads(json.dumps(told)) == told


def broken(store: Store, monkeypatch: pytest.MonkeyPatch, arm: str, own: tuple[int, ...]) -> Any:
    """Carry out a study in which an arm breaks down on some seeds."""
    name = {"D-B": "dense"}.get(arm, arm)

    def breaking(config: RunConfig, *rest: Any) -> Any:
        if (config.selection, config.budget) == (name, 0.6) and config.seed in own:
            raise ArithmeticError("the loss became infinite")
        return train(config, *rest)

    monkeypatch.setattr("effcore.runs.run.train", breaking)
    study_id, whole = done(store, plan(seeds=(100, 101, 102)))
    assert missing_runs(store, study_id, whole) == [], "it would break again"
    found = load_completed_runs(store, study_id, whole)
    return found, study_record(study_id, whole, found)


def test_a_policy_that_broke_is_not_judged_on_what_is_left(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, told = broken(store, monkeypatch, "confident-skip", (101,))
    assert found.broken_seeds == {"confident-skip": (101,)}
    assert told["verdict"] == {"confident-skip": "broke down"}
    assert "1 of 3 seeds" in told["sentences"]["confident-skip"]
    assert "infinite" in told["sentences"]["confident-skip"]


def test_a_seed_on_which_dense_training_broke_does_not_count(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, told = broken(store, monkeypatch, "D-B", (101,))
    assert found.counted_seeds == (100, 102)
    assert found.broken_seeds == {}
    arms = {arm["name"]: arm for arm in told["arms"]}
    assert "infinite" in arms["D-B"]["failed"]["101"]


def test_leaving_out_at_random_takes_no_part_in_the_verdict(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, told = broken(store, monkeypatch, "random", (100, 101, 102))
    assert found.counted_seeds == (100, 101, 102)
    assert set(told["verdict"]) == {"confident-skip"}
    assert {arm["name"]: arm["metric_mean"] for arm in told["arms"]}["random"] is None


def test_a_run_of_other_settings_is_not_taken_for_a_cell(store: Store) -> None:
    study_id, whole = done(store, plan(seeds=(100,)))
    other = replace(next(planned_runs(whole)).config, learning_rate=1e-6)
    writer = store.create_run(other)
    writer.close()
    store.execute_write("UPDATE runs SET status = 'finished' WHERE run_id = ?", writer.run_id)
    store.execute_write("UPDATE study_runs SET run_id = ? WHERE arm = 'D100'", writer.run_id)
    assert [cell.variant for cell in missing_runs(store, study_id, whole)] == ["D100"]
    done(store, plan(seeds=(100,)))
    assert missing_runs(store, study_id, whole) == []


def test_what_ended_is_never_replaced(store: Store) -> None:
    study_id, whole = done(store, plan(seeds=(100,)))
    before = stored_run_ids(store, study_id, whole)
    writer = store.create_run(next(planned_runs(whole)).config)
    writer.close()  # as after a kill
    StudyTable(store).record_run(study_id, "D100", 100, writer.run_id)
    assert stored_run_ids(store, study_id, whole) == before


@pytest.mark.parametrize(
    "became",
    ["UPDATE runs SET exploratory = 1 WHERE run_id = ?", "INSERT INTO imports VALUES (?, 0)"],
)
def test_what_was_steered_or_imported_is_trained_anew(store: Store, became: str) -> None:
    study_id, whole = done(store, plan(seeds=(100,)))
    steered = stored_run_ids(store, study_id, whole)["D100", 100]
    store.execute_write(became, steered)
    assert [cell.variant for cell in missing_runs(store, study_id, whole)] == ["D100"]
    done(store, plan(seeds=(100,)))
    assert missing_runs(store, study_id, whole) == []
    assert stored_run_ids(store, study_id, whole)["D100", 100] != steered


@pytest.mark.parametrize("fault", [MemoryError("full"), OSError("gone")])
def test_what_the_machine_failed_is_held_against_no_arm(
    store: Store, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    def failing(config: RunConfig, *rest: Any) -> Any:
        raise fault

    monkeypatch.setattr("effcore.runs.run.train", failing)
    study, whole = open_study(store, plan(seeds=(100,)))
    with pytest.raises(StoreError, match="of the machine .* not because of D100: free memory"):
        list(run_study(store, study.study_id, whole, 1))
    assert len(missing_runs(store, study.study_id, whole)) == 4


def test_an_operation_that_nobody_accounts_for_is_no_broken_policy(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(config: RunConfig, *rest: Any) -> Any:
        raise UncountedOperationError("aten.fft has no formula")

    monkeypatch.setattr("effcore.runs.run.train", failing)
    study, whole = open_study(store, plan(seeds=(100,)))
    with pytest.raises(UncountedOperationError, match="no formula"):
        list(run_study(store, study.study_id, whole, 1))
    assert len(missing_runs(store, study.study_id, whole)) == 4
    assert store.runs() == []


def test_a_policy_that_is_given_up_broke_down_and_is_not_trained_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = {"settings": {**SHARED, "mass": 0.5, "epochs": 60}}

    def looked_at(snapshot: Snapshot) -> bool:
        return snapshot.config.selection == "confident-skip"

    monkeypatch.setattr("effcore.studies.executor.takes_too_many_steps", looked_at)
    monkeypatch.setattr("effcore.studies.executor._CANCEL_CHECK_S", 0.01)
    study_id, whole = done(store, plan(seeds=(100,), **long))
    assert missing_runs(store, study_id, whole) == [], "it would be given up again"
    found = load_completed_runs(store, study_id, whole)
    assert found.broken_seeds == {"confident-skip": (100,)}
    told = study_record(study_id, whole, found)
    assert told["verdict"] == {"confident-skip": "broke down"}
    assert "given up after 10 times the steps" in told["sentences"]["confident-skip"]


def test_runs_of_one_seed_from_two_machines_are_said(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_id, whole = done(store, plan(), cells_at_most=6)  # the first seed, and half the next
    monkeypatch.setattr(run_origin, "processor_fingerprint", lambda device: "another")
    done(store, plan())
    found = load_completed_runs(store, study_id, whole)
    assert found.mixed_seeds == (101,)
    told = study_record(study_id, whole, found)
    assert told["mixed_seeds"] == [101]
    assert "different machines or versions (seeds 101)" in told["exploratory"][-1]


def test_what_is_changed_before_any_result_is_no_mark_and_later_is_one(store: Store) -> None:
    study, _ = open_study(store, plan(seeds=(100,)))
    _, early = open_study(store, plan(seeds=(100, 101), margin=0.5))
    assert early.exploratory_reasons == []
    StudyTable(store).record_run(study.study_id, "D100", 100, "a run that was deleted since")
    _, late = open_study(store, plan(seeds=(100, 101, 102), margin=0.5))
    assert late.extended == (2,)


def test_two_processes_lose_no_seeds(store: Store) -> None:
    open_study(store, plan(seeds=(0, 1)))
    open_study(store, plan(seeds=(2, 3)))
    _, whole = open_study(store, plan(seeds=(4, 5)))
    assert whole.seeds == (0, 1, 2, 3, 4, 5)
    assert len(StudyTable(store).list_studies()) == 1


def test_one_process_carries_a_study_out(store: Store) -> None:
    study, whole = open_study(store, plan(seeds=(100,)))
    first = run_study(store, study.study_id, whole, 1)
    next(first)
    with pytest.raises(StoreError, match="in another process: wait for its end"):
        next(run_study(store, study.study_id, whole, 1))
    StudyTable(store).cancel(study.study_id)
    with pytest.raises(StoreError, match="in another process: wait for its end"):
        open_study(store, plan(seeds=(100, 101), margin=0.5))
    assert plan_from_json(StudyTable(store).list_studies()[0].plan) == whole, (
        "no mark for what was refused"
    )
    assert StudyTable(store).is_cancelled(study.study_id), "nor is its end called off"
    first.close()
    open_study(store, whole)
    assert [each.done for each in run_study(store, study.study_id, whole, 1)][-1] == 4


def test_a_worker_whose_process_is_gone_trains_nothing(store: Store) -> None:
    study, whole = open_study(store, plan(seeds=(100,)))
    nobody = 2**22 + 1  # no process has so large a number
    train_study_run(store.home, study.study_id, next(planned_runs(whole)), nobody)
    assert store.runs() == []


def test_the_command_of_a_plan_is_that_plan() -> None:
    whole = plan(seeds=(0, 1, 200), policies=["confident-skip", "auto+prefix-freeze"], margin=0.07)
    words = plan_to_command(whole).split()[4:]
    given = dict(zip((w.removeprefix("--").replace("-", "_") for w in words[::2]), words[1::2],
                     strict=True))  # fmt: skip
    seeds = [int(seed) for seed in given.pop("seed_list").split(",")]
    policies, budget = given.pop("policy").split(","), float(given.pop("budget"))
    again = plan_study(given, policies, budget, seeds, float(given.pop("margin")))
    assert [cell.config for cell in planned_runs(again)] == [
        cell.config for cell in planned_runs(whole)
    ]
    assert again.margin == whole.margin
    assert again.key == whole.key, "read from a command line, numbers are texts at first"


def test_the_command_compares_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFCORE_HOME", str(tmp_path / "home"))
    words = ["compare", "--task", "tiny", "--policy", "confident-skip", "--epochs", "2"]
    first = CliRunner().invoke(main, [*words, "--seeds", "1"])
    assert first.exit_code == 0, first.output
    assert "nothing can be compared" in first.stdout
    assert "needs at least 6 paired seeds; of 1 there will be none" in first.stderr
    second = CliRunner().invoke(main, [*words, "--seeds", "2", "--margin", "0.1"])
    assert second.exit_code == 0, second.output
    assert "4 of 8 runs" in second.stderr
    changed = "exploratory: The margin was changed after the study began: 2, then 10 points."
    assert changed in second.stdout
    assert "exploratory: Seeds were added after the results of 1" in second.stdout
    assert "Too few seeds for a verdict." in second.stdout
    told = json.loads(CliRunner().invoke(main, [*words, "--seeds", "2", "--json"]).stdout)
    assert {arm["name"] for arm in told["arms"]} == {*BASELINES, "confident-skip"}
    bad = CliRunner().invoke(main, [*words, "--budget", "2"])
    assert bad.exit_code == 2
    assert "budget=2 is not allowed" in bad.stderr
    listed = CliRunner().invoke(main, [*words, "--seed-list", "1,,2"])
    assert "seed-list='1,,2' is not allowed: give whole numbers" in listed.stderr
