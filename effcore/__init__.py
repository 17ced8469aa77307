"""Effcore: an honest laboratory for efficient training.

Launch a small training run, move the thresholds that decide which computation is
skipped, watch loss, skipped computation and power, and judge whether accuracy survived.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from effcore.energy.meter import RunMeter

__all__ = ["__version__", "meter"]
__version__ = "0.1.0"


def meter(device: str = "cpu") -> RunMeter:
    """Return a meter for training of one's own, to be used in a ``with`` statement.

    What it measures with is the best that this machine has; where that is nothing, it says why
    instead of joules. It never raises for what an instrument does.

    Args:
        device: What trains: ``cpu``, ``cuda`` or ``cuda:N``.
    """
    from effcore.energy.meter import RunMeter  # imports torch, which a version needs not wait for

    return RunMeter.open(device)
