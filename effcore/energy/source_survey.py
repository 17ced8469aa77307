"""What can be measured on this machine: every source asked, and what it answered."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from effcore.energy.sources.base import (
    SOURCES,
    EnergySource,
    EnergyUnavailable,
    error_text_without_paths,
)
from effcore.records import EnergyQuality

#: A device that is no machine's: what a source says of it, it says of any it does not cover.
_UNCOVERED_DEVICE = "meta"


class SourceStatus(NamedTuple):
    """What a source answered.

    Attributes:
        id: The source's id.
        title: Its name.
        quality: What its joules would be.
        available: Whether it opened.
        reason: Why it did not; empty where it did.
        remedy: What would change that; empty where it opened.
        scope: What it covers, in words; empty where it did not open.
        source: The instrument as found here, in words; empty where it did not open.
    """

    id: str
    title: str
    quality: EnergyQuality
    available: bool
    reason: str
    remedy: str
    scope: str
    source: str


def survey_sources(device: str | None = None) -> list[SourceStatus]:
    """Ask every registered source, the first in rank first; none is left open.

    Args:
        device: Ask for this device alone: one answer of each source. By default they are
            asked for the CPU and each CUDA device: a source that covers several devices
            answers for each, also for one that it cannot read; one that covers none says why not.

    Returns:
        The answers; a source that breaks answers with what broke.
    """
    if device is not None:
        return [_probe_source(kind, device) for kind in SOURCES]
    devices = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if len(devices) == 1:
        devices.append("cuda")  # so that a meter of GPUs can say why it sees none
    return [answer for kind in SOURCES for answer in _statuses_on_devices(kind, devices)]


def _statuses_on_devices(kind: type[EnergySource], devices: Sequence[str]) -> list[SourceStatus]:
    answers = [_probe_source(kind, device) for device in devices]
    # What it would say of any device is no reason; what it says of its own is.
    anywhere = _probe_source(kind, _UNCOVERED_DEVICE).reason.replace(repr(_UNCOVERED_DEVICE), "")
    own = [
        (device, answer)
        for device, answer in zip(devices, answers, strict=True)
        if answer.available or answer.reason.replace(repr(device), "") != anywhere
    ]
    if any(answer.available for _, answer in own):
        return [_with_device_in_reason(answer, device) for device, answer in own]
    return [answer for _, answer in own][:1] or answers[:1]


def _with_device_in_reason(answer: SourceStatus, device: str) -> SourceStatus:
    """Return an answer that says of which device it is, where others can be read."""
    if answer.available or repr(device) in answer.reason:
        return answer
    return answer._replace(reason=f"of {device!r}: {answer.reason}")


def _probe_source(kind: type[EnergySource], device: str) -> SourceStatus:
    try:
        with _opened_source(kind, device) as found:
            return _make_status(kind, available=True, scope=found.scope, source=found.source)
    except EnergyUnavailable as refusal:
        return _make_status(kind, reason=refusal.reason, remedy=refusal.remedy)
    except Exception as fault:  # one that breaks must not hide the others
        reason = f"it broke: {type(fault).__name__}: {error_text_without_paths(fault)}"
        return _make_status(kind, reason=reason, remedy="report it with the versions shown here")


@contextlib.contextmanager
def _opened_source(kind: type[EnergySource], device: str) -> Iterator[EnergySource]:
    found = kind.open(device)
    try:
        yield found
    finally:
        with contextlib.suppress(Exception):  # what it answered stands
            found.close()


def _make_status(
    kind: type[EnergySource],
    *,
    available: bool = False,
    reason: str = "",
    remedy: str = "",
    scope: str = "",
    source: str = "",
) -> SourceStatus:
    return SourceStatus(kind.id, kind.title, kind.quality, available, reason, remedy, scope, source)
