from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from effcore.records import RunStatus
from effcore.runs import manager
from effcore.runs.manager import (
    DeviceBusyError,
    RunManager,
    active_run,
    close_shared_run_manager,
    shared_run_manager,
)
from effcore.runs.run import Run
from effcore.runs.stored_run import StoredRun
from effcore.store import Store, StoreError, new_run_id
from effcore.testing.tiny_task import TinyTask, tiny_task
from tests.tiny_runs import tiny_config

PATIENCE_S = 30.0
QUICK = {"epochs": 1}
ENDLESS = {"epochs": 1000}


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[RunManager]:
    runs = RunManager(Store(tmp_path))
    yield runs
    runs.stop_all(PATIENCE_S)
    runs.store.close()


def status(run: Run) -> RunStatus:
    return run.snapshot().status


def finished(run: Run) -> Run:
    assert run.join(PATIENCE_S)
    return run


def stored(runs: RunManager, run_id: str) -> StoredRun:
    run = runs.find_run(run_id)
    assert isinstance(run, StoredRun)
    return run


def test_a_run_is_active_while_it_trains_and_stored_afterwards(runs: RunManager) -> None:
    (run,) = runs.start(tiny_config(**ENDLESS))
    assert runs.active_run() is run
    assert runs.active_run("cpu") is run
    assert runs.active_run("cuda:0") is None
    assert runs.find_run(run.run_id) is run
    run.stop()
    finished(run)
    assert runs.active_run() is None
    assert runs.store.load_snapshot(run.run_id).status is RunStatus.STOPPED


def test_a_busy_device_refuses_and_names_the_run(runs: RunManager) -> None:
    (run,) = runs.start(tiny_config(**ENDLESS))
    with pytest.raises(
        DeviceBusyError, match=rf"run {run.run_id} is training on cpu: open it"
    ) as caught:
        runs.start(tiny_config())
    assert caught.value.active is run
    assert runs.queued_runs() == []


def test_queued_runs_train_in_their_order(runs: RunManager) -> None:
    (first,) = runs.start(tiny_config(**ENDLESS))
    (second,) = runs.start(tiny_config(**QUICK), when_busy="queue")
    (third,) = runs.start(tiny_config(**QUICK, seed=1), when_busy="queue")
    assert runs.queued_runs() == [second, third]
    assert status(second) is RunStatus.QUEUED
    first.stop()
    finished(third)
    assert [status(r) for r in (first, second, third)] == [
        RunStatus.STOPPED,
        RunStatus.FINISHED,
        RunStatus.FINISHED,
    ]
    created = [r.created_unix for r in runs.store.runs()]
    assert [r.run_id for r in runs.store.runs()] == [r.run_id for r in (third, second, first)]
    assert created == sorted(created, reverse=True)
    assert runs.queued_runs() == []


def test_replacing_stops_the_active_run_and_drops_the_queue(runs: RunManager) -> None:
    (first,) = runs.start(tiny_config(**ENDLESS))
    (dropped,) = runs.start(tiny_config(), when_busy="queue")
    (newest,) = runs.start(tiny_config(**QUICK), when_busy="replace")
    finished(newest)
    assert status(first) is RunStatus.STOPPED
    assert status(dropped) is RunStatus.STOPPED
    assert dropped.snapshot().reason == "replaced by another run"
    assert status(newest) is RunStatus.FINISHED


def test_a_run_stopped_in_the_queue_is_passed_over(runs: RunManager) -> None:
    (first,) = runs.start(tiny_config(**ENDLESS))
    (second,) = runs.start(tiny_config(), when_busy="queue")
    (third,) = runs.start(tiny_config(**QUICK), when_busy="queue")
    second.stop()
    first.stop()
    finished(third)
    assert status(second) is RunStatus.STOPPED
    assert not second.started
    assert status(third) is RunStatus.FINISHED


def test_only_one_run_trains_though_one_was_started_just_as_another_ended(runs: RunManager) -> None:
    reached, go_on = threading.Event(), threading.Event()
    (first,) = runs.start(tiny_config(**ENDLESS))
    on_end = first._on_end

    def held_up(run: Run) -> None:
        reached.set()
        assert go_on.wait(PATIENCE_S)
        on_end(run)

    first._on_end = held_up
    first.stop()
    assert reached.wait(PATIENCE_S)
    (second,) = runs.start(tiny_config(**ENDLESS))
    (third,) = runs.start(tiny_config(**QUICK), when_busy="queue")
    go_on.set()
    first._thread.join(PATIENCE_S)
    assert runs.active_run() is second
    assert not third.started
    second.stop()
    assert status(finished(third)) is RunStatus.FINISHED


# The dense reference ---------------------------------------------------------------------


def test_the_reference_trains_first_and_is_found_again(tmp_path: Path, runs: RunManager) -> None:
    dense, run = runs.start(tiny_config(**QUICK), with_reference=True)
    assert dense.config.selection == "dense"
    assert dense.config.seed == run.config.seed
    assert run.reference_id == dense.run_id
    finished(run)
    assert status(dense) is RunStatus.FINISHED
    (again,) = runs.start(tiny_config(**QUICK, mass=0.5), with_reference=True)
    assert again.reference_id == dense.run_id
    assert finished(again).snapshot().reference_id == dense.run_id
    assert runs.store.load_snapshot(again.run_id).reference_id == dense.run_id
    with_other_seed = runs.start(tiny_config(**QUICK, seed=5), with_reference=True)
    assert len(with_other_seed) == 2
    finished(with_other_seed[-1])
    later = RunManager(Store(tmp_path))
    (found,) = later.start(tiny_config(**QUICK, mass=0.6), with_reference=True)
    assert found.reference_id == dense.run_id
    finished(found)
    later.stop_all()
    later.store.close()


def test_a_reference_that_is_replaced_is_not_relied_on(runs: RunManager) -> None:
    dense, run = runs.start(tiny_config(**ENDLESS), with_reference=True)
    again = runs.start(tiny_config(**ENDLESS, mass=0.6), with_reference=True, when_busy="replace")
    assert len(again) == 2, "the dense run that was stopped is no reference"
    assert again[1].reference_id == again[0].run_id != dense.run_id
    assert status(finished(dense)) is status(run) is RunStatus.STOPPED
    again[0].stop()
    (later,) = runs.start(tiny_config(**QUICK), when_busy="queue")
    again[1].stop()
    finished(later)


def test_a_reference_on_its_way_serves_a_second_run(runs: RunManager) -> None:
    dense, _ = runs.start(tiny_config(**ENDLESS), with_reference=True)
    (second,) = runs.start(tiny_config(**ENDLESS, mass=0.6), with_reference=True, when_busy="queue")
    assert second.reference_id == dense.run_id


def test_a_model_that_changed_is_no_reference(
    runs: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense, run = runs.start(tiny_config(**QUICK), with_reference=True)
    finished(run)

    def other(size: str) -> torch.nn.Sequential:
        return torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Linear(4, 2))

    wider = dataclasses.replace(TinyTask.models[0], build=other)
    monkeypatch.setattr(TinyTask, "models", (wider,))
    found = runs.start(tiny_config(**QUICK), with_reference=True)
    finished(found[-1])
    assert len(found) == 2
    assert found[1].reference_id != dense.run_id


def test_a_store_that_fails_while_replacing_leaves_the_active_run_alone(
    runs: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = runs.start(tiny_config(**ENDLESS))

    def fail(*_: object) -> None:
        raise StoreError("the disk is gone")

    monkeypatch.setattr(runs.store, "find_reference", fail)
    with pytest.raises(StoreError, match="the disk is gone"):
        runs.start(tiny_config(**QUICK), with_reference=True, when_busy="replace")
    assert runs.active_run() is first
    assert not first.stop_requested
    assert runs.queued_runs() == []


def test_a_stored_run_is_read_once_and_missed_once_deleted(
    tmp_path: Path, runs: RunManager
) -> None:
    (run,) = runs.start(tiny_config(**QUICK))
    finished(run)
    others = RunManager(Store(tmp_path))
    assert stored(others, run.run_id) is stored(others, run.run_id)
    others.store.delete_run(run.run_id)
    assert others.find_run(run.run_id) is None
    others.store.close()


def test_a_dense_run_is_its_own_reference(runs: RunManager) -> None:
    (run,) = runs.start(tiny_config(**QUICK, selection="dense"), with_reference=True)
    finished(run)
    assert run.reference_id is None


# The store -------------------------------------------------------------------------------


def test_old_runs_leave_memory_and_are_read_from_the_store(
    runs: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "MAX_FINISHED_RUNS", 1)
    (first,) = runs.start(tiny_config(**QUICK))
    finished(first)._thread.join(PATIENCE_S)
    (second,) = runs.start(tiny_config(**QUICK))
    finished(second)._thread.join(PATIENCE_S)
    assert runs.find_run(second.run_id) is second
    old = stored(runs, first.run_id)
    assert old.snapshot().end == first.snapshot().end
    assert (old.snapshot().steps == first.snapshot().steps).all()
    assert old.reproduction_command() == first.reproduction_command()
    assert old.description() == first.description()
    assert old.knob_specs() == first.knob_specs()


def test_a_stored_run_refuses_steering(runs: RunManager) -> None:
    (run,) = runs.start(tiny_config(**QUICK))
    finished(run)._thread.join(PATIENCE_S)
    over = StoredRun(runs.store, run.run_id)
    asks: list[Any] = [over.pause, over.resume, over.step_once, over.stop]
    asks += [lambda: over.set_pace("slow"), lambda: over.set_knob("mass", 0.5)]
    for ask in asks:
        with pytest.raises(
            RuntimeError, match=rf"run {run.run_id} has ended and cannot be steered"
        ):
            ask()


def test_a_run_of_another_process_is_shown_and_not_steered(
    tmp_path: Path, runs: RunManager
) -> None:
    (run,) = runs.start(tiny_config(**ENDLESS))
    elsewhere = RunManager(Store(tmp_path))
    seen = stored(elsewhere, run.run_id)
    assert seen.snapshot().status is RunStatus.RUNNING
    with pytest.raises(RuntimeError, match="trains in another process"):
        seen.pause()
    assert elsewhere.active_run() is None
    elsewhere.store.close()


@pytest.mark.parametrize("run_id", ["nonsense", "../../etc", "20261123-224501-zzzz"])
def test_a_run_that_is_not_there_is_none(runs: RunManager, run_id: str) -> None:
    assert runs.find_run(run_id) is None


def test_a_run_that_cannot_be_stored_does_not_start_nor_block_the_next(
    runs: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise StoreError("the disk is full: make room")

    with monkeypatch.context() as broken:
        broken.setattr(runs.store, "create_run", refuse)
        with pytest.raises(StoreError, match="make room"):
            runs.start(tiny_config(**QUICK))
    assert runs.active_run() is None
    assert runs.queued_runs() == []
    (run,) = runs.start(tiny_config(**QUICK))
    assert status(finished(run)) is RunStatus.FINISHED


def test_a_queued_run_that_cannot_be_stored_says_so(
    runs: RunManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = runs.start(tiny_config(**ENDLESS))
    (second,) = runs.start(tiny_config(**QUICK), when_busy="queue")

    def refuse() -> Any:
        raise StoreError("the disk is full: make room")

    monkeypatch.setattr(second, "_open_writer", refuse)
    first.stop()
    finished(second)
    assert status(second) is RunStatus.FAILED
    assert second.snapshot().reason == "the disk is full: make room"


def test_stop_all_stores_the_active_run_and_drops_the_queue(tmp_path: Path) -> None:
    runs = RunManager(Store(tmp_path))
    (first,) = runs.start(tiny_config(**ENDLESS))
    first.pause()
    (second,) = runs.start(tiny_config(**QUICK), when_busy="queue")
    runs.stop_all(PATIENCE_S)
    assert first.done.is_set()
    assert runs.store.load_snapshot(first.run_id).status is RunStatus.STOPPED
    assert status(second) is RunStatus.STOPPED
    assert not second.started
    runs.store.close()


# The process's own -----------------------------------------------------------------------


def test_the_process_has_one_runs_until_it_is_closed() -> None:
    first = shared_run_manager()
    assert shared_run_manager() is first
    (run,) = first.start(tiny_config(**ENDLESS))
    assert active_run() is run
    assert shared_run_manager().find_run(run.run_id) is run
    close_shared_run_manager()
    assert run.done.is_set()
    assert shared_run_manager() is not first
    found = shared_run_manager().find_run(run.run_id)
    assert isinstance(found, StoredRun)
    assert found.snapshot().status is RunStatus.STOPPED


def test_a_store_that_cannot_be_used_is_named_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file, not a folder")
    monkeypatch.setenv("EFFCORE_HOME", str(blocked))
    with pytest.raises(StoreError):
        shared_run_manager()
    assert active_run() is None
    with pytest.raises(StoreError):
        shared_run_manager().find_run(new_run_id())
    blocked.unlink()
    assert shared_run_manager().active_run() is None


def test_what_trains_in_another_process_is_known_and_ends(tmp_path: Path, runs: RunManager) -> None:
    others = RunManager(Store(tmp_path))  # as another process would open the same folder
    (run,) = others.start(tiny_config(**ENDLESS))
    assert runs.runs_in_other_processes("cpu") == [run.run_id]
    assert runs.runs_in_other_processes("cuda:0") == []
    assert others.runs_in_other_processes("cpu") == []
    (own,) = runs.start(tiny_config(**ENDLESS))
    assert runs.runs_in_other_processes("cpu") == [run.run_id]
    assert others.runs_in_other_processes("cpu") == [own.run_id]
    others.stop_all(PATIENCE_S)
    others.store.close()
    assert runs.runs_in_other_processes("cpu") == []
