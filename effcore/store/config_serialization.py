"""Conversion of run configurations to plain JSON types and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from effcore.records import KnobChange, RunConfig


def config_to_dict(config: RunConfig) -> dict[str, Any]:
    """Return the configuration as plain JSON types."""
    data: dict[str, Any] = {name: getattr(config, name) for name in RunConfig.__slots__}
    data |= {"knobs": dict(config.knobs), "data": dict(config.data)}
    data["changes"] = [[c.step, c.name, c.value] for c in config.changes]
    return data


def config_from_dict(data: Mapping[str, Any]) -> RunConfig:
    """Rebuild a configuration from :func:`config_to_dict`.

    Fields that earlier versions did not write get the value that those versions used.

    Raises:
        TypeError: A field is missing.
        KeyError: The changes are missing.
    """
    fields = {name: data[name] for name in RunConfig.__slots__ if name in data}
    if "size" not in data and fields["model"].endswith("-small"):  # once a separate model
        fields |= {"model": fields["model"].removesuffix("-small"), "size": "small"}
    fields["changes"] = tuple(KnobChange(*change) for change in data["changes"])
    return RunConfig(**fields)
