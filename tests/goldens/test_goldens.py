"""Short runs over tasks, models and policies end as they were recorded."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.goldens.runs import (
    EXACT,
    GOLDENS,
    TOLERANCES,
    Here,
    compared,
    conditions,
    measured,
    texts,
)

RECORDED: dict[str, Any] = json.loads(GOLDENS.read_text(encoding="utf-8"))
RUNS: dict[str, dict[str, Any]] = RECORDED["runs"]
NAMES = sorted(RUNS)


@cache
def here(task: str) -> Here:
    """Which of the recorded conditions hold here for a task."""
    text = texts().get(task)
    return Here(conditions() == RECORDED["recorded_on"], text == RECORDED["texts"].get(task))


@pytest.mark.usefixtures("few_looks")  # evaluations change no run, and take most of its time
@pytest.mark.parametrize("name", NAMES)
def test_a_run_ends_as_recorded(
    name: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    golden = RUNS[name]
    found = measured(golden, tmp_path)
    by, differences = compared(golden, found, here(golden["config"]["task"]))
    record_property("compared_by", by)
    print(f"{name}: compared by {by}")  # noqa: T201 - pytest -rA shows it
    assert not differences, f"{name}, compared by {by}: " + "; ".join(differences)


def test_the_runs_cover_tasks_models_policies_and_ways_to_train() -> None:
    configs = [golden["config"] for golden in RUNS.values()]
    assert len(RUNS) >= 20
    assert len({(config["task"], config["model"]) for config in configs}) >= 18
    assert len({config["selection"] for config in configs}) >= 11
    assert len({config["update"] for config in configs}) >= 4
    assert len({config["intensity"] for config in configs}) >= 4
    assert {config["size"] for config in configs} == {"small", "medium", "large"}
    assert sum(bool(config["changes"]) for config in configs) >= 5, "steered"
    assert sum("interrupted" in golden for golden in RUNS.values()) >= 5, "resumed"
    assert sum(config["budget"] == 0.6 for config in configs) >= 5, "budgeted"


# The comparison itself -------------------------------------------------------------------

SAME, ELSEWHERE = Here(True), Here(False)
NAME = "wine-defaults-budget"


def changed(**values: Any) -> dict[str, Any]:
    return copy.deepcopy(RUNS[NAME]) | values


def test_an_equal_run_is_equal_everywhere() -> None:
    assert compared(RUNS[NAME], changed(), SAME) == ("parameters_sha256, to the bit", [])
    by, differences = compared(RUNS[NAME], changed(), ELSEWHERE)
    assert (by, differences) == (f"accuracy within {TOLERANCES['accuracy']}", [])


@pytest.mark.parametrize("where", [SAME, ELSEWHERE, Here(False, False)])
@pytest.mark.parametrize("name", EXACT)
def test_flops_are_compared_exactly_everywhere(name: str, where: Here) -> None:
    found = changed(**{name: RUNS[NAME][name] * (1 + 1e-15)})
    assert found[name] != RUNS[NAME][name]
    (difference,) = compared(RUNS[NAME], found, where).differences
    assert difference.startswith(f"{name} is ")


@pytest.mark.parametrize("where", [SAME, ELSEWHERE])
def test_the_configuration_is_compared_exactly_everywhere(where: Here) -> None:
    found = changed()
    found["config"]["knobs"]["mass"] += 1e-12
    assert len(compared(RUNS[NAME], found, where).differences) == 1
    found = changed()
    del found["config"]["seed"]
    assert compared(RUNS[NAME], found, where).differences == [
        "config.seed is 'missing', recorded 0"
    ]
    found = changed()
    found["config"]["joined later"] = 1
    assert not compared(RUNS[NAME], found, where).differences


def test_parameters_are_compared_where_the_conditions_are_the_recorded_ones() -> None:
    found = changed(parameters_sha256="0" * 64)
    assert len(compared(RUNS[NAME], found, SAME).differences) == 1
    assert not compared(RUNS[NAME], found, ELSEWHERE).differences


def test_elsewhere_the_metric_lies_within_the_tolerance() -> None:
    metric, limit = RUNS[NAME]["metric"], TOLERANCES["accuracy"]
    for value in (metric + 0.99 * limit, metric - 0.99 * limit):
        assert not compared(RUNS[NAME], changed(metric=value), ELSEWHERE).differences
        assert compared(RUNS[NAME], changed(metric=value), SAME).differences
    for value in (metric + 1.01 * limit, metric - 1.01 * limit, float("nan")):
        assert compared(RUNS[NAME], changed(metric=value), ELSEWHERE).differences
