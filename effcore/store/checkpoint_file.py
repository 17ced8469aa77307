"""A run's last checkpoint on disk, and how much of its record there was by then.

The file is replaced in one piece: a process killed at any moment leaves the old one or the
new one. It goes once the run has ended.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from effcore.store.epoch_records import EPOCH_RECORDS_FILE
from effcore.store.run_files import DECISIONS_FILE, TABLE_COLUMNS
from effcore.training.checkpoint import Checkpoint, CheckpointError, State, pack_state, unpack_state

CHECKPOINT_FILE = "checkpoint.bin"


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint with what the run's record is to be cut back to.

    Attributes:
        checkpoint: The training's own state.
        file_lengths: Bytes of each of the record's files by then.
        events: The latest event of each kind by then, as the database has it.
    """

    checkpoint: Checkpoint
    file_lengths: Mapping[str, int]
    events: Mapping[str, str]

    def table_row_count(self, table_file: str) -> int:
        """Return how many rows a table had."""
        return self.file_lengths[table_file] // (8 * len(TABLE_COLUMNS[table_file]))


def save_checkpoint(folder: Path, stored_checkpoint: StoredCheckpoint) -> None:
    """Replace the checkpoint in one piece, once its bytes are on the disk.

    Raises:
        OSError: The folder cannot be written.
    """
    fresh = folder / (CHECKPOINT_FILE + ".new")
    with fresh.open("wb") as file:
        for part in pack_state(
            {
                "lengths": dict(stored_checkpoint.file_lengths),
                "events": dict(stored_checkpoint.events),
                "checkpoint": _checkpoint_fields(stored_checkpoint.checkpoint),
            }
        ):
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / CHECKPOINT_FILE)


def _checkpoint_fields(checkpoint: Checkpoint) -> State:
    names = ("step", "seconds", "state", "origin")
    return {name: getattr(checkpoint, name) for name in names}


def load_checkpoint(folder: Path) -> StoredCheckpoint:
    """Return the last checkpoint, if the record is still as long as it was by then.

    Raises:
        CheckpointError: It is damaged, or the record is.
        OSError: There is none, or it cannot be read.
    """
    found = unpack_state((folder / CHECKPOINT_FILE).read_bytes())
    try:
        checkpoint = Checkpoint(**found["checkpoint"])
        kept = StoredCheckpoint(checkpoint, found["lengths"], found["events"])
        names = [
            *TABLE_COLUMNS,
            DECISIONS_FILE,
            *({EPOCH_RECORDS_FILE} & set(kept.file_lengths)),
        ]  # an old run has no losses
        short = [name for name in names if _file_size(folder, name) < kept.file_lengths[name]]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"it is not as written: {error!r}") from error
    if short:
        raise CheckpointError(f"the run's {', '.join(short)} is shorter than it was by then")
    return kept


def _file_size(folder: Path, name: str) -> int:
    return (folder / name).stat().st_size


def delete_checkpoint(folder: Path) -> None:
    """Remove the checkpoint of a run that has ended.

    Raises:
        OSError: It cannot be removed.
    """
    for name in (CHECKPOINT_FILE, CHECKPOINT_FILE + ".new"):
        (folder / name).unlink(missing_ok=True)
