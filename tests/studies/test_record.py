"""What is told of a study, of runs made of plain numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from effcore.studies.compare import Results, record
from effcore.studies.study import Plan, plan_study
from effcore.tiny import tiny_task
from tests.store.samples import END
from tests.studies.sweeps import SHARED, look

METRICS = {"D100": 0.9, "D-B": 0.7, "random": 0.6, "auto": 0.9}


@pytest.fixture(autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


def studied(planned: int, ended: int) -> tuple[Plan, Results]:
    """A study that wins, of which the last seeds are missing."""
    seeds = tuple(range(100, 100 + planned))
    runs = {
        arm: {
            seed: replace(look(metric), end=replace(END, metric=metric + seed % 3 / 1000))
            for seed in seeds[:ended]
        }
        for arm, metric in METRICS.items()
    }
    left = len(METRICS) * (planned - ended)
    return plan_study(SHARED, ["auto"], 0.6, seeds), Results(runs, seeds[:ended], {}, left)


def test_a_verdict_before_the_last_planned_run_is_exploratory() -> None:
    told = record("x", *studied(6, 6))
    assert (told["verdict"], told["exploratory"]) == ({"auto": "win"}, [])
    early = record("x", *studied(20, 6))
    assert early["verdict"] == {"auto": "win"}
    assert early["runs_left"] == 56
    (why,) = early["exploratory"]
    assert "not over: 56 of 80 planned runs are missing" in why
    assert record("x", *studied(20, 5))["exploratory"] == [], "of too few seeds nothing is told"
