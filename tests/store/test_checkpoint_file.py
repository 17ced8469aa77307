"""A checkpoint on disk: replaced in one piece, and gone with all that belongs to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from effcore.store.checkpoint_file import (
    CHECKPOINT_FILE,
    StoredCheckpoint,
    delete_checkpoint,
    save_checkpoint,
)
from effcore.training.checkpoint import Checkpoint, CheckpointError, State


def stored(state: State) -> StoredCheckpoint:
    return StoredCheckpoint(Checkpoint(3, 1.5, state, {}), {"steps.f64": 0}, {})


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, stored({"a": 1}))
    before = (tmp_path / CHECKPOINT_FILE).read_bytes()
    with pytest.raises(CheckpointError, match="cannot store a object"):
        save_checkpoint(tmp_path, stored({"a": object()}))
    assert (tmp_path / CHECKPOINT_FILE).read_bytes() == before


def test_nothing_stays_of_a_checkpoint_that_is_removed(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, stored({"a": 1}))
    with pytest.raises(CheckpointError):
        save_checkpoint(tmp_path, stored({"a": object()}))
    assert len(list(tmp_path.iterdir())) == 2, "one of them half-written"
    delete_checkpoint(tmp_path)
    assert list(tmp_path.iterdir()) == []
    delete_checkpoint(tmp_path)
