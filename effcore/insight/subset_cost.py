"""What training on a share of the examples costs, by how the rest is treated.

The unit is the forward pass of all examples; a backward pass costs two, since each matrix
product going forward is followed by two, for the weights and for the inputs.
"""

from __future__ import annotations

from typing import Final, NamedTuple

FORWARD_COST: Final = 1.0
BACKWARD_COST: Final = 2.0
DENSE_COST: Final = FORWARD_COST + BACKWARD_COST


class SubsetCost(NamedTuple):
    """One way to train on a share of the examples.

    Attributes:
        name: What happens to the others.
        policy: One that works so.
        scoring: Forward passes that only look.
        forward: Forward passes that are trained on.
        backward: Backward passes.
    """

    name: str
    policy: str
    scoring: float
    forward: float
    backward: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.scoring + self.forward + self.backward

    @property
    def saved_frac(self) -> float:
        """Share of dense training's cost that is saved; below 0 where it costs more."""
        return 1.0 - self.total / DENSE_COST


def subset_costs(trained_frac: float) -> tuple[SubsetCost, SubsetCost, SubsetCost]:
    """Return the three ways, the cheapest first.

    Args:
        trained_frac: Of the examples that is trained on, 0 to 1.
    """
    trained = (FORWARD_COST * trained_frac, BACKWARD_COST * trained_frac)
    return (
        SubsetCost("Never load the others", "random", 0.0, *trained),
        SubsetCost(
            "Look at the others afterwards",
            "kakurenbo",
            FORWARD_COST * (1.0 - trained_frac),
            *trained,
        ),
        SubsetCost("Score all of them first", "selective-backprop", FORWARD_COST, *trained),
    )


def trainable_frac(saved_frac: float) -> float:
    """Return which share may be trained on, all being scored first, to save so much.

    Args:
        saved_frac: Share of dense training's cost, :func:`max_saving_when_scored` at most.
    """
    return 1.0 - saved_frac - FORWARD_COST / DENSE_COST


def max_saving_when_scored() -> float:
    """Return what is saved at most where all are scored first: then nothing is trained on."""
    return subset_costs(0.0)[-1].saved_frac
