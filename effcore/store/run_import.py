"""Import of runs from bundles into the store, marked as trained on another machine.

Energy keeps its quality, and its source and scope name the other machine; measured energy becomes
``recorded``, since this machine did not measure it. An imported run is never a reference, since
seconds and energy of two machines do not compare.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from effcore.records import Energy, EnergyQuality
from effcore.store.bundle_import import Bundle
from effcore.store.db import StoreError, translate_storage_errors
from effcore.store.run_files import PHASES_FILE, save_view
from effcore.store.serialization import (
    KnobValues,
    StoredRecord,
    encode_record,
    encode_record_or_knobs,
)
from effcore.store.store import Store, new_run_id

_OTHER_MACHINE_PREFIX: Final = "another machine's "


class RunIdTakenError(StoreError):
    """The store has a run of that id already, perhaps in the trash."""


def import_run(store: Store, bundle: Bundle, *, fresh_id: bool = False) -> str:
    """Store the run of a bundle and return its id.

    Args:
        store: The store to write to.
        bundle: The run, from :func:`effcore.store.bundle_import.read_bundle`.
        fresh_id: Give the run a new id.

    Raises:
        RunIdTakenError: The id is taken, and ``fresh_id`` is false.
        StoreError: The store cannot be written; no part of the run is then stored.
    """
    run_id = new_run_id() if fresh_id else bundle.run_id
    folder = store.home / "runs" / run_id
    with translate_storage_errors("the store", f"runs/{run_id}"), ExitStack() as undo:
        try:
            folder.mkdir(parents=True)
        except FileExistsError as error:
            raise RunIdTakenError(
                f"run {run_id} is in this store already, or in its trash: import this "
                "one under a fresh id"
            ) from error
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        _write_bundle_files(folder, bundle)
        _insert_database_rows(store, run_id, bundle)
        undo.pop_all()
    return run_id


def _write_bundle_files(folder: Path, bundle: Bundle) -> None:
    for name, data in ({PHASES_FILE: b""} | dict(bundle.files)).items():
        (folder / name).write_bytes(data)
    if bundle.view is not None:
        save_view(folder, bundle.view)


def _insert_database_rows(store: Store, run_id: str, bundle: Bundle) -> None:
    reference = bundle.reference_id if _is_imported_run(store, bundle.reference_id) else None
    run_row = {
        "run_id": run_id,
        "created_unix": bundle.created_unix,
        "config": encode_record(bundle.config),
        "status": bundle.status,
        "progress": bundle.progress,
        "exploratory": bundle.exploratory,
        "reference_id": reference,
    }
    events = [
        (run_id, kind, encode_record_or_knobs(event))
        for kind, event in _relabel_energy(bundle.events).items()
    ]
    changes = [(run_id, change.step, change.name, change.value) for change in bundle.changes]
    labels = bundle.labels
    with store.write_transaction() as connection:
        columns, marks = ", ".join(run_row), ", ".join("?" * len(run_row))
        connection.execute(f"INSERT INTO runs ({columns}) VALUES ({marks})", (*run_row.values(),))
        connection.executemany("INSERT INTO events VALUES (?, ?, ?)", events)
        connection.executemany(
            "INSERT INTO changes (run_id, step, name, value) VALUES (?, ?, ?, ?)", changes
        )
        connection.execute("INSERT INTO imports VALUES (?, ?)", (run_id, time.time()))
        if any(labels):
            connection.execute(
                "INSERT INTO labels VALUES (?, ?, ?, ?)",
                (run_id, labels.name, "\n".join(labels.tags), labels.note),
            )


def _is_imported_run(store: Store, run_id: str | None) -> bool:
    """Return whether a run is imported: an imported run only refers to imported ones."""
    return bool(run_id and store.query("SELECT 1 FROM imports WHERE id = ?", run_id))


def _relabel_energy(
    events: Mapping[str, StoredRecord | KnobValues],
) -> dict[str, StoredRecord | KnobValues]:
    energy = events.get("energy")
    return dict(events) | (
        {"energy": energy_of_other_machine(energy)} if isinstance(energy, Energy) else {}
    )


def energy_of_other_machine(energy: Energy) -> Energy:
    """Return the energy of an imported run, labelled as another machine's; idempotent."""
    measured = energy.quality is EnergyQuality.MEASURED
    note = f"{energy.quality.value} on another machine, and not checked on this one"
    if energy.scope.startswith(_OTHER_MACHINE_PREFIX):
        note = ""
    return dataclasses.replace(
        energy,
        quality=EnergyQuality.RECORDED if measured else energy.quality,
        source=_OTHER_MACHINE_PREFIX + energy.source.removeprefix(_OTHER_MACHINE_PREFIX),
        scope=_OTHER_MACHINE_PREFIX + energy.scope.removeprefix(_OTHER_MACHINE_PREFIX),
        notes=(*energy.notes, *((note,) if note else ())),
    )
