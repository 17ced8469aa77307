from __future__ import annotations

from dataclasses import replace

import pytest

from effcore.config import ConfigError
from effcore.insight.race_recording import RaceStage, is_race_pair, plan_race, race_stage
from effcore.records import RunStatus
from tests.insight.races import race, training, waiting


def test_the_usual_race_is_that_of_readme() -> None:
    dense, efficient = plan_race({})
    assert (efficient.task, efficient.selection, efficient.budget) == (
        "photo", "confident-skip", 0.6,
    )  # fmt: skip
    assert (efficient.knobs["mass"], efficient.knobs["revisit"]) == (0.5, 8)
    assert (dense.selection, dense.budget, dense.seed) == ("dense", None, efficient.seed)
    assert is_race_pair(dense, efficient)
    assert not is_race_pair(dense, dense)
    assert not is_race_pair(replace(dense, seed=7), efficient)


def test_another_race_is_asked_for_as_a_run_is() -> None:
    _, efficient = plan_race({"task": "digits", "model": "mlp", "epochs": "1", "budget": "0.5"})
    assert (efficient.task, efficient.epochs, efficient.budget) == ("digits", 1, 0.5)
    assert efficient.knobs["mass"] == 0.35
    with pytest.raises(ConfigError, match="did you mean 'digits'"):
        plan_race({"task": "digit"})


def test_what_leaves_nothing_out_is_no_race() -> None:
    with pytest.raises(ConfigError, match="choose another policy") as refused:
        plan_race({"task": "digits", "selection": "dense", "budget": None})
    assert refused.value.field == "selection"


def test_the_stages_follow_from_the_runs_alone() -> None:
    dense, efficient = race()
    wait = waiting(efficient)
    assert race_stage(waiting(dense), wait) is RaceStage.QUESTION
    assert race_stage(training(dense, 0.2), wait) is RaceStage.QUESTION
    assert race_stage(training(dense, 0.3), wait) is RaceStage.DENSE
    assert race_stage(dense, wait) is RaceStage.EFFICIENT
    assert race_stage(dense, training(efficient, 0.9)) is RaceStage.EFFICIENT
    assert race_stage(dense, efficient) is RaceStage.RESULT
    for status in (RunStatus.STOPPED, RunStatus.FAILED, RunStatus.INTERRUPTED):
        assert race_stage(replace(dense, status=status), wait) is RaceStage.BROKEN
        assert race_stage(dense, replace(efficient, status=status)) is RaceStage.BROKEN
