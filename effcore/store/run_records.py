"""Conversion of database rows to records: the list entry of a run, and its snapshot.

A damaged row raises :class:`DamagedRunError` for that run alone.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from effcore.records import (
    STEP_COLUMNS,
    Energy,
    EnergyQuality,
    FloatArray,
    KnobChange,
    LossHistogram,
    RunConfig,
    RunEnd,
    RunStart,
    RunStatus,
    Snapshot,
)
from effcore.records.attribution import ATTRIBUTION_NOT_RECORDED, PhaseAttribution
from effcore.records.resume_history import ResumeHistory
from effcore.store.db import DamagedRunError
from effcore.store.labels import Labels, labels_from_row
from effcore.store.run_files import (
    EVALS_FILE,
    POWER_FILE,
    STEPS_FILE,
    load_view,
    read_decisions,
    read_phase_table,
    read_table,
)
from effcore.store.serialization import decode_knob_values, decode_optional_record, decode_record

INSERT_RUN = "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
SELECT_RUNS = """SELECT runs.*, labels.name AS name, labels.tags AS tags, labels.note AS note,
    imports.imported_unix AS imported_unix,
    (SELECT data FROM events WHERE run_id = runs.run_id AND kind = 'start') AS start_data,
    (SELECT data FROM events WHERE run_id = runs.run_id AND kind = 'end') AS end_data,
    (SELECT data FROM events WHERE run_id = runs.run_id AND kind = 'energy') AS energy_data
    FROM runs LEFT JOIN labels ON labels.id = runs.run_id
    LEFT JOIN imports ON imports.id = runs.run_id"""
SELECT_EVENTS = "SELECT kind, data FROM events WHERE run_id = ?"
SELECT_CHANGES = "SELECT step, name, value FROM changes WHERE run_id = ? ORDER BY position"
SELECT_REFERENCE = """SELECT run_id FROM runs
    WHERE reference_key = ? AND status = ? AND NOT exploratory
    ORDER BY created_unix DESC, rowid DESC LIMIT 1"""

#: Fields that a run and its dense reference have in common.
_REFERENCE_FIELDS = ("task", "model", "epochs", "batch_size", "learning_rate", "seed", "device",
                     "optimizer", "precision", "threads", "clip_norm", "size")  # fmt: skip
_INTERRUPTED_REASON = "its process ended before the run did; the part stored until then is shown"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunSummary:
    """List entry of a run; ``end`` and ``energy`` are ``None`` until they are recorded.

    ``imported`` marks runs that another machine trained.
    """

    run_id: str
    config: RunConfig
    status: RunStatus
    created_unix: float
    end: RunEnd | None
    energy: Energy | None
    exploratory: bool
    reference_id: str | None
    progress: float
    labels: Labels = Labels()
    imported: bool = False


class RunEvalCurve(NamedTuple):
    """Evaluations of a run on the validation split."""

    evals: FloatArray  # shape (columns, n), columns as in EVAL_COLUMNS
    n_train: int | None  # examples per epoch; None if the run never started


def reference_key(config: RunConfig, fingerprint: str) -> str:
    """Return a key that is equal for all runs with the same dense reference.

    The fingerprint is :func:`effcore.config.model_data_fingerprint`.
    """
    return json.dumps([*reference_settings(config), fingerprint])


def reference_settings(config: RunConfig) -> list[object]:
    """Return what a run and its reference share; policies, knobs and budget may differ."""
    return [*(getattr(config, name) for name in _REFERENCE_FIELDS), sorted(config.data.items())]


def is_reference_candidate(config: RunConfig) -> bool:
    """Return whether this is full training: dense, for all its epochs."""
    policies = (config.selection, config.update, config.intensity)
    return policies == ("dense", "every-step", "full") and config.budget in (None, 1.0)


def match_reference(run: RunSummary, references: Sequence[RunSummary]) -> RunSummary | None:
    """Return the first reference that a run can be compared with.

    Args:
        run: The run; an imported one has no reference among runs of this machine.
        references: Finished full training at the machine's own pace, newest first.
    """
    if run.imported or is_reference_candidate(run.config):
        return None
    settings, full = reference_settings(run.config), run.end.flops_full if run.end else None
    for reference in references:
        flops = reference.end.flops_full if reference.end else None
        same_cost = full is None or flops is None or math.isclose(full, flops, rel_tol=1e-9)
        if same_cost and reference_settings(reference.config) == settings:
            return reference
    return None


def delete_run_rows(connection: sqlite3.Connection, run_id: str) -> None:
    """Delete the rows of a run in all tables other than ``runs``."""
    for table, column in (
        ("events", "run_id"),
        ("changes", "run_id"),
        ("labels", "id"),
        ("imports", "id"),
    ):
        connection.execute(f"DELETE FROM {table} WHERE {column} = ?", (run_id,))


@contextmanager
def translate_damaged_record(store_label: str, run_id: str) -> Iterator[None]:
    """Turn ``ValueError`` and ``TypeError`` of the block into :class:`DamagedRunError`."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise DamagedRunError(
            f"run {run_id!r} of {store_label} is damaged: {error}; restore it from a copy. "
            "Other runs are not affected"
        ) from error


def summary_from_row(row: sqlite3.Row, status: RunStatus) -> RunSummary:
    """Build a run's list entry from a row of ``SELECT_RUNS``.

    Raises:
        ValueError: A column is damaged.
    """
    config, end, energy = _decode_summary_columns(
        row["config"], row["start_data"], row["end_data"], row["energy_data"]
    )
    return RunSummary(
        run_id=row["run_id"],
        config=config,
        status=status,
        created_unix=float(row["created_unix"]),
        end=end,
        energy=energy,
        exploratory=bool(row["exploratory"]),
        reference_id=row["reference_id"],
        progress=float(row["progress"]),
        labels=labels_from_row(row),
        imported=row["imported_unix"] is not None,
    )


@functools.lru_cache(maxsize=4096)  # pages read the same list repeatedly
def _decode_summary_columns(
    config: str, start: str | None, end: str | None, energy: str | None
) -> tuple[RunConfig, RunEnd | None, Energy | None]:
    run_end = decode_optional_record(RunEnd, end)
    if run_end is not None and run_end.flops_full is None:  # written by an older version
        run_end = run_end.with_flops_full(decode_optional_record(RunStart, start))
    return decode_record(RunConfig, config), run_end, decode_optional_record(Energy, energy)


def snapshot_from_rows(
    summary: RunSummary, folder: Path, events: Sequence[sqlite3.Row], changes: Sequence[sqlite3.Row]
) -> Snapshot:
    """Build a run's snapshot from its list entry, its files and its other rows.

    Raises:
        ValueError: An event is damaged.
    """
    data = {row["kind"]: row["data"] for row in events}
    steps = read_table(folder, STEPS_FILE)
    resumed = decode_optional_record(ResumeHistory, data.get("resumed")) or ResumeHistory()
    knobs = decode_knob_values(data["knobs"]) if "knobs" in data else dict(summary.config.knobs)
    reason = _INTERRUPTED_REASON if summary.status is RunStatus.INTERRUPTED else ""
    if summary.end is not None:
        reason = summary.end.reason
    knob_changes = tuple(KnobChange(*row) for row in changes)
    for change in knob_changes:
        if not isinstance(change.value, int | float):
            raise ValueError(f"its {change} has a value that is not a number")
    try:
        view = load_view(folder)
    except ValueError as error:  # the run can be shown without its view
        _LOG.warning("run %s is shown without its view: %s", summary.run_id, error)
        view = None
    return Snapshot(
        run_id=summary.run_id,
        config=summary.config,
        status=summary.status,
        created_unix=summary.created_unix,
        start=decode_optional_record(RunStart, data.get("start")),
        end=summary.end,
        progress=summary.progress,
        steps=steps,
        evals=read_table(folder, EVALS_FILE),
        power=read_table(folder, POWER_FILE),
        changes=knob_changes,
        energy=summary.energy or unrecorded_energy(steps),
        exploratory=summary.exploratory,
        reference_id=summary.reference_id,
        reason=". ".join(text for text in (reason, resumed.description()) if text),
        epoch_draws=read_decisions(folder),
        histogram=decode_optional_record(LossHistogram, data.get("histogram")),
        view=view,
        knobs=knobs,
        phases=read_phase_table(folder),
        attribution=decode_optional_record(PhaseAttribution, data.get("attribution"))
        or ATTRIBUTION_NOT_RECORDED,
        resumed=resumed,
    )


def unrecorded_energy(steps: FloatArray) -> Energy:
    """Return the energy of a run that recorded none: unavailable."""
    return Energy(
        joules=None,
        lo=None,
        hi=None,
        seconds=float(steps[STEP_COLUMNS.index("seconds"), -1]) if steps.size else 0.0,
        quality=EnergyQuality.UNAVAILABLE,
        source="no energy record",
        scope="this run",
        notes=("no energy was recorded by the time the run was last written",),
    )
