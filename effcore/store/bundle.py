"""A run as one file: what a bundle holds, and how one is written.

A bundle is a zip of eleven files at most, all of them at its root:

``bundle.json``
    The format and its version, the run's id, when it began, what became of it, its name,
    tags and note, and of every other file its bytes and SHA-256. The checksums tell damage
    from what was written; they do not tell who wrote it.
``config.json``, ``events.json``, ``changes.json``
    The configuration, the latest event of each kind, and the knob changes.
``steps.f64``, ``evals.f64``, ``power.f64``, ``phases.f64``, ``decisions.bin``,
``losses.bin``, ``view.npy``
    The run's files as the store has them (:mod:`effcore.store.run_files`), whole rows only; the
    view, the losses and the phases are missing where the run has none.

JSON is strict: what is no number is written as ``{"nonfinite": "nan"}``. Nothing in a bundle
is ever unpickled or run. Reading one is :mod:`effcore.store.bundle_import`'s.
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
from effcore.store.config_serialization import config_to_dict
from effcore.store.db import StoreError
from effcore.store.epoch_records import EPOCH_RECORDS_FILE, parse_epoch_records
from effcore.store.run_files import (
    DECISIONS_FILE,
    PHASES_FILE,
    TABLE_COLUMNS,
    VIEW_FILE,
    parse_decisions,
    parse_view,
)
from effcore.store.run_records import SELECT_CHANGES, SELECT_EVENTS, RunSummary
from effcore.store.store import Store

BUNDLE_FORMAT: Final = "effcore-run"
BUNDLE_VERSION: Final = 1
MANIFEST_MEMBER, CONFIG_MEMBER, EVENTS_MEMBER, CHANGES_MEMBER = (
    "bundle.json",
    "config.json",
    "events.json",
    "changes.json",
)
#: Members that a bundle may lack.
OPTIONAL_MEMBERS: Final = (PHASES_FILE, EPOCH_RECORDS_FILE, VIEW_FILE)
#: Every member but the manifest.
MEMBERS: Final = (
    CONFIG_MEMBER,
    EVENTS_MEMBER,
    CHANGES_MEMBER,
    *TABLE_COLUMNS,
    DECISIONS_FILE,
    EPOCH_RECORDS_FILE,
    VIEW_FILE,
)
#: Events that are taken along.
EVENT_KINDS: Final = ("start", "histogram", "knobs", "energy", "attribution", "end")
NONFINITE_KEY: Final = "nonfinite"


def write_bundle(store: Store, run_id: str, file: IO[bytes]) -> None:
    """Write a run that is over as a bundle.

    Args:
        store: Where it is.
        run_id: Its id.
        file: An empty file, open for writing.

    Raises:
        UnknownRunError: There is no such run.
        DamagedRunError: Its record is not as it was written.
        StoreError: It is not over, or cannot be read.
        OSError: The file cannot be written.
    """
    run = store.summary(run_id)
    if not run.status.is_final:
        raise StoreError(f"run {run_id} is {run.status}: export it when it is over, or stop it")
    with store.lock_run_folder(run_id) as folder:
        members = {
            CONFIG_MEMBER: _strict_json_bytes(config_to_dict(run.config))
        } | _event_and_change_members(store, run_id)
        members |= _file_members(folder)
    about = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in members.items()
    }
    members = {
        MANIFEST_MEMBER: _strict_json_bytes(_manifest_data(run) | {"members": about}),
        **members,
    }
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in members.items():
            bundle.writestr(name, data)


def _manifest_data(run: RunSummary) -> dict[str, Any]:
    return {
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
    }


def _event_and_change_members(store: Store, run_id: str) -> dict[str, bytes]:
    rows = {row["kind"]: row["data"] for row in store.query(SELECT_EVENTS, run_id)}
    events = {kind: json.loads(rows[kind]) for kind in EVENT_KINDS if kind in rows}
    changes = [list(row) for row in store.query(SELECT_CHANGES, run_id)]
    return {EVENTS_MEMBER: _strict_json_bytes(events), CHANGES_MEMBER: _strict_json_bytes(changes)}


def _file_members(folder: Path) -> dict[str, bytes]:
    """Return a run's files up to what a kill has torn."""
    found = {}
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
        elif name == VIEW_FILE and not _is_readable_view(raw):
            continue
        found[name] = raw
    return found


def _is_readable_view(raw: bytes) -> bool:
    try:
        parse_view(raw)
    except ValueError:  # the run is shown without it, too
        return False
    return True


def _strict_json_bytes(data: Any) -> bytes:
    return json.dumps(_name_nonfinite_numbers(data), allow_nan=False).encode()


def _name_nonfinite_numbers(data: Any) -> Any:
    """Return JSON data with what is no number named."""
    if isinstance(data, dict):
        return {key: _name_nonfinite_numbers(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_name_nonfinite_numbers(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return {NONFINITE_KEY: str(data)}
    return data
