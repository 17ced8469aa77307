"""What is raced: dense training and an efficient policy, alike in everything else."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

from effcore.config import ConfigError, dense_twin, resolve
from effcore.events import RunConfig, RunStatus, Snapshot
from effcore.impact.run_savings import policies_besides_dense

#: Share of the dense computation that the efficient run may spend.
BUDGET: Final = 0.6
#: How the photograph is learned with it, as README's own comparison does.
_PHOTO: Final = {"mass": 0.5, "revisit": 8}


class Race(NamedTuple):
    """Two configurations of the same task, model, length and seed."""

    dense: RunConfig
    efficient: RunConfig


class Stage(StrEnum):
    """How far a race has got; the first four are told one after the other."""

    QUESTION = "question"
    DENSE = "dense"
    EFFICIENT = "efficient"
    RESULT = "result"
    BROKEN = "broken"


def plan_race(asked: Mapping[str, Any]) -> Race:
    """Return the race to run.

    Args:
        asked: Settings as in the Live page's address; without any the photograph is learned.

    Raises:
        ConfigError: A setting that cannot be used, or a policy that leaves nothing out.
    """
    usual: dict[str, Any] = {"selection": "confident-skip", "budget": BUDGET}
    if not {"task", "selection"} & set(asked):
        usual |= _PHOTO
    efficient = resolve(usual | dict(asked))
    if not policies_besides_dense(efficient):
        raise ConfigError(
            "selection",
            "selection='dense' leaves nothing out: choose another policy to race against dense",
        )
    return Race(dense_twin(efficient), efficient)


def is_race(dense: RunConfig, efficient: RunConfig) -> bool:
    """Return whether two runs differ in policy and budget alone."""
    return dense != efficient and dense == dense_twin(efficient)


#: Share of the dense run for which the question stands, before it is told what runs.
_ASKING: Final = 0.25


def stage_of(dense: Snapshot, efficient: Snapshot) -> Stage:
    """Return how far the race has got, from nothing but its two runs."""
    for look in (dense, efficient):
        if look.status.final and look.status is not RunStatus.FINISHED:
            return Stage.BROKEN
    if efficient.status is RunStatus.FINISHED and dense.status is RunStatus.FINISHED:
        return Stage.RESULT
    if dense.status is RunStatus.FINISHED:
        return Stage.EFFICIENT
    return Stage.DENSE if dense.progress >= _ASKING else Stage.QUESTION
