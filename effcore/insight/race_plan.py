"""What is raced: dense training and an efficient policy, alike in everything else."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from effcore.config import ConfigError, dense_reference, resolve
from effcore.impact.reference_comparison import policies_besides_dense
from effcore.records import RunConfig, RunStatus, Snapshot
from effcore.records.settings import Settings, SettingValue

#: Share of the dense computation that the efficient run may spend.
RACE_BUDGET: Final = 0.6
#: How the photograph is learned with it, as README's own comparison does.
_PHOTO_KNOBS: Final = {"mass": 0.5, "revisit": 8}


class RacePlan(NamedTuple):
    """Two configurations of the same task, model, length and seed."""

    dense: RunConfig
    efficient: RunConfig


class RaceStage(StrEnum):
    """How far a race has got; the first four are told one after the other."""

    QUESTION = "question"
    DENSE = "dense"
    EFFICIENT = "efficient"
    RESULT = "result"
    BROKEN = "broken"


def plan_race(settings: Settings) -> RacePlan:
    """Return the race to run.

    Args:
        settings: Settings as in the Live page's address; without any the photograph is learned.

    Raises:
        ConfigError: A setting that cannot be used, or a policy that leaves nothing out.
    """
    usual: dict[str, SettingValue] = {"selection": "confident-skip", "budget": RACE_BUDGET}
    if not {"task", "selection"} & set(settings):
        usual |= _PHOTO_KNOBS
    efficient = resolve(usual | dict(settings))
    if not policies_besides_dense(efficient):
        raise ConfigError(
            "selection",
            "selection='dense' leaves nothing out: choose another policy to race against dense",
        )
    return RacePlan(dense_reference(efficient), efficient)


def is_race_pair(dense: RunConfig, efficient: RunConfig) -> bool:
    """Return whether two runs differ in policy and budget alone."""
    return dense != efficient and dense == dense_reference(efficient)


#: Share of the dense run for which the question stands, before it is told what runs.
_QUESTION_FRAC: Final = 0.25


def race_stage(dense: Snapshot, efficient: Snapshot) -> RaceStage:
    """Return how far the race has got, from nothing but its two runs."""
    for look in (dense, efficient):
        if look.status.is_final and look.status is not RunStatus.FINISHED:
            return RaceStage.BROKEN
    if efficient.status is RunStatus.FINISHED and dense.status is RunStatus.FINISHED:
        return RaceStage.RESULT
    if dense.status is RunStatus.FINISHED:
        return RaceStage.EFFICIENT
    return RaceStage.DENSE if dense.progress >= _QUESTION_FRAC else RaceStage.QUESTION
