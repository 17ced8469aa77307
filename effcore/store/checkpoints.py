"""A run's last checkpoint on disk, and how much of its record there was by then.

The file is replaced in one piece: a process killed at any moment leaves the old one or the
new one. It goes once the run has ended.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from effcore.store.files import PASSES, TABLES
from effcore.store.losses import LOSSES
from effcore.training.checkpoint import Checkpoint, CheckpointError, State, pack_state, unpack_state

CHECKPOINT = "checkpoint.bin"


@dataclass(frozen=True)
class Kept:
    """A checkpoint with what the run's record is to be cut back to.

    Attributes:
        checkpoint: The training's own state.
        lengths: Bytes of each of the record's files by then.
        events: The latest event of each kind by then, as the database has it.
    """

    checkpoint: Checkpoint
    lengths: Mapping[str, int]
    events: Mapping[str, str]

    def rows(self, name: str) -> int:
        """Return how many rows a table had."""
        return self.lengths[name] // (8 * len(TABLES[name]))


def save_checkpoint(folder: Path, kept: Kept) -> None:
    """Replace the checkpoint in one piece, once its bytes are on the disk.

    Raises:
        OSError: The folder cannot be written.
    """
    fresh = folder / (CHECKPOINT + ".new")
    with fresh.open("wb") as file:
        for part in pack_state({"lengths": dict(kept.lengths), "events": dict(kept.events),
                          "checkpoint": _fields(kept.checkpoint)}):  # fmt: skip
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / CHECKPOINT)


def _fields(checkpoint: Checkpoint) -> State:
    names = ("step", "seconds", "state", "origin")
    return {name: getattr(checkpoint, name) for name in names}


def load_checkpoint(folder: Path) -> Kept:
    """Return the last checkpoint, if the record is still as long as it was by then.

    Raises:
        CheckpointError: It is damaged, or the record is.
        OSError: There is none, or it cannot be read.
    """
    found = unpack_state((folder / CHECKPOINT).read_bytes())
    try:
        checkpoint = Checkpoint(**found["checkpoint"])
        kept = Kept(checkpoint, found["lengths"], found["events"])
        names = [*TABLES, PASSES, *({LOSSES} & set(kept.lengths))]  # an old run has no losses
        short = [name for name in names if _size(folder, name) < kept.lengths[name]]
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"it is not as written: {error!r}") from error
    if short:
        raise CheckpointError(f"the run's {', '.join(short)} is shorter than it was by then")
    return kept


def _size(folder: Path, name: str) -> int:
    return (folder / name).stat().st_size


def forget_checkpoint(folder: Path) -> None:
    """Remove the checkpoint of a run that has ended.

    Raises:
        OSError: It cannot be removed.
    """
    for name in (CHECKPOINT, CHECKPOINT + ".new"):
        (folder / name).unlink(missing_ok=True)
