"""Survey of this machine's energy sources: which can be read, and why others cannot."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import torch

from effcore.energy.sources.base import (
    SOURCES,
    EnergySource,
    EnergyUnavailable,
    error_text_without_paths,
)
from effcore.records import EnergyQuality

#: A device that no source covers: probing it gives a source's generic refusal.
_UNCOVERED_DEVICE = "meta"


class SourceStatus(NamedTuple):
    """Whether a source can be read on this machine."""

    id: str
    title: str
    quality: EnergyQuality
    available: bool
    reason: str  # why it could not be opened; empty if it could
    remedy: str  # what would make it available; empty if it could be opened
    scope: str  # what it covers, in words; empty if it could not be opened
    source: str  # the instrument on this machine, in words; empty if it could not be opened


def survey_sources(device: str | None = None) -> list[SourceStatus]:
    """Probe every registered source, in order of rank; every opened source is closed again.

    Args:
        device: Probe for this device only, with one status per source. By default sources are
            probed for the CPU and each CUDA device: a source that covers several devices has one
            status for each, also for one that it cannot read; a source that covers none has one
            status with the reason.

    Returns:
        The statuses; for a source that raises, the exception is the reason.
    """
    if device is not None:
        return [_probe_source(source_class, device) for source_class in SOURCES]
    devices = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if len(devices) == 1:
        devices.append("cuda")  # so that GPU sources can report why there is no GPU
    return [
        status for source_class in SOURCES for status in _statuses_on_devices(source_class, devices)
    ]


def _statuses_on_devices(
    source_class: type[EnergySource], devices: list[str]
) -> list[SourceStatus]:
    statuses = [_probe_source(source_class, device) for device in devices]
    # A reason that the source gives for any device is generic: drop it if a specific one exists.
    generic_reason = _probe_source(source_class, _UNCOVERED_DEVICE).reason.replace(
        repr(_UNCOVERED_DEVICE), ""
    )
    specific_statuses = [
        (device, status)
        for device, status in zip(devices, statuses, strict=True)
        if status.available or status.reason.replace(repr(device), "") != generic_reason
    ]
    if not any(status.available for _, status in specific_statuses):
        return [status for _, status in specific_statuses][:1] or statuses[:1]
    return [  # a reason names its device, since other devices can be read
        status
        if status.available or repr(device) in status.reason
        else status._replace(reason=f"of {device!r}: {status.reason}")
        for device, status in specific_statuses
    ]


def _probe_source(source_class: type[EnergySource], device: str) -> SourceStatus:
    reason = remedy = scope = instrument = ""
    available = False
    try:
        source = source_class.open(device)
        try:
            scope, instrument, available = source.scope, source.source, True
        finally:
            with contextlib.suppress(Exception):  # a failed close does not change the status
                source.close()
    except EnergyUnavailable as error:
        reason, remedy = error.reason, error.remedy
    except Exception as error:  # a faulty source must not hide the others
        reason = f"it failed: {type(error).__name__}: {error_text_without_paths(error)}"
        remedy = "report it with the versions shown here"
    return SourceStatus(
        source_class.id,
        source_class.title,
        source_class.quality,
        available,
        reason,
        remedy,
        scope,
        instrument,
    )
