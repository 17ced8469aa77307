"""Bundles: the file format for the exchange of runs, and its writer.

A bundle is a zip of at most eleven files, all of them at its root:

``bundle.json``
    The format and its version; the run's id, time of creation, status, name, tags and note; and
    the size and SHA-256 of every other file. The checksums detect damage; they do not prove who
    wrote the file.
``config.json``, ``events.json``, ``changes.json``
    The configuration, the latest event of each kind, and the knob changes.
``steps.f64``, ``evals.f64``, ``power.f64``, ``phases.f64``, ``decisions.bin``,
``losses.bin``, ``view.npy``
    The run's files as in the store (:mod:`effcore.store.run_files`), complete rows only; the
    view, the epoch records and the phases are missing if the run has none.

JSON is strict: NaN and infinities are written as ``{"nonfinite": "nan"}``. Nothing in a bundle is
ever unpickled or executed. :mod:`effcore.store.bundle_import` reads bundles.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
import zipfile
from pathlib import Path
from typing import IO, Any, Final

from effcore import __version__
from effcore.store.db import StoreError
from effcore.store.run_files import (
    DECISIONS_FILE,
    EPOCH_RECORDS_FILE,
    PHASES_FILE,
    TABLE_COLUMNS,
    VIEW_FILE,
    parse_decisions,
    parse_epoch_records,
    parse_view,
)
from effcore.store.run_records import SELECT_CHANGES, SELECT_EVENTS
from effcore.store.serialization import config_to_dict
from effcore.store.store import Store

BUNDLE_FORMAT: Final = "effcore-run"
BUNDLE_VERSION: Final = 1
MANIFEST_MEMBER, CONFIG_MEMBER = "bundle.json", "config.json"
EVENTS_MEMBER, CHANGES_MEMBER = "events.json", "changes.json"
#: Members that may be missing.
OPTIONAL_MEMBERS: Final = (PHASES_FILE, EPOCH_RECORDS_FILE, VIEW_FILE)
#: All members except the manifest.
MEMBERS: Final = (
    CONFIG_MEMBER,
    EVENTS_MEMBER,
    CHANGES_MEMBER,
    *TABLE_COLUMNS,
    DECISIONS_FILE,
    EPOCH_RECORDS_FILE,
    VIEW_FILE,
)
#: Kinds of events that are exported.
EVENT_KINDS: Final = ("start", "histogram", "knobs", "energy", "attribution", "end")
NONFINITE_KEY: Final = "nonfinite"


def write_bundle(store: Store, run_id: str, file: IO[bytes]) -> None:
    """Write an ended run as a bundle to an empty file.

    Raises:
        StoreError: There is no such run, it is damaged or has not ended, or it cannot be read.
        OSError: The file cannot be written.
    """
    run = store.summary(run_id)
    if not run.status.is_final:
        raise StoreError(f"run {run_id} is {run.status}: stop it, or export it after its end")
    with store.lock_run_folder(run_id) as folder:
        rows = {row["kind"]: row["data"] for row in store.query(SELECT_EVENTS, run_id)}
        events = {kind: json.loads(rows[kind]) for kind in EVENT_KINDS if kind in rows}
        changes = [list(row) for row in store.query(SELECT_CHANGES, run_id)]
        members = {
            CONFIG_MEMBER: _strict_json_bytes(config_to_dict(run.config)),
            EVENTS_MEMBER: _strict_json_bytes(events),
            CHANGES_MEMBER: _strict_json_bytes(changes),
        } | _file_members(folder)
    manifest = {
        "format": BUNDLE_FORMAT,
        "version": BUNDLE_VERSION,
        "effcore": __version__,
        "exported_unix": time.time(),
        "run_id": run.run_id,
        "created_unix": run.created_unix,
        "status": run.status.value,
        "progress": run.progress,
        "exploratory": run.exploratory,
        "reference_id": run.reference_id,
        "labels": {**run.labels._asdict(), "tags": list(run.labels.tags)},
        "members": {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in members.items()
        },
    }
    members = {MANIFEST_MEMBER: _strict_json_bytes(manifest), **members}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in members.items():
            bundle.writestr(name, data)


def _file_members(folder: Path) -> dict[str, bytes]:
    """Return the complete rows of a run's files, by name."""
    members = {}
    for name in (*TABLE_COLUMNS, DECISIONS_FILE, EPOCH_RECORDS_FILE, VIEW_FILE):
        path = folder / name
        if name in OPTIONAL_MEMBERS and not path.exists():
            continue
        raw = path.read_bytes()
        if name in TABLE_COLUMNS:
            raw = raw[: len(raw) - len(raw) % (8 * len(TABLE_COLUMNS[name]))]
        elif name == DECISIONS_FILE:
            raw = raw[: parse_decisions(raw)[1]]
        elif name == EPOCH_RECORDS_FILE:
            raw = raw[: parse_epoch_records(raw)[1]]
        elif name == VIEW_FILE:
            try:
                parse_view(raw)
            except ValueError:  # the store, too, shows the run without it
                continue
        members[name] = raw
    return members


def _strict_json_bytes(data: Any) -> bytes:
    return json.dumps(_name_nonfinite_numbers(data), allow_nan=False).encode()


def _name_nonfinite_numbers(data: Any) -> Any:
    """Return JSON data with NaN and infinities as objects; see ``NONFINITE_KEY``."""
    if isinstance(data, dict):
        return {key: _name_nonfinite_numbers(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_name_nonfinite_numbers(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return {NONFINITE_KEY: str(data)}
    return data
