"""The three policies of a run: selection, update and intensity."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from effcore.knobs import KnobSpec, knobs_of
from effcore.policies.intensity.base import INTENSITIES
from effcore.policies.selection.base import SELECTIONS
from effcore.policies.update.base import UPDATES
from effcore.records import RunConfig
from effcore.records.settings import DENSE_POLICY_IDS
from effcore.registry import Registry

DEFAULT_SELECTION = "confident-skip"
DEFAULT_UPDATE = "every-step"
DEFAULT_INTENSITY = "full"
#: The registry of each kind of policy, by the name of its configuration field.
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
        """Return the policy classes, in the order of the fields."""
        return tuple(POLICY_REGISTRIES[kind].get(name) for kind, name in self._asdict().items())


DENSE_POLICIES = PolicyCombination(*DENSE_POLICY_IDS)


def policies_of(config: RunConfig) -> PolicyCombination:
    """Return the ids of the policies in a configuration."""
    return PolicyCombination(config.selection, config.update, config.intensity)


def registered_policies() -> Iterator[type[Any]]:
    """Yield every registered policy class, of every kind."""
    for registry in POLICY_REGISTRIES.values():
        yield from registry


def knobs_of_policies(policies: PolicyCombination) -> tuple[KnobSpec, ...]:
    """Return the knobs of all three policies."""
    return tuple(spec for policy in policies.classes() for spec in knobs_of(policy))
