"""Effcore: an honest laboratory for efficient training.

Launch a small training run, move the thresholds that decide which computation is
skipped, watch loss, skipped computation and power, and judge whether accuracy survived.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

    from effcore.energy.meter import RunMeter
    from effcore.training.selector import Selector

__all__ = ["__version__", "meter", "selector"]
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


def selector(policy: str, **settings: Any) -> Selector:
    """Return what hands out the batches to train on, in a loop of one's own.

    Args:
        policy: Id of a selection policy.
        settings: ``examples``, ``batch_size`` and ``epochs``, what else
            :class:`~effcore.training.selector.Selector` takes, and the policy's knobs.

    Raises:
        ValueError: Something cannot be used; the message says what is allowed.
    """
    from effcore.training.selector import Selector

    return Selector(policy, **settings)


class _OldModules:
    """Finds a module by the path it had before; asked only where no module has that name."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return how to import it; ``None`` where it never was."""
        if not name.startswith("effcore."):
            return None
        from effcore.records.deprecation import find_old_module  # imports numpy

        return find_old_module(name)


sys.meta_path.append(_OldModules)
