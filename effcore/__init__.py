"""Effcore: an honest laboratory for efficient training.

Launch a small training run, move the thresholds that decide which computation is
skipped, watch loss, skipped computation and power, and judge whether accuracy survived.

Glossary:

- **Task**: a data set with its models, its loss per example and its metric.
- **Run**: one training of one model, fixed by its configuration and seed.
- **Epoch**: one pass over the training set; skipped examples count as considered.
- **Seed**: the number that decides the initial parameters, the order and the random draws.
- **Policy**: a rule that decides which computation a run skips; there are three kinds.
- **Selection policy**: decides which examples an epoch trains on.
- **Update policy**: decides which parameters a step changes.
- **Intensity policy**: decides how much of the model or of an example a step computes with.
- **Inclusion probability**: the chance that an epoch draws an example.
- **Scoring pass**: a forward pass that only ranks candidates; its FLOPs are counted.
- **Knob**: a policy's setting that can be changed while a run trains.
- **Threshold**: a knob value that decides which examples or steps are skipped.
- **FLOP**: one floating-point operation; a multiply-add counts as two.
- **Ledger**: the count of the FLOPs that a run has spent, selection included.
- **Budget**: the share of full training's FLOPs at which a run ends.
- **Full training**: every example in every epoch; ``D100`` in stored studies and JSON.
- **Same-budget training**: full training cut to the policy's budget; ``D-B`` there.
- **Reference**: the finished full training that a run is compared with.
- **Skipped**: the share of computation left out, of all that the considered examples would take.
- **Saved**: the share of computation not spent, compared with full training.
- **Metric**: the number a task is judged by, such as accuracy.
- **Margin**: the largest difference of a metric that is of no consequence.
- **Study**: several policies and both kinds of full training, each over the same seeds.
- **Variant**: a way of training in a study: full, same-budget, random skipping or a policy.
- **Sweep**: a search for thresholds with the best trade-off of metric and computation.
- **Trial**: one setting of the thresholds that a sweep tries.
- **Verdict**: the outcome of a study for one policy, with its statistics.
- **Energy source**: an instrument that reads energy or power, or an estimate in its place.
- **Quality of energy**: measured, modelled or estimated; shown with every value.
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
    """Return an energy meter for any training loop, to be used in a ``with`` statement.

    It reads the best energy source of this machine. Where there is none, its energy says why. A
    failing instrument never raises.

    Args:
        device: Device that trains: ``cpu``, ``cuda`` or ``cuda:N``.
    """
    from effcore.energy.meter import RunMeter  # imports torch, which a version needs not wait for

    return RunMeter.open(device)


def selector(policy: str, **settings: Any) -> Selector:
    """Return a selector, which yields the batches to train on in any training loop.

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
