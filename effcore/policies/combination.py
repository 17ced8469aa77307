"""The three policies of a run: who is trained on, how parameters change, how closely to look."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from effcore.knobs import KnobSpec, knobs_of
from effcore.policies.intensity.base import INTENSITIES
from effcore.policies.selection.base import SELECTIONS
from effcore.policies.update.base import UPDATES
from effcore.records import RunConfig
from effcore.registry import Registry

DEFAULT_SELECTION = "confident-skip"
DEFAULT_UPDATE = "every-step"
DEFAULT_INTENSITY = "full"
#: Where the policies of each kind are registered, by the name of the configuration's field.
POLICY_REGISTRIES: dict[str, Registry[Any]] = {
    "selection": SELECTIONS,
    "update": UPDATES,
    "intensity": INTENSITIES,
}


class PolicyCombination(NamedTuple):
    """The ids of a run's policies."""

    selection: str = DEFAULT_SELECTION
    update: str = DEFAULT_UPDATE
    intensity: str = DEFAULT_INTENSITY

    def classes(self) -> tuple[type[Any], ...]:
        """Return the classes they stand for."""
        return tuple(POLICY_REGISTRIES[kind].get(name) for kind, name in self._asdict().items())


DENSE_POLICIES = PolicyCombination("dense")


def policies_of(config: RunConfig) -> PolicyCombination:
    """Return the policies that a run is configured with."""
    return PolicyCombination(config.selection, config.update, config.intensity)


def registered_policies() -> Iterator[type[Any]]:
    """Yield all that is registered, of every kind."""
    for registry in POLICY_REGISTRIES.values():
        yield from registry


def knobs_of_policies(policies: PolicyCombination) -> tuple[KnobSpec, ...]:
    """Return the knobs that a run with these policies has."""
    return tuple(spec for policy in policies.classes() for spec in knobs_of(policy))
