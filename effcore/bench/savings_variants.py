"""The variants of a savings study, and the settings that each tries on the validation split.

Every policy tries the same number of settings of its knobs, together with the batch size and
learning rate that were best for same-budget training. The first setting is the default. Those
after the first ``MAX_TRIES`` are spare: :mod:`effcore.bench.tuning` takes one where another
setting trains exactly as one that was tried before. ``auto`` has no knobs.

Full and same-budget training try batch sizes and learning rates until the best lies between
others. So a baseline may get more tries than a policy, but never fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from effcore.config import incompatibility, resolve
from effcore.policies.combination import (
    DENSE_POLICIES,
    POLICY_REGISTRIES,
    PolicyCombination,
    registered_policies,
)
from effcore.policies.intensity.base import INTENSITIES
from effcore.records import RunConfig
from effcore.records.settings import Settings
from effcore.studies.verdict import DENSE_FULL, DENSE_MATCHED
from effcore.tasks.base import ModelChoice

#: Different settings that a policy may try.
MAX_TRIES = 4
#: Intensity policies that `auto` is stacked with where the model allows it, by stack.
_AUTO_STACKS = {f"auto+{growth}": growth for growth in ("resolution", "depth-growth")}


def _single_policy(name: str) -> PolicyCombination:
    """Return one policy, with full training's policies for the other kinds."""
    kind = next(kind for kind, registry in POLICY_REGISTRIES.items() if name in registry.ids())
    return DENSE_POLICIES._replace(**{kind: name})


class SavingsVariant(NamedTuple):
    """A variant of a savings study.

    Attributes:
        name: Its name in tables.
        policies: Its policies.
        tuning_grid: Knob values to try, the default first; empty for full and same-budget
            training, which try batch sizes and learning rates.
        budget: Share of full training's compute that it spends.
    """

    name: str
    policies: PolicyCombination
    tuning_grid: tuple[Settings, ...]
    budget: float

    @property
    def is_dense(self) -> bool:
        """Whether the variant is full or same-budget training."""
        return self.policies == DENSE_POLICIES

    @property
    def baseline_policies(self) -> PolicyCombination:
        """The policies without the tuned one: none, or ``auto`` alone for a stack."""
        stacked = self.name in _AUTO_STACKS
        return (
            self.policies._replace(intensity=DENSE_POLICIES.intensity)
            if stacked
            else DENSE_POLICIES
        )


def variants_for(task: str, choice: ModelChoice, size: str, budget: float) -> list[SavingsVariant]:
    """Return all variants that are possible with a model.

    Args:
        task: Id of the task.
        choice: The model.
        size: Its size.
        budget: Share of full training's compute for all variants but full training.
    """
    variants = [
        SavingsVariant(DENSE_FULL, DENSE_POLICIES, (), 1.0),
        SavingsVariant(DENSE_MATCHED, DENSE_POLICIES, (), budget),
    ]
    variants += [
        SavingsVariant(name, _single_policy(name), grid, budget)
        for name, grid in ((policy.id, policy.tuning_grid) for policy in registered_policies())
        if name not in DENSE_POLICIES
    ]
    variants += [
        SavingsVariant(
            name,
            PolicyCombination("auto", intensity=growth),
            INTENSITIES.get(growth).tuning_grid,
            budget,
        )
        for name, growth in _AUTO_STACKS.items()
    ]
    return [each for each in variants if incompatibility(each.policies, task, choice, size) is None]


@dataclass(frozen=True)
class SavingsStudy:
    """A savings study of one model.

    Attributes:
        task: Id of the task.
        model: Id of the model.
        budget: Share of full training's compute for all variants but full training.
        tries: Settings that each policy tries on validation, all of different effect; 1 takes the
            defaults.
        tuning_seeds: Seeds to try them on.
        seeds: Fresh seeds for the test.
        arms: Names of the variants besides full and same-budget training; empty for all.
        settings: Settings of all variants that differ from the task's defaults.
    """

    task: str
    model: str
    budget: float
    tries: int
    tuning_seeds: Sequence[int]
    seeds: Sequence[int]
    arms: Sequence[str]
    settings: Settings

    def run_config(
        self, policies: PolicyCombination, settings: Settings, budget: float, seed: int
    ) -> RunConfig:
        """Return a run of the study.

        Raises:
            ConfigError: A setting that is not allowed.
        """
        own = {**policies._asdict(), **settings, "budget": budget, "seed": seed}
        return resolve({**self.shared_settings, **own})

    @property
    def shared_settings(self) -> Settings:
        """The settings of all variants."""
        return {"task": self.task, "model": self.model, **self.settings, "threads": 1}
