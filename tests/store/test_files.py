from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from effcore.records import EVAL_COLUMNS, STEP_COLUMNS, EpochDrawEvent, EvalEvent, ViewEvent
from effcore.records.views import Scatter, ShadedText, ViewItem, view_arrays, view_header
from effcore.store.run_files import (
    DECISIONS_FILE,
    EVALS_FILE,
    STEPS_FILE,
    VIEW_FILE,
    RunFiles,
    is_run_locked,
    load_view,
    read_decisions,
    read_table,
    save_view,
    try_run_lock,
)
from tests.store.samples import block

EIGHT = np.arange(8, dtype=np.uint8)
ITEMS: Mapping[str, ViewItem] = {
    "reconstruction": np.arange(24, dtype=np.uint8).reshape(2, 4, 3),
    "where ../ it goes": EIGHT.reshape(2, 4),
    "text": ShadedText("def f():", EIGHT, EIGHT % 2, "loss"),
    "map": Scatter(np.linspace(0, 1, 16, dtype=np.float32).reshape(8, 2), EIGHT, EIGHT % 3, ("a",)),
}
VIEW_EVENT = ViewEvent(9, ITEMS, {"reconstruction": "21.5 dB"})


class FailingFile:
    """A file whose next write stores ``room`` bytes and then finds the disk full."""

    def __init__(self, file: Any, room: int) -> None:
        self._file, self._room, self._failed = file, room, False

    def write(self, data: memoryview) -> int:
        if self._failed or self._room >= len(data):
            return int(self._file.write(data))
        self._failed = True
        self._file.write(data[: self._room])
        raise OSError(errno.ENOSPC, "No space left on device")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def pass_event(step: int) -> EpochDrawEvent:
    drawn = np.random.default_rng(step).random(21) < 0.5
    return EpochDrawEvent(step, step // 2, np.packbits(drawn), int(drawn.sum()))


def write_all(folder: Path) -> None:
    files = RunFiles(folder)
    files.queue_rows(STEPS_FILE, block(1, 3).rows)
    files.queue_decision(pass_event(0))
    files.queue_decision(pass_event(4))
    files.flush()
    files.close()


def test_an_evaluation_is_a_row_of_its_table() -> None:
    assert EvalEvent._fields == EVAL_COLUMNS


def test_rows_come_back_in_order_as_columns(tmp_path: Path) -> None:
    files = RunFiles(tmp_path)
    files.queue_rows(STEPS_FILE, block(1, 3).rows)
    files.queue_rows(STEPS_FILE, block(4, 2).rows)
    files.flush()
    files.queue_rows(STEPS_FILE, np.full((8, 1), np.nan))
    files.flush()
    files.close()
    table = read_table(tmp_path, STEPS_FILE)
    np.testing.assert_array_equal(table[:, :5], block(1, 5).rows)
    assert np.isnan(table[:, 5]).all()
    assert table.shape == (len(STEP_COLUMNS), 6)
    assert table.flags.c_contiguous
    assert not table.flags.writeable
    assert read_table(tmp_path, EVALS_FILE).shape == (len(EVAL_COLUMNS), 0)


def test_queued_rows_do_not_follow_their_source(tmp_path: Path) -> None:
    files = RunFiles(tmp_path)
    rows = block(1, 2).rows.copy()
    files.queue_rows(STEPS_FILE, rows)
    rows[:] = -1
    files.flush()
    files.close()
    np.testing.assert_array_equal(read_table(tmp_path, STEPS_FILE), block(1, 2).rows)


@pytest.mark.parametrize("shape", [(7, 2), (2, 8), (8,)])
def test_rows_of_another_table_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    files = RunFiles(tmp_path)
    with pytest.raises(ValueError, match=r"expected \(8, k\), one row each for step, considered"):
        files.queue_rows(STEPS_FILE, np.zeros(shape))
    files.close()


@given(cut=st.integers(1, 3 * 64 - 1))
def test_a_torn_last_row_is_ignored_and_left(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("torn")
    write_all(folder)
    raw = (folder / STEPS_FILE).read_bytes()[:cut]
    (folder / STEPS_FILE).write_bytes(raw)
    np.testing.assert_array_equal(read_table(folder, STEPS_FILE), block(1, 3).rows[:, : cut // 64])
    assert (folder / STEPS_FILE).read_bytes() == raw


@given(cut=st.integers(0, 2 * (36 + 3)))
def test_a_torn_decision_is_ignored(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("torn")
    write_all(folder)
    path = folder / DECISIONS_FILE
    path.write_bytes(path.read_bytes()[:cut])
    assert [event.step for event in read_decisions(folder)] == [0, 4][: cut // 39]


def test_decisions_come_back(tmp_path: Path) -> None:
    write_all(tmp_path)
    for event, expected in zip(
        read_decisions(tmp_path), (pass_event(0), pass_event(4)), strict=True
    ):
        assert (event.step, event.epoch_index, event.n_drawn) == (
            expected.step,
            expected.epoch_index,
            expected.n_drawn,
        )
        np.testing.assert_array_equal(event.drawn_bits, expected.drawn_bits)


def test_reading_stops_at_bytes_that_are_no_decision(tmp_path: Path) -> None:
    write_all(tmp_path)
    with (tmp_path / DECISIONS_FILE).open("ab") as file:
        file.write(bytes(4096))  # what a power cut may leave
    assert len(read_decisions(tmp_path)) == 2


@pytest.mark.parametrize("room", [0, 1, 64, 100])
def test_a_full_disk_loses_and_repeats_nothing(tmp_path: Path, room: int) -> None:
    files = RunFiles(tmp_path)
    files.queue_rows(STEPS_FILE, block(1, 2).rows)
    files.flush()
    appender = files._appenders[STEPS_FILE]
    appender._file = FailingFile(appender._file, room)  # type: ignore[assignment]
    files.queue_rows(STEPS_FILE, block(3, 3).rows)
    with pytest.raises(OSError, match="No space left"):
        files.flush()
    files.queue_rows(STEPS_FILE, block(6, 1).rows)
    files.flush()
    files.close()
    np.testing.assert_array_equal(read_table(tmp_path, STEPS_FILE), block(1, 6).rows)


def test_the_latest_view_comes_back(tmp_path: Path) -> None:
    assert load_view(tmp_path) is None
    assert save_view(tmp_path, VIEW_EVENT._replace(step=1, items={}))
    assert save_view(tmp_path, VIEW_EVENT)
    view = load_view(tmp_path)
    assert view is not None
    assert (view.step, view.captions) == (9, {"reconstruction": "21.5 dB"})
    assert list(view.items) == list(ITEMS)
    for name, item in ITEMS.items():
        assert view_header(view.items[name]) == view_header(item)
        for part, array in view_arrays(item).items():
            np.testing.assert_array_equal(view_arrays(view.items[name])[part], array)
    assert [path.name for path in tmp_path.iterdir()] == [VIEW_FILE]  # names are no paths


def test_a_view_that_is_being_read_is_replaced_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("in use")

    files = RunFiles(tmp_path)
    files.queue_view(VIEW_EVENT)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", refuse)
        files.flush()
    assert load_view(tmp_path) is None
    files.flush()
    assert load_view(tmp_path) is not None
    files.close()


@pytest.mark.parametrize("cut", [0, 5, 100, 200, 300])
def test_a_damaged_view_says_so(tmp_path: Path, cut: int) -> None:
    save_view(tmp_path, VIEW_EVENT)
    path = tmp_path / VIEW_FILE
    assert path.stat().st_size > 300
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"."):
        load_view(tmp_path)


def test_a_pickled_view_is_refused(tmp_path: Path) -> None:
    with (tmp_path / VIEW_FILE).open("wb") as file:
        np.save(file, np.array([{"step": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        load_view(tmp_path)


def test_a_view_of_other_numbers_is_refused(tmp_path: Path) -> None:
    with (tmp_path / VIEW_FILE).open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(ValueError, match="holds float64, expected uint8"):
        load_view(tmp_path)


def test_a_lock_is_seen_by_others_until_released(tmp_path: Path) -> None:
    assert not is_run_locked(tmp_path)
    lock = try_run_lock(tmp_path)
    assert lock is not None
    assert is_run_locked(tmp_path)
    assert try_run_lock(tmp_path) is None
    lock.release()
    assert not is_run_locked(tmp_path)


def test_a_lock_one_may_not_ask_counts_as_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("not yours")

    (tmp_path / "lock").touch()
    monkeypatch.setattr("effcore.store.run_files.FileLock.acquire", refuse)
    assert is_run_locked(tmp_path)
