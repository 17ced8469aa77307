"""The three policies of a run: who is trained on, how parameters change, how closely to look."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import torch

from effcore.events import RunConfig
from effcore.intensity.base import INTENSITIES
from effcore.knobs import KnobSpec, knobs_of
from effcore.plan import Anatomy, anatomy_of
from effcore.registry import Registry
from effcore.selection.base import SELECTIONS
from effcore.selection.scoring import ScoringPolicy
from effcore.tasks.base import TASKS, ModelChoice
from effcore.update.base import UPDATES

DEFAULT_SELECTION = "confident-skip"
DEFAULT_UPDATE = "every-step"
DEFAULT_INTENSITY = "full"
#: Where the policies of each kind are registered, by the name of the configuration's field.
KINDS: dict[str, Registry[Any]] = {
    "selection": SELECTIONS,
    "update": UPDATES,
    "intensity": INTENSITIES,
}


class Policies(NamedTuple):
    """The ids of a run's policies."""

    selection: str = DEFAULT_SELECTION
    update: str = DEFAULT_UPDATE
    intensity: str = DEFAULT_INTENSITY

    def classes(self) -> tuple[type[Any], ...]:
        """Return the classes they stand for."""
        return tuple(KINDS[kind].get(name) for kind, name in self._asdict().items())


DENSE = Policies("dense")


def policies_of(config: RunConfig) -> Policies:
    """Return the policies that a run is configured with."""
    return Policies(config.selection, config.update, config.intensity)


def every_policy() -> Iterator[type[Any]]:
    """Yield all that is registered, of every kind."""
    for registry in KINDS.values():
        yield from registry


def run_knobs(policies: Policies) -> tuple[KnobSpec, ...]:
    """Return the knobs that a run with these policies has."""
    return tuple(spec for policy in policies.classes() for spec in knobs_of(policy))


class Misfit(NamedTuple):
    """A policy that a model cannot be trained with: its kind, and why."""

    kind: str
    problem: str


def misfit(policies: Policies, task: str, choice: ModelChoice, size: str) -> Misfit | None:
    """Return the first policy that does not go with a model, if there is one."""
    made_of = anatomy(task, choice.id, size)
    update, intensity = UPDATES.get(policies.update), INTENSITIES.get(policies.intensity)
    selection = SELECTIONS.get(policies.selection)
    if update.skips_batches and issubclass(selection, ScoringPolicy):
        return Misfit("update", f"{selection.id} makes up its batches step by step")
    if problem := update.problem(made_of):
        return Misfit("update", problem)
    if problem := intensity.problem(made_of, choice.reducible):
        return Misfit("intensity", problem)
    return None


@cache
def anatomy(task: str, model: str, size: str) -> Anatomy:
    """Return what a task's model is made of, without making its parameters."""
    with torch.device("meta"):  # no numbers, and none drawn from anybody's generator
        return anatomy_of(TASKS.get(task).model_choice(model).build(size))
