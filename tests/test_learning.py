"""Each task's dense run, short where it would be long, against one that looks at no input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from joblib import Parallel, delayed

from effcore.config import resolve
from effcore.records import RunEnd
from effcore.records.settings import Settings
from effcore.tasks.base import TASKS, make_task
from effcore.training.trainer import train

#: By how much the test metric must be better than the trivial model's: most common class,
#: how common each character is, mean colour, mean target.
_SHIPPED = {
    "photo": 15.0,
    "digits": 0.85,
    "code": 1.5,
    "snippets": 0.5,
    "tabular": 0.5,
    "tabular-cancer": 0.4,
    "tabular-wine": 0.45,
    "tabular-digits": 0.8,
    "tabular-diabetes": 0.3,
}
#: A further task must be better at all.
MARGINS = {name: _SHIPPED.get(name, 1e-6) for name in TASKS.ids()}


def outcome(task_id: str) -> tuple[float, float]:
    """Return the test metric of a dense run, and the trivial model's."""
    short: Settings = {} if "-" in task_id else {"size": "small", "budget": 0.4}
    config = resolve(
        {"task": task_id, "selection": "dense", "device": "cpu", "threads": 1, **short}
    )
    *_, end = train(config)
    assert isinstance(end, RunEnd)
    assert end.metric is not None
    task = make_task(config)
    with torch.inference_mode():
        return end.metric, float(task.evaluate(task.trivial_model(), "test").metric)


@pytest.fixture(scope="module")
def outcomes() -> Mapping[str, tuple[float, float]]:
    found: Any = Parallel(n_jobs=2)(delayed(outcome)(name) for name in MARGINS)
    return dict(zip(MARGINS, found, strict=True))


def test_the_tasks_of_this_version_are_there() -> None:
    assert set(_SHIPPED) <= set(TASKS.ids())


@pytest.mark.slow
@pytest.mark.parametrize("task_id", MARGINS)
def test_a_dense_run_beats_the_trivial_model(
    task_id: str, outcomes: Mapping[str, tuple[float, float]]
) -> None:
    trained, trivial = outcomes[task_id]
    sign = 1 if TASKS.get(task_id).metric.higher_is_better else -1
    assert sign * (trained - trivial) >= MARGINS[task_id], (trained, trivial)
