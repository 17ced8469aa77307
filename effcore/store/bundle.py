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
    The run's files as the store has them (:mod:`effcore.store.files`), whole rows only; the
    view, the losses and the phases are missing where the run has none.

JSON is strict: what is no number is written as ``{"nonfinite": "nan"}``. Nothing in a bundle
is ever unpickled or run. Reading one is :mod:`effcore.store.intake`'s.
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
from effcore.store.configs import config_to_dict
from effcore.store.db import StoreError
from effcore.store.files import PASSES, PHASES, TABLES, VIEW, decisions_in, view_in
from effcore.store.losses import LOSSES, losses_in
from effcore.store.rows import SELECT_CHANGES, SELECT_EVENTS, RunSummary
from effcore.store.store import Store

FORMAT: Final = "effcore-run"
VERSION: Final = 1
MANIFEST, CONFIG, EVENTS, CHANGES = "bundle.json", "config.json", "events.json", "changes.json"
#: Members that a bundle may lack.
OPTIONAL: Final = (PHASES, LOSSES, VIEW)
#: Every member but the manifest.
MEMBERS: Final = (CONFIG, EVENTS, CHANGES, *TABLES, PASSES, LOSSES, VIEW)
#: Events that are taken along.
KINDS: Final = ("start", "histogram", "knobs", "energy", "attribution", "end")
NONFINITE: Final = "nonfinite"


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
    with store.held(run_id) as folder:
        members = {CONFIG: _json(config_to_dict(run.config))} | _records(store, run_id)
        members |= _files(folder)
    about = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in members.items()
    }
    members = {MANIFEST: _json(_manifest(run) | {"members": about}), **members}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in members.items():
            bundle.writestr(name, data)


def _manifest(run: RunSummary) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
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


def _records(store: Store, run_id: str) -> dict[str, bytes]:
    rows = {row["kind"]: row["data"] for row in store.query(SELECT_EVENTS, run_id)}
    events = {kind: json.loads(rows[kind]) for kind in KINDS if kind in rows}
    changes = [list(row) for row in store.query(SELECT_CHANGES, run_id)]
    return {EVENTS: _json(events), CHANGES: _json(changes)}


def _files(folder: Path) -> dict[str, bytes]:
    """Return a run's files up to what a kill has torn."""
    found = {}
    for name in (*TABLES, PASSES, LOSSES, VIEW):
        path = folder / name
        if name in OPTIONAL and not path.exists():
            continue
        raw = path.read_bytes()
        if name in TABLES:
            raw = raw[: len(raw) - len(raw) % (8 * len(TABLES[name]))]
        elif name == PASSES:
            raw = raw[: decisions_in(raw)[1]]
        elif name == LOSSES:
            raw = raw[: losses_in(raw)[1]]
        elif name == VIEW and not _readable_view(raw):
            continue
        found[name] = raw
    return found


def _readable_view(raw: bytes) -> bool:
    try:
        view_in(raw)
    except ValueError:  # the run is shown without it, too
        return False
    return True


def _json(data: Any) -> bytes:
    return json.dumps(_strict(data), allow_nan=False).encode()


def _strict(data: Any) -> Any:
    """Return JSON data with what is no number named."""
    if isinstance(data, dict):
        return {key: _strict(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_strict(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return {NONFINITE: str(data)}
    return data
