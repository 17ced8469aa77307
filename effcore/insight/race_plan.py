"""Plan and stage of a race between full training and an efficient policy, otherwise identical."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from effcore.config import ConfigError, dense_reference, resolve
from effcore.impact.reference_comparison import policies_besides_dense
from effcore.records import RunConfig, RunStatus, Snapshot
from effcore.records.settings import Settings, SettingValue

#: Share of full training's computation that the efficient run may spend.
RACE_BUDGET: Final = 0.6
#: Knob values for the photograph, as in the README's comparison.
_PHOTO_KNOBS: Final = {"mass": 0.5, "revisit": 8}


class RacePlan(NamedTuple):
    """Two configurations of the same task, model, length and seed."""

    dense: RunConfig
    efficient: RunConfig


class RaceStage(StrEnum):
    """Stage of a race; the first four follow one another."""

    QUESTION = "question"
    DENSE = "dense"
    EFFICIENT = "efficient"
    RESULT = "result"
    BROKEN = "broken"


def plan_race(settings: Settings) -> RacePlan:
    """Return the race to run.

    Args:
        settings: Settings as in the Live page's address; by default the race is on the photograph.

    Raises:
        ConfigError: A setting is invalid, or the policy is dense.
    """
    defaults: dict[str, SettingValue] = {"selection": "confident-skip", "budget": RACE_BUDGET}
    if not {"task", "selection"} & set(settings):
        defaults |= _PHOTO_KNOBS
    efficient = resolve(defaults | dict(settings))
    if not policies_besides_dense(efficient):
        raise ConfigError(
            "selection",
            "selection='dense' skips nothing: choose another policy to race against full training",
        )
    return RacePlan(dense_reference(efficient), efficient)


def is_race_pair(dense: RunConfig, efficient: RunConfig) -> bool:
    """Return whether two runs differ only in policy and budget."""
    return dense != efficient and dense == dense_reference(efficient)


#: Progress of full training up to which the first stage, the question, is shown.
_QUESTION_FRAC: Final = 0.25


def race_stage(dense: Snapshot, efficient: Snapshot) -> RaceStage:
    """Return the stage of a race from its two runs."""
    for snapshot in (dense, efficient):
        if snapshot.status.is_final and snapshot.status is not RunStatus.FINISHED:
            return RaceStage.BROKEN
    if efficient.status is RunStatus.FINISHED and dense.status is RunStatus.FINISHED:
        return RaceStage.RESULT
    if dense.status is RunStatus.FINISHED:
        return RaceStage.EFFICIENT
    return RaceStage.DENSE if dense.progress >= _QUESTION_FRAC else RaceStage.QUESTION
