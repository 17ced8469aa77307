"""What training on a share of the examples costs, by how the rest is treated.

The unit is the forward pass of all examples; a backward pass costs two, since each matrix
product going forward is followed by two, for the weights and for the inputs.
"""

from __future__ import annotations

from typing import Final, NamedTuple

FORWARD: Final = 1.0
BACKWARD: Final = 2.0
DENSE: Final = FORWARD + BACKWARD


class Way(NamedTuple):
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
    def cost(self) -> float:
        """All of it."""
        return self.scoring + self.forward + self.backward

    @property
    def saved(self) -> float:
        """Share of dense training's cost that is saved; below 0 where it costs more."""
        return 1.0 - self.cost / DENSE


def ways(share: float) -> tuple[Way, Way, Way]:
    """Return the three ways, the cheapest first.

    Args:
        share: Of the examples that is trained on, 0 to 1.
    """
    trained = (FORWARD * share, BACKWARD * share)
    return (
        Way("Never load the others", "random", 0.0, *trained),
        Way("Look at the others afterwards", "kakurenbo", FORWARD * (1.0 - share), *trained),
        Way("Score all of them first", "selective-backprop", FORWARD, *trained),
    )


def share_for(saved: float) -> float:
    """Return which share may be trained on, all being scored first, to save so much.

    Args:
        saved: Share of dense training's cost, :func:`ceiling` at most.
    """
    return 1.0 - saved - FORWARD / DENSE


def ceiling() -> float:
    """Return what is saved at most where all are scored first: then nothing is trained on."""
    return ways(0.0)[-1].saved
