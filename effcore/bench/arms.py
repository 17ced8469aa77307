"""The arms of a savings study, and what each may try on the validation split.

Every arm has the same number of settings to try, but for `auto`, which has no knobs: the dense
ones a batch size and a learning rate, the others knobs, on top of the batch size and rate
that were best for dense training at the same budget. The first of each is its default.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from effcore.policies import DENSE, KINDS, Policies, misfit
from effcore.tasks.base import ModelChoice

Settings = dict[str, Any]
#: The arms that others are compared with.
FULL_DENSE, MATCHED_DENSE, RANDOM = "D100", "D-B", "random"
#: Factors on the default batch size and learning rate that the dense arms try.
DENSE_FACTORS = ((1.0, 1.0), (1.0, 0.5), (1.0, 2.0), (0.5, 0.7))
_GROWTH: tuple[Settings, ...] = (
    {},
    {"first_size": 0.5, "full_size_after": 0.3},
    {"first_size": 0.75, "full_size_after": 0.5},
    {"first_size": 0.5, "full_size_after": 0.8},
)
_PROPORTIONAL: tuple[Settings, ...] = (
    {},
    {"correction": 0.5},
    {"skip_fraction": 0.5},
    {"uniform_share": 0.1, "dense_end": 0.125},
)
#: Knobs that an arm tries, by the id of the policy that it is about.
KNOBS: dict[str, tuple[Settings, ...]] = {
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
    "stale-pps": _PROPORTIONAL,
    "el2n-pps": _PROPORTIONAL,
    "selective-backprop": ({}, {"beta": 1.0}, {"beta": 3.0}, {"beta": 5.0}),
    "rho-loss": ({}, {"chosen_share": 0.1}, {"chosen_share": 0.2}, {"chosen_share": 0.5}),
    "kakurenbo": (
        {},
        {"hidden_share": 0.3},
        {"hidden_share": 0.6},
        {"hidden_share": 0.4, "confidence": 0.9},
    ),
    "mastered": (
        {},
        {"second_difference": 1e-4},
        {"second_difference": 1e-2},
        {"second_difference": 1e-2, "rest": 8},
    ),
    "prefix-freeze": (
        {},
        {"frozen_share": 0.3, "freeze_after": 0.5},
        {"frozen_share": 0.5, "freeze_after": 0.8},
        {"frozen_share": 0.7, "freeze_after": 0.7},
    ),
    "drop-backward": ({}, {"drop_share": 0.25}, {"drop_share": 0.75}, {"drop_share": 1.0}),
    "skip-step": ({}, {"step_share": 0.15}, {"step_share": 0.4}, {"step_share": 0.6}),
    "resolution": _GROWTH,
    "sequence-growth": _GROWTH,
    "depth-growth": _GROWTH,
}
#: Growths that `auto` is stacked with where the model allows it; a stack tries what they try.
_STACKS = ("resolution", "depth-growth")


def _alone(name: str) -> Policies:
    """Return a policy beside the plain ones of the other kinds."""
    kind = next(kind for kind, registry in KINDS.items() if name in registry.ids())
    return DENSE._replace(**{kind: name})


class Arm(NamedTuple):
    """One side of a comparison.

    Attributes:
        name: What the table calls it.
        policies: How it trains.
        tries: Settings that it may try, the default first.
        budget: Share of the dense compute that it spends.
    """

    name: str
    policies: Policies
    tries: tuple[Settings, ...]
    budget: float

    @property
    def dense(self) -> bool:
        """Whether batch size and learning rate are its own to choose."""
        return self.policies == DENSE


def arms_for(task: str, choice: ModelChoice, size: str, budget: float) -> list[Arm]:
    """Return every arm that goes with a model.

    Args:
        task: Id of the task.
        choice: The model.
        size: Its size.
        budget: Share of the dense compute for all arms but the first.
    """
    batch, rate = choice.defaults.batch_size, choice.defaults.learning_rate
    tries = tuple(
        {"batch_size": max(1, round(batch * b)), "learning_rate": rate * r}
        for b, r in DENSE_FACTORS
    )
    arms = [Arm(FULL_DENSE, DENSE, tries, 1.0), Arm(MATCHED_DENSE, DENSE, tries, budget)]
    arms += [Arm(name, _alone(name), tries, budget) for name, tries in KNOBS.items()]
    arms += [
        Arm(f"auto+{growth}", Policies("auto", intensity=growth), KNOBS[growth], budget)
        for growth in _STACKS
    ]
    return [arm for arm in arms if misfit(arm.policies, task, choice, size) is None]
