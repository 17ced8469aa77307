"""The first instrument that can be read for a device, or why none can."""

from __future__ import annotations

from effcore.energy.sources.base import (
    SOURCES,
    EnergySource,
    EnergyUnavailable,
    error_text_without_paths,
)


def open_first_source(device: str) -> tuple[EnergySource | None, tuple[str, ...]]:
    """Open the first source, by rank, that covers a device.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:N``.

    Returns:
        The source, or ``None`` and why: for each source a text, those of this kind of device
        before the others, and of them the last in rank first: it is the easiest to have.
    """
    near: list[str] = []
    far: list[str] = []
    for kind in SOURCES:
        try:
            return kind.open(device), ()
        except EnergyUnavailable as refusal:
            why = f"{kind.title}: {refusal}"
        except Exception as error:  # a fault of one source must not cost the run
            why = f"{kind.title}: {type(error).__name__}: {error_text_without_paths(error)}"
        (near if device.startswith(kind.device_type) else far).append(why)
    return None, (*reversed(near), *far)
