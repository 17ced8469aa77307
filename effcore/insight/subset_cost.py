"""Cost of training on a share of the examples, for three treatments of the others.

The unit is a forward pass over all examples. A backward pass costs two, because each matrix
product of the forward pass needs two in the backward pass, for the weights and for the inputs.
"""

from __future__ import annotations

from typing import Final, NamedTuple

FORWARD_COST: Final = 1.0
BACKWARD_COST: Final = 2.0
DENSE_COST: Final = FORWARD_COST + BACKWARD_COST


class SubsetCost(NamedTuple):
    """Cost of one method to train on a share of the examples, in forward passes over all examples.

    Attributes:
        name: How the other examples are treated.
        policy: A policy that uses this method.
        scoring: Cost of forward passes used only for scoring.
        forward: Cost of forward passes of training.
        backward: Cost of backward passes.
    """

    name: str
    policy: str
    scoring: float
    forward: float
    backward: float

    @property
    def total(self) -> float:
        """Total cost."""
        return self.scoring + self.forward + self.backward

    @property
    def saved_frac(self) -> float:
        """Share of full training's cost that is saved; below 0 if it costs more."""
        return 1.0 - self.total / DENSE_COST


def subset_costs(trained_frac: float) -> tuple[SubsetCost, SubsetCost, SubsetCost]:
    """Return the costs of the three methods, cheapest first.

    Args:
        trained_frac: Share of the examples that is trained on, 0 to 1.
    """
    trained = (FORWARD_COST * trained_frac, BACKWARD_COST * trained_frac)
    return (
        SubsetCost("Never load the others", "random", 0.0, *trained),
        SubsetCost(
            "Score the others afterwards",
            "kakurenbo",
            FORWARD_COST * (1.0 - trained_frac),
            *trained,
        ),
        SubsetCost("Score all of them first", "selective-backprop", FORWARD_COST, *trained),
    )


def trainable_frac(saved_frac: float) -> float:
    """Return the share of examples to train on that saves ``saved_frac`` if all are scored first.

    Args:
        saved_frac: Share of full training's cost, at most :func:`max_saving_when_scored`.
    """
    return 1.0 - saved_frac - FORWARD_COST / DENSE_COST


def max_saving_when_scored() -> float:
    """Return the largest possible saving if all examples are scored first and none trained on."""
    return subset_costs(0.0)[-1].saved_frac
