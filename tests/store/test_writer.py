from __future__ import annotations

import dataclasses
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from effcore.records import (
    EpochDrawEvent,
    EvalEvent,
    KnobChange,
    LossHistogram,
    RunStart,
    RunStatus,
    StepEvent,
    ViewEvent,
)
from effcore.store import RunWriter, Store, StoreError
from effcore.store import writer as store_writer
from tests.store.samples import CONFIG, END, ESTIMATE, block, end, opened


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is flushed but by the test."""
    monkeypatch.setattr(store_writer, "FLUSH_INTERVAL_S", 1e6)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with opened(tmp_path) as store:
        yield store


@pytest.fixture
def writer(store: Store, by_hand: None) -> Iterator[RunWriter]:
    writer = store.create_run(CONFIG)
    yield writer
    writer.close()


def histogram(step: int) -> LossHistogram:
    return LossHistogram(step, np.linspace(0, 1, 4), np.array([1, 2, 3]), 0.25, 0)


def test_a_flush_hands_over_everything_queued(store: Store, writer: RunWriter) -> None:
    start = RunStart(100, 10.0, 3000.0, 1800.0, 50)
    writer.write_event(start)
    writer.write_event(block(1, 2))
    writer.write_event(StepEvent(2, 0.25, 0))
    writer.write_event(EvalEvent(2, 128, 0.5, 20.0, 0.4, 0.9))
    writer.write_event(KnobChange(1, "mass", 0.5))
    writer.write_event(EpochDrawEvent(0, 0, np.packbits(np.ones(100, dtype=bool)), 100))
    writer.write_event(histogram(2))
    writer.write_event(ViewEvent(2, {"a": np.zeros((2, 2), dtype=np.uint8)}, {"a": "now"}))
    writer.queue_power_rows(np.full((7, 3), np.nan))
    writer.queue_energy(ESTIMATE)
    writer.queue_knob_values({"mass": 0.5, "loss_threshold": None, "revisit": 4})
    before = store.load_snapshot(writer.run_id)
    assert (before.start, before.steps.shape, before.changes) == (None, (8, 0), ())
    assert (before.histogram, before.view, before.epoch_draws) == (None, None, ())
    assert dict(before.knobs) == dict(CONFIG.knobs)
    writer.flush()
    after = store.load_snapshot(writer.run_id)
    assert (after.start, after.progress, after.energy) == (start, 0.25, ESTIMATE)
    np.testing.assert_array_equal(after.steps, block(1, 2).rows)
    np.testing.assert_array_equal(after.evals[:, 0], [2, 128, 0.5, 20.0, 0.4, 0.9])
    assert after.changes == (KnobChange(1, "mass", 0.5),)
    assert [event.n_drawn for event in after.epoch_draws] == [100]
    assert after.histogram is not None
    assert after.view is not None
    assert after.power.shape == (7, 3)
    assert after.knobs["mass"] == 0.5


def test_only_the_latest_histogram_and_view_are_kept(store: Store, writer: RunWriter) -> None:
    for step in (1, 2, 3):
        writer.write_event(histogram(step))
        writer.write_event(ViewEvent(step, {}, {}))
        if step != 2:
            writer.flush()
    loaded = store.load_snapshot(writer.run_id)
    assert loaded.histogram is not None
    assert loaded.view is not None
    assert (loaded.histogram.step, loaded.view.step) == (3, 3)


def test_a_flush_with_nothing_new_writes_nothing(
    writer: RunWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.write_event(histogram(1))
    writer.write_event(block(1, 1))
    writer.flush()
    monkeypatch.setattr(store_writer, "transaction", None)  # calling it would fail
    writer.flush()


def test_knob_values_keep_their_type(store: Store, writer: RunWriter) -> None:
    changes = (KnobChange(1, "revisit", 8), KnobChange(1, "mass", 1.0), KnobChange(0, "mass", 0.1))
    for change in changes:
        writer.write_event(change)
        writer.flush()
    assert repr(store.load_snapshot(writer.run_id).changes) == repr(changes)


def test_pausing_flushes(store: Store, writer: RunWriter) -> None:
    writer.write_event(block(1, 3))
    writer.set_status(RunStatus.PAUSED)
    loaded = store.load_snapshot(writer.run_id)
    assert (loaded.status, loaded.steps.shape[1]) == (RunStatus.PAUSED, 3)
    writer.set_status(RunStatus.RUNNING)
    assert store.load_snapshot(writer.run_id).status is RunStatus.RUNNING


def test_the_writer_flushes_by_itself_while_the_trainer_is_silent(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = threading.Semaphore(0)
    original = RunWriter.flush

    def flush(self: RunWriter) -> None:
        original(self)
        flushed.release()

    monkeypatch.setattr(store_writer, "FLUSH_INTERVAL_S", 0.001)
    monkeypatch.setattr(RunWriter, "flush", flush)
    writer = store.create_run(CONFIG)
    writer.write_event(block(1, 3))
    for _ in range(2):  # the first may have begun before the rows were queued
        while flushed.acquire(blocking=False):
            pass
        assert flushed.acquire(timeout=10)
    np.testing.assert_array_equal(store.load_snapshot(writer.run_id).steps, block(1, 3).rows)
    writer.close()
    assert f"store-{writer.run_id}" not in {thread.name for thread in threading.enumerate()}


def test_finishing_records_the_end_and_releases(store: Store, writer: RunWriter) -> None:
    writer.write_event(block(1, 3))
    writer.write_event(END)  # alone, it ends nothing
    writer.flush()
    assert store.load_snapshot(writer.run_id).status is RunStatus.RUNNING
    writer.finish(END, ESTIMATE)
    loaded = store.load_snapshot(writer.run_id)
    assert (loaded.status, loaded.end, loaded.energy) == (RunStatus.FINISHED, END, ESTIMATE)
    assert loaded.reason == "all passes are done"
    assert loaded.steps.shape[1] == 3
    with pytest.raises(StoreError, match="is closed and cannot be written: create a new run"):
        writer.write_event(block(4, 1))


@pytest.mark.parametrize("call", ["power", "energy", "flush", "status", "finish", "knobs", "mark"])
def test_nothing_can_be_written_after_closing(writer: RunWriter, call: str) -> None:
    calls = {
        "power": lambda: writer.queue_power_rows(np.zeros((7, 1))),
        "energy": lambda: writer.queue_energy(ESTIMATE),
        "flush": writer.flush,
        "status": lambda: writer.set_status(RunStatus.PAUSED),
        "finish": lambda: writer.finish(END, ESTIMATE),
        "knobs": lambda: writer.queue_knob_values({}),
        "mark": writer.mark_exploratory,
    }
    writer.close()
    writer.close()
    with pytest.raises(StoreError, match="is closed"):
        calls[call]()


def test_closing_without_an_end_interrupts(store: Store, writer: RunWriter) -> None:
    writer.write_event(block(1, 3))
    writer.close()
    loaded = store.load_snapshot(writer.run_id)
    assert (loaded.status, loaded.steps.shape[1]) == (RunStatus.INTERRUPTED, 3)
    assert "its process ended" in loaded.reason


def test_a_run_may_be_finished_by_another_thread(store: Store, writer: RunWriter) -> None:
    thread = threading.Thread(target=writer.close)
    thread.start()
    thread.join()
    assert store.load_snapshot(writer.run_id).status is RunStatus.INTERRUPTED  # so its lock is free


def test_an_end_must_be_final_and_a_status_must_not(writer: RunWriter) -> None:
    with pytest.raises(ValueError, match="end.status='paused' is not final: expected finished"):
        writer.finish(end(status=RunStatus.PAUSED), ESTIMATE)
    with pytest.raises(ValueError, match=r"status='stopped' is final: .* finish\(\)"):
        writer.set_status(RunStatus.STOPPED)
    writer.flush()  # neither has closed it


def test_rows_of_the_wrong_shape_are_refused(writer: RunWriter) -> None:
    with pytest.raises(ValueError, match=r"do not fit power.f64: expected \(7, k\)"):
        writer.queue_power_rows(np.zeros((8, 1)))


def test_what_a_failed_flush_could_not_write_comes_with_the_next(
    store: Store, writer: RunWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> str:
        raise sqlite3.OperationalError("database or disk is full")

    writer.write_event(KnobChange(1, "mass", 0.5))
    writer.write_event(histogram(1))
    with monkeypatch.context() as patch:
        patch.setattr(store_writer, "encode_record", full)  # within the transaction
        with pytest.raises(StoreError, match="disk is full"):
            writer.flush()
    assert store.load_snapshot(writer.run_id).changes == ()
    writer.flush()
    loaded = store.load_snapshot(writer.run_id)
    assert loaded.changes == (KnobChange(1, "mass", 0.5),)
    assert loaded.histogram is not None


class Twice:
    """Stands for the event that ends the writer's thread: one turn, then stop."""

    def __init__(self) -> None:
        self._answers = [False, True]

    def wait(self, timeout: float) -> bool:
        return self._answers.pop(0)


def test_a_failure_in_the_background_reaches_the_writing_thread(
    store: Store, writer: RunWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: RunWriter) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(writer, "_stop_flushing", Twice())
        patch.setattr(RunWriter, "_flush_database", fail)
        writer._flush_regularly()
    with pytest.raises(StoreError, match="disk I/O error"):
        writer.write_event(block(1, 2))  # queued nevertheless
    writer.flush()
    writer.write_event(block(3, 1))
    writer.finish(END, ESTIMATE)
    np.testing.assert_array_equal(store.load_snapshot(writer.run_id).steps, block(1, 3).rows)


def test_a_run_whose_end_cannot_be_written_is_released(
    store: Store, writer: RunWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: RunWriter) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "_flush_database", fail)
        with pytest.raises(StoreError, match="disk I/O error"):
            writer.finish(END, ESTIMATE)
    assert store.load_snapshot(writer.run_id).status is RunStatus.INTERRUPTED


def test_closing_releases_a_run_that_cannot_be_written(
    store: Store,
    writer: RunWriter,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(self: RunWriter) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "_flush_database", fail)
        writer.close()
    assert "disk I/O error" in caplog.text
    assert store.load_snapshot(writer.run_id).status is RunStatus.INTERRUPTED


def test_exploratory_is_kept_or_marked(store: Store, writer: RunWriter) -> None:
    assert not store.load_snapshot(writer.run_id).exploratory
    writer.mark_exploratory()
    writer.flush()
    assert store.load_snapshot(writer.run_id).exploratory
    other = store.create_run(dataclasses.replace(CONFIG, seed=8), exploratory=True)
    other.close()
    assert store.load_snapshot(other.run_id).exploratory


def test_one_thread_may_write_while_another_flushes(store: Store, writer: RunWriter) -> None:
    def write() -> None:
        for step in range(1, 301):
            writer.write_event(block(step, 1))
            writer.write_event(KnobChange(step, "mass", step / 1000))
            writer.write_event(histogram(step))

    thread = threading.Thread(target=write)
    thread.start()
    while thread.is_alive():
        writer.flush()
        store.load_snapshot(writer.run_id)
    thread.join()
    writer.flush()
    loaded = store.load_snapshot(writer.run_id)
    np.testing.assert_array_equal(loaded.steps, block(1, 300).rows)
    assert [change.step for change in loaded.changes] == list(range(1, 301))
    assert loaded.histogram is not None
    assert loaded.histogram.step == 300
