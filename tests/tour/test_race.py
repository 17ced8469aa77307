from __future__ import annotations

from dataclasses import replace

import pytest

from effcore.config import ConfigError
from effcore.events import RunStatus
from effcore.tour.race import Stage, is_race, plan_race, stage_of
from tests.tour.races import race, training, waiting


def test_the_usual_race_is_that_of_readme() -> None:
    dense, efficient = plan_race({})
    assert (efficient.task, efficient.selection, efficient.budget) == (
        "photo", "confident-skip", 0.6,
    )  # fmt: skip
    assert (efficient.knobs["mass"], efficient.knobs["revisit"]) == (0.5, 8)
    assert (dense.selection, dense.budget, dense.seed) == ("dense", None, efficient.seed)
    assert is_race(dense, efficient)
    assert not is_race(dense, dense)
    assert not is_race(replace(dense, seed=7), efficient)


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
    assert stage_of(waiting(dense), wait) is Stage.QUESTION
    assert stage_of(training(dense, 0.2), wait) is Stage.QUESTION
    assert stage_of(training(dense, 0.3), wait) is Stage.DENSE
    assert stage_of(dense, wait) is Stage.EFFICIENT
    assert stage_of(dense, training(efficient, 0.9)) is Stage.EFFICIENT
    assert stage_of(dense, efficient) is Stage.RESULT
    for status in (RunStatus.STOPPED, RunStatus.FAILED, RunStatus.INTERRUPTED):
        assert stage_of(replace(dense, status=status), wait) is Stage.BROKEN
        assert stage_of(dense, replace(efficient, status=status)) is Stage.BROKEN
