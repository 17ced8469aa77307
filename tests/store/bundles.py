"""Bundles as a store makes them, and ways to spoil one while its checksums stay right."""

from __future__ import annotations

import hashlib
import io
import json
import math
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from effcore.records import (
    PHASES,
    EpochDrawEvent,
    EvalEvent,
    KnobChange,
    LossHistogram,
    PhaseEvent,
    RunConfig,
    RunStart,
    ViewEvent,
)
from effcore.records.attribution import NO_PHASE, AttributedPhaseEnergy, PhaseAttribution
from effcore.records.epoch_record import EpochRecord
from effcore.records.views import Scatter, ShadedText
from effcore.store import Store
from effcore.store.bundle import MANIFEST_MEMBER, write_bundle
from effcore.store.labels import validated_labels
from tests.store.samples import CONFIG, END, ESTIMATE, block

RUN = "20260101-120000-aaaa"
VIEW = ViewEvent(
    4,
    {
        "picture": np.arange(12, dtype=np.uint8).reshape(2, 2, 3),
        "text": ShadedText("ab", np.array([0, 9], np.uint8), np.zeros(2, np.uint8), "loss"),
        "map": Scatter(
            np.full((2, 2), 0.5, np.float32), np.array([0, 1], np.uint8), np.zeros(2, np.uint8),
            ("one", "two"),
        ),
    },
    {"picture": "What it sees"},
)  # fmt: skip

ATTRIBUTED = PhaseAttribution(
    tuple(AttributedPhaseEnergy(name, None, 0.0, 1.0, 0.2) for name in (*PHASES, NO_PHASE)),
    notes=("a note",),
)


def pass_losses(step: int, index: int, n: int = 1437, kept: bool = True) -> EpochRecord:
    """A whole pass that trained on every second example."""
    bits = np.packbits(np.arange(n) % 2 == 0)
    losses = np.linspace(0, 2, n).astype(np.float16) if kept else None
    return EpochRecord(step, index, n, bits, losses, n)


def full_run(store: Store, config: RunConfig = CONFIG, run_id: str | None = RUN) -> str:
    """Record a run that has something of everything."""
    writer = store.create_run(config, run_id=run_id)
    writer.write_event(RunStart(1437, 5e5, 2e9, None, 1000))
    writer.write_event(block(1, 6))
    for step in (3, 6):
        writer.write_event(EvalEvent(step, 64 * step, step / 8, 1e6 * step, 1 / step, step / 10))
    writer.write_event(EpochDrawEvent(0, 0, np.packbits(np.ones(16, dtype=bool)), 16))
    writer.write_event(pass_losses(6, 0))
    writer.write_event(PhaseEvent(1.0, (0.1, 0.1, 0.2, 0.3, 0.1, 0.1)))
    writer.queue_power_rows(np.array([[0.5, math.nan, 5.0, 9.0, math.nan, 2.5, 4.5]]).T)
    histogram = LossHistogram(6, np.array([0.1, 1.0, 9.0]), np.array([4, 5]), math.nan, 3)
    writer.write_event(histogram)
    writer.write_event(KnobChange(2, "mass", 0.5))
    writer.write_event(VIEW)
    writer.queue_knob_values({"mass": 0.5, "loss_threshold": None, "revisit": 4})
    writer.finish(END, ESTIMATE, ATTRIBUTED)
    store.set_labels(
        writer.run_id, validated_labels("<b>Bold</b>", ["a b", "c"], "Line one.\nTwo.")
    )
    return writer.run_id


def bundle_of(store: Store, run_id: str) -> bytes:
    file = io.BytesIO()
    write_bundle(store, run_id, file)
    return file.getvalue()


def members_of(raw: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(raw)) as bundle:
        return {name: bundle.read(name) for name in bundle.namelist()}


def zipped(members: Mapping[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as bundle:
        for name, data in members.items():
            bundle.writestr(name, data)
    return file.getvalue()


def with_member(raw: bytes, **changes: bytes) -> bytes:
    """Put other bytes in the place of members (``steps_f64`` for ``steps.f64``); sums are right."""
    members = members_of(raw)
    members |= {name[::-1].replace("_", ".", 1)[::-1]: data for name, data in changes.items()}
    manifest = json.loads(members.pop(MANIFEST_MEMBER))
    manifest["members"] = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in members.items()
    }
    return zipped({MANIFEST_MEMBER: json.dumps(manifest).encode(), **members})


def with_json(raw: bytes, member: str, change: Callable[[Any], Any]) -> bytes:
    """Change what a JSON member says; where the change returns nothing, in its place."""
    data = json.loads(members_of(raw)[member])
    changed = change(data)
    text = json.dumps(data if changed is None else changed).encode()
    if member == MANIFEST_MEMBER:
        return zipped(members_of(raw) | {MANIFEST_MEMBER: text})
    return with_member(raw, **{member.replace(".", "_"): text})


def setting(*path: Any, to: Any) -> Callable[[Any], None]:
    """Return a change that sets what is found at the end of a path."""

    def change(data: Any) -> None:
        for step in path[:-1]:
            data = data[step]
        data[path[-1]] = to

    return change


def patched(raw: bytes, signature: bytes, offset: int, form: str, value: int) -> bytes:
    """Overwrite a number in each of a zip's headers of a kind."""
    data = bytearray(raw)
    place = data.find(signature)
    while place >= 0:
        struct.pack_into(form, data, place + offset, value)
        place = data.find(signature, place + 4)
    return bytes(data)
