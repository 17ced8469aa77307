"""Checkpoint file of a run: the training state, and the length of the run's record by then.

The file is replaced atomically, so that a process killed at any moment leaves the old or the new
one. It is deleted when the run ends.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from effcore.store.run_files import DECISIONS_FILE, EPOCH_RECORDS_FILE, TABLE_COLUMNS
from effcore.training.checkpoint import Checkpoint, CheckpointError, State, pack_state, unpack_state

CHECKPOINT_FILE = "checkpoint.bin"


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint, and the state of the run's record at that step.

    On resuming, the record is truncated to this state.

    Attributes:
        checkpoint: Training state.
        file_lengths: Length of each of the run's files in bytes.
        events: Latest event of each kind, as JSON from the database.
    """

    checkpoint: Checkpoint
    file_lengths: Mapping[str, int]
    events: Mapping[str, str]

    def table_row_count(self, table_file: str) -> int:
        """Return the number of rows of a table at the checkpoint."""
        return self.file_lengths[table_file] // (8 * len(TABLE_COLUMNS[table_file]))


def save_checkpoint(folder: Path, stored_checkpoint: StoredCheckpoint) -> None:
    """Replace the checkpoint atomically, after its bytes are synchronised to the disk."""
    new_file = folder / (CHECKPOINT_FILE + ".new")
    with new_file.open("wb") as file:
        checkpoint = stored_checkpoint.checkpoint
        names = ("step", "seconds", "state", "origin")
        state: State = {
            "lengths": dict(stored_checkpoint.file_lengths),
            "events": dict(stored_checkpoint.events),
            "checkpoint": {name: getattr(checkpoint, name) for name in names},
        }
        for part in pack_state(state):
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    new_file.replace(folder / CHECKPOINT_FILE)


def load_checkpoint(folder: Path) -> StoredCheckpoint:
    """Return the last checkpoint, after checking that the run's files are long enough.

    Raises:
        CheckpointError: The checkpoint is damaged, or a file of the run is too short.
        OSError: There is no checkpoint, or it cannot be read.
    """
    state = unpack_state((folder / CHECKPOINT_FILE).read_bytes())
    try:
        stored = StoredCheckpoint(
            Checkpoint(**state["checkpoint"]), state["lengths"], state["events"]
        )
        lengths = stored.file_lengths
        names = [*TABLE_COLUMNS, DECISIONS_FILE]
        if EPOCH_RECORDS_FILE in lengths:  # runs of early versions have none
            names.append(EPOCH_RECORDS_FILE)
        short = [name for name in names if (folder / name).stat().st_size < lengths[name]]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"it is damaged: {error!r}") from error
    if short:
        raise CheckpointError(f"the run's {', '.join(short)} is shorter than at the checkpoint")
    return stored


def delete_checkpoint(folder: Path) -> None:
    """Delete the checkpoint of a run that has ended."""
    for name in (CHECKPOINT_FILE, CHECKPOINT_FILE + ".new"):
        (folder / name).unlink(missing_ok=True)
