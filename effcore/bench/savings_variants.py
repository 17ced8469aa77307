"""The arms of a savings study, and what each may try on the validation split.

Every policy has the same number of settings to try, but for `auto`, which has no knobs: values
of its knobs, on top of the batch size and learning rate that were best for dense training at the
same budget. The first is its default; those after the first ``MAX_TRIES`` are spare, for
:mod:`effcore.bench.tuning` to take where one of the others turns out to train as another does.
The dense arms try batch sizes and rates, and go on past these until the best lies between others:
the baseline may get more tries than what is compared with it, never fewer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from effcore.config import incompatibility, resolve
from effcore.policies.combination import DENSE_POLICIES, POLICY_REGISTRIES, PolicyCombination
from effcore.records import RunConfig
from effcore.tasks.base import ModelChoice

Settings = dict[str, Any]
#: The arms that others are compared with.
DENSE_FULL, DENSE_MATCHED, RANDOM_SKIPPING = "D100", "D-B", "random"
#: Settings that differ that an arm may try.
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
#: Knobs that an arm tries, by the id of the policy that it is about.
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
#: Growths that `auto` is stacked with where the model allows it; a stack tries what they try.
_AUTO_STACKS = {f"auto+{growth}": growth for growth in ("resolution", "depth-growth")}


def _single_policy(name: str) -> PolicyCombination:
    """Return a policy beside the plain ones of the other kinds."""
    kind = next(kind for kind, registry in POLICY_REGISTRIES.items() if name in registry.ids())
    return DENSE_POLICIES._replace(**{kind: name})


class SavingsVariant(NamedTuple):
    """One side of a comparison.

    Attributes:
        name: What the table calls it.
        policies: How it trains.
        tuning_grid: Settings that it may try, the default first; none for a dense arm, which
            chooses its batch size and learning rate.
        budget: Share of the dense compute that it spends.
    """

    name: str
    policies: PolicyCombination
    tuning_grid: tuple[Settings, ...]
    budget: float

    @property
    def is_dense(self) -> bool:
        """Whether batch size and learning rate are its own to choose."""
        return self.policies == DENSE_POLICIES

    @property
    def baseline_policies(self) -> PolicyCombination:
        """What a setting that does nothing comes to: dense, or a stack without its growth."""
        stacked = self.name in _AUTO_STACKS
        return (
            self.policies._replace(intensity=DENSE_POLICIES.intensity)
            if stacked
            else DENSE_POLICIES
        )


def variants_for(task: str, choice: ModelChoice, size: str, budget: float) -> list[SavingsVariant]:
    """Return every arm that goes with a model.

    Args:
        task: Id of the task.
        choice: The model.
        size: Its size.
        budget: Share of the dense compute for all arms but the first.
    """
    arms = [
        SavingsVariant(DENSE_FULL, DENSE_POLICIES, (), 1.0),
        SavingsVariant(DENSE_MATCHED, DENSE_POLICIES, (), budget),
    ]
    arms += [
        SavingsVariant(name, _single_policy(name), tries, budget)
        for name, tries in TUNING_GRIDS.items()
    ]
    arms += [
        SavingsVariant(
            name, PolicyCombination("auto", intensity=growth), TUNING_GRIDS[growth], budget
        )
        for name, growth in _AUTO_STACKS.items()
    ]
    return [arm for arm in arms if incompatibility(arm.policies, task, choice, size) is None]


@dataclass(frozen=True)
class SavingsStudy:
    """What is compared, and how.

    Attributes:
        task: Id of the task.
        model: Id of its model.
        budget: Share of the dense compute for all arms but D100.
        tries: Settings that each arm may try on validation, all different in what they do; 1
            takes the defaults.
        tuning_seeds: Seeds to try them on.
        seeds: Fresh seeds for the test.
        arms: Names of the arms besides the dense ones; empty for all.
        settings: What differs from the task's defaults, for all arms.
    """

    task: str
    model: str
    budget: float
    tries: int
    tuning_seeds: Sequence[int]
    seeds: Sequence[int]
    arms: Sequence[str]
    settings: Mapping[str, Any]

    def run_config(
        self, policies: PolicyCombination, settings: Settings, budget: float, seed: int
    ) -> RunConfig:
        """Return a run of the study.

        Raises:
            ConfigError: A setting that cannot be used.
        """
        base = {"task": self.task, "model": self.model, **self.settings, "threads": 1}
        own = {**policies._asdict(), **settings, "budget": budget, "seed": seed}
        return resolve({**base, **own})
