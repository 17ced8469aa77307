"""Choice of the energy source for a device."""

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
        The source, or ``None`` and one reason per source. Reasons of sources for this kind of
        device come first, the last in rank at the front because it is the easiest to enable.
    """
    same_device_reasons: list[str] = []
    other_reasons: list[str] = []
    for source_class in SOURCES:
        try:
            return source_class.open(device), ()
        except EnergyUnavailable as error:
            reason = f"{source_class.title}: {error}"
        except Exception as error:  # a faulty source must not stop the run
            reason = (
                f"{source_class.title}: {type(error).__name__}: {error_text_without_paths(error)}"
            )
        (
            same_device_reasons if device.startswith(source_class.device_type) else other_reasons
        ).append(reason)
    return None, (*reversed(same_device_reasons), *other_reasons)
