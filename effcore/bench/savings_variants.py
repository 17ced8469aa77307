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
from effcore.policies.combination import DENSE_POLICIES, POLICY_REGISTRIES, PolicyCombination
from effcore.records import RunConfig
from effcore.records.settings import Settings
from effcore.studies.verdict import DENSE_FULL, DENSE_MATCHED
from effcore.tasks.base import ModelChoice

#: Different settings that a policy may try.
MAX_TRIES = 4
_GROWTH_GRID: tuple[Settings, ...] = (
    {},
    {"first_size": 0.5, "full_size_after": 0.3},
    {"first_size": 0.75, "full_size_after": 0.5},
    {"first_size": 0.5, "full_size_after": 0.8},
    {"first_size": 0.5, "full_size_after": 0.65},
    {"first_size": 0.25, "full_size_after": 0.4},
)
_PROPORTIONAL_GRID: tuple[Settings, ...] = (
    {},
    {"correction": 0.5},
    {"skip_fraction": 0.5},
    {"uniform_share": 0.1, "dense_end": 0.125},
)
#: Knob values that each policy tries, by its id.
TUNING_GRIDS: dict[str, tuple[Settings, ...]] = {
    "random": ({}, {"skip_fraction": 0.2}, {"skip_fraction": 0.6}, {"skip_fraction": 0.8}),
    "auto": ({},),
    "confident-skip": (
        {},
        {"mass": 0.2, "revisit": 4},
        {"mass": 0.35, "revisit": 4},
        {"mass": 0.5, "revisit": 8},
    ),
    "infobatch": (
        {},
        {"drop_probability": 0.7},
        {"mean_multiple": 1.5},
        {"drop_probability": 0.7, "correction": 0.0},
    ),
    "stale-pps": _PROPORTIONAL_GRID,
    "el2n-pps": _PROPORTIONAL_GRID,
    "selective-backprop": ({}, {"beta": 1.0}, {"beta": 3.0}, {"beta": 5.0}),
    "rho-loss": ({}, {"chosen_share": 0.1}, {"chosen_share": 0.2}, {"chosen_share": 0.5}),
    "kakurenbo": (
        {},
        {"hidden_share": 0.3},
        {"hidden_share": 0.6},
        {"hidden_share": 0.4, "confidence": 0.9},
        {"hidden_share": 0.2},
        {"hidden_share": 0.5},
    ),
    "mastered": (
        {},
        {"second_difference": 1e-4},
        {"second_difference": 1e-2},
        {"second_difference": 1e-2, "rest": 8},
        {"second_difference": 0.1},
        {"second_difference": 0.1, "rest": 8},
    ),
    "prefix-freeze": (
        {},
        {"frozen_share": 0.3, "freeze_after": 0.5},
        {"frozen_share": 0.5, "freeze_after": 0.8},
        {"frozen_share": 0.7, "freeze_after": 0.7},
        {"frozen_share": 0.5, "freeze_after": 0.65},
        {"frozen_share": 0.7, "freeze_after": 0.85},
    ),
    "drop-backward": (
        {},
        {"drop_share": 0.25},
        {"drop_share": 0.75},
        {"drop_share": 1.0},
        {"drop_share": 0.1},
        {"drop_share": 0.4},
    ),
    "skip-step": ({}, {"step_share": 0.15}, {"step_share": 0.4}, {"step_share": 0.6}),
    "resolution": _GROWTH_GRID,
    "sequence-growth": _GROWTH_GRID,
    "depth-growth": _GROWTH_GRID,
}
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
        """Whether it trains without policies, and chooses its batch size and learning rate."""
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
        SavingsVariant(name, _single_policy(name), tries, budget)
        for name, tries in TUNING_GRIDS.items()
    ]
    variants += [
        SavingsVariant(
            name, PolicyCombination("auto", intensity=growth), TUNING_GRIDS[growth], budget
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
