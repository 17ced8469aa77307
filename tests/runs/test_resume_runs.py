"""Interrupted runs taken up from the store: bit-identical, or left as they are, in words."""

from __future__ import annotations

import dataclasses
import shutil
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effcore.records import EnergyQuality, KnobChange, RunStatus, Snapshot, StepEvent
from effcore.records.resume_history import ResumeHistory
from effcore.runs import resume
from effcore.runs.manager import DeviceBusyError, DeviceReservedError, RunManager
from effcore.runs.resume import CheckpointSchedule, checkpoint_origin, origin_differences
from effcore.store import Store, StoreError
from effcore.store.checkpoint_file import CHECKPOINT_FILE
from effcore.store.run_files import EPOCH_RECORDS_FILE, read_epoch_records
from effcore.testing.tiny_task import tiny_task
from effcore.training.checkpoint import Checkpoint, CheckpointError, pack_state, unpack_state
from effcore.training.trainer import Training, train
from tests.left import leave
from tests.store.samples import ESTIMATE
from tests.tiny_runs import tiny_config

LEFT_AT = 12
#: A run whose replayed change comes after the checkpoint, and one before.
CONFIG: dict[str, Any] = {
    "selection": "confident-skip",
    "changes": (KnobChange(5, "mass", 0.6), KnobChange(15, "mass", 0.2)),
}


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    with tiny_task():
        yield


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store with one interrupted run, to be copied."""
    home = tmp_path_factory.mktemp("left")
    store = Store(home)
    run_id = leave(store, tiny_config(**CONFIG), LEFT_AT, 7)
    store.close()
    return home, run_id


@pytest.fixture
def runs(left: tuple[Path, str], tmp_path: Path) -> Iterator[RunManager]:
    shutil.copytree(left[0], tmp_path / "home")
    found = RunManager(Store(tmp_path / "home"))
    yield found
    found.stop_all()
    found.store.close()


@pytest.fixture
def run_id(left: tuple[Path, str]) -> str:
    return left[1]


def stored(runs: RunManager, run_id: str) -> Path:
    return runs.store.home / "runs" / run_id


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def check_refused(runs: RunManager, run_id: str, match: str) -> None:
    """Check that a run cannot be resumed, says why, and stays as it is."""
    folder, before = stored(runs, run_id), runs.store.load_snapshot(run_id)
    files = bytes_of(folder)
    with pytest.raises(StoreError, match=match):
        runs.resume(run_id)
    assert bytes_of(folder) == files
    check_same(runs.store.load_snapshot(run_id), before)


def check_same(look: Snapshot, before: Snapshot) -> None:
    assert look.status is before.status is RunStatus.INTERRUPTED
    np.testing.assert_array_equal(look.steps, before.steps)
    assert (look.changes, look.energy, look.resumed) == (
        before.changes,
        before.energy,
        ResumeHistory(),
    )


def test_a_resumed_run_ends_as_one_never_interrupted(runs: RunManager, run_id: str) -> None:
    left_at = runs.store.load_snapshot(run_id)
    assert left_at.status is RunStatus.INTERRUPTED
    assert (left_at.steps_done, len(left_at.changes)) == (LEFT_AT + 7, 2)
    run = runs.resume(run_id)
    assert run.run_id == run_id
    assert run.join(30)
    whole = runs.start(tiny_config(**CONFIG))[-1]
    assert whole.join(30)
    for look in (run.snapshot(), runs.store.load_snapshot(run_id)):
        check_ended_alike(look, whole.snapshot())
        assert look.reason == "interrupted, and resumed from its checkpoint after step 12"
        assert look.created_unix == left_at.created_unix
    losses = [
        (stored(runs, each) / EPOCH_RECORDS_FILE).read_bytes() for each in (run_id, whole.run_id)
    ]
    assert losses[0] == losses[1]
    assert [each.epoch_index for each in read_epoch_records(stored(runs, run_id))] == [0, 1, 2]
    assert not (stored(runs, run_id) / CHECKPOINT_FILE).exists()
    check_refused_when_over(runs, run_id)


def check_ended_alike(look: Snapshot, whole: Snapshot) -> None:
    assert look.end is not None
    assert whole.end is not None
    fields = dataclasses.asdict(look.end) | {"seconds": whole.end.seconds, "reason": ""}
    assert fields == dataclasses.asdict(whole.end), "and by that its parameters"
    np.testing.assert_array_equal(np.delete(look.steps, 3, 0), np.delete(whole.steps, 3, 0))
    np.testing.assert_array_equal(np.delete(look.evals, 2, 0), np.delete(whole.evals, 2, 0))
    assert (np.diff(look.steps[3]) >= 0).all()
    assert (look.changes, look.knobs) == (whole.changes, whole.knobs)
    assert look.resumed == ResumeHistory((LEFT_AT,))
    assert look.energy.quality is EnergyQuality.UNAVAILABLE, "of two kinds, one of them made up"
    assert "interrupted and resumed" in look.attribution.why


def check_refused_when_over(runs: RunManager, run_id: str) -> None:
    with pytest.raises(StoreError, match="is finished: only an interrupted run can be resumed"):
        runs.resume(run_id)


def test_every_run_is_saved_on_its_way(
    runs: RunManager, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "FIRST_CHECKPOINT_S", 0.0)
    monkeypatch.setattr("effcore.store.writer.FLUSH_INTERVAL_S", 0.01)
    run = runs.start(tiny_config(epochs=1000))[-1]
    while not runs.store.has_checkpoint(run.run_id):
        assert not run.join(0.002), "it ended unsaved"
    run.stop()
    assert run.join(30)
    assert not runs.store.has_checkpoint(run.run_id), "what has ended needs none"


def test_a_run_saved_before_it_was_resumed_can_be_resumed_again(
    runs: RunManager, run_id: str
) -> None:
    writer, kept = runs.store.reopen_run(run_id)
    look = resume.build_resume_point(runs.store.load_snapshot(run_id), kept)
    for event in train(look.snapshot_at_checkpoint.config, None, lambda: 2.0, look.checkpoint):
        writer.queue_resume_history(look.resume_history)
        writer.write_event(event)
        break
    writer.close()
    cut = runs.store.load_snapshot(run_id)
    assert (cut.steps_done, cut.status, len(cut.changes)) == (LEFT_AT, RunStatus.INTERRUPTED, 1)
    run = runs.resume(run_id)
    assert run.join(30)
    assert run.snapshot().resumed.steps == (LEFT_AT, LEFT_AT)


def test_joules_of_after_the_checkpoint_are_taken_back(runs: RunManager, run_id: str) -> None:
    writer, kept = runs.store.reopen_run(run_id)
    writer.close()
    later = dataclasses.replace(ESTIMATE, seconds=1e6)
    look = dataclasses.replace(runs.store.load_snapshot(run_id), energy=later)
    point = resume.build_resume_point(look, kept)
    assert point.snapshot_at_checkpoint.energy == ESTIMATE


def test_what_is_not_interrupted_or_not_saved_is_refused(runs: RunManager, run_id: str) -> None:
    with pytest.raises(StoreError, match="unknown run"):
        runs.resume("20261123-224501-k3f9")
    (stored(runs, run_id) / CHECKPOINT_FILE).unlink()
    check_refused(runs, run_id, "interrupted before the first one: start a new run")
    writer = runs.store.create_run(tiny_config())
    with pytest.raises(StoreError, match="is live: stop it first"):
        runs.resume(writer.run_id)
    writer.close()


def test_a_device_that_is_taken_is_left_alone(runs: RunManager, run_id: str) -> None:
    runs.reserve_device("cpu", "a study")
    with pytest.raises(DeviceReservedError):
        runs.resume(run_id)
    runs.release_device("cpu")
    active = runs.start(tiny_config(epochs=1000))[-1]
    with pytest.raises(DeviceBusyError):
        runs.resume(run_id)
    active.stop()
    assert active.join(30)
    assert runs.store.load_snapshot(run_id).status is RunStatus.INTERRUPTED


@pytest.mark.parametrize("damage", ["cut short", "another version", "a bit", "a shorter table"])
def test_a_damaged_checkpoint_is_said_to_be_so(runs: RunManager, run_id: str, damage: str) -> None:
    path = stored(runs, run_id) / CHECKPOINT_FILE
    data = bytearray(path.read_bytes())
    match = {
        "cut short": "its checksum is wrong",
        "another version": "not a checkpoint of this version of Effcore",
        "a bit": "its checksum is wrong",
        "a shorter table": "steps.f64 is shorter than at the checkpoint",
    }[damage]
    if damage == "cut short":
        del data[len(data) // 2 :]
    elif damage == "another version":
        data[:8] = b"EFFCKPT9"
    elif damage == "a bit":
        data[len(data) // 2] ^= 4
    else:
        table = stored(runs, run_id) / "steps.f64"
        table.write_bytes(table.read_bytes()[:64])
    path.write_bytes(data)
    check_refused(runs, run_id, match)


def repack(runs: RunManager, run_id: str, change: Any) -> None:
    """Change what a checkpoint says and write it as a whole one."""
    path = stored(runs, run_id) / CHECKPOINT_FILE
    tree = unpack_state(path.read_bytes())
    change(tree)
    path.write_bytes(b"".join(bytes(part) for part in pack_state(tree)))


def test_a_run_of_another_model_or_effcore_is_refused(runs: RunManager, run_id: str) -> None:
    repack(runs, run_id, lambda tree: tree["checkpoint"]["origin"].update(effcore="0.0.1"))
    check_refused(runs, run_id, "has changed, so that the run cannot continue; start a new run")


def test_a_state_that_does_not_fit_leaves_the_run_as_it_is(runs: RunManager, run_id: str) -> None:
    repack(runs, run_id, lambda tree: tree["checkpoint"]["state"]["chooser"].pop("open_N"))
    before = runs.store.load_snapshot(run_id)
    run = runs.resume(run_id)
    assert run.join(30)
    look = run.snapshot()
    assert look.status is RunStatus.INTERRUPTED
    assert look.reason.startswith("It could not be resumed: it belongs to a run of another kind")
    check_same(runs.store.load_snapshot(run_id), before)
    assert runs.store.has_checkpoint(run_id)


def test_a_run_resumed_on_another_machine_says_that_it_may_differ(
    runs: RunManager, run_id: str
) -> None:
    repack(runs, run_id, lambda tree: tree["checkpoint"]["origin"].update(PyTorch="2.0.0"))
    run = runs.resume(run_id)
    assert run.join(30)
    look = runs.store.load_snapshot(run_id)
    assert "may differ in its last bits from an uninterrupted run, since PyTorch was" in (
        look.reason
    )
    assert look.exploratory, "so that nothing is judged by it"


def test_only_what_changes_numbers_is_compared() -> None:
    here = checkpoint_origin(tiny_config())
    assert origin_differences(here, here) == ""
    with pytest.raises(CheckpointError, match="start a new run"):
        origin_differences({**here, "configuration": "another"}, here)


def test_bytes_of_every_kind_come_back() -> None:
    tree: dict[str, Any] = {
        "empty": np.empty((0, 3), np.float32),
        "scalar": np.array(3, np.int64),
        "bits": np.array([True, False]),
        "deep": [{"none": None, "inf": float("inf"), "third": 1 / 3}, np.float64(0.1)],
    }
    found = unpack_state(b"".join(bytes(part) for part in pack_state(tree)))
    assert found["deep"] == [{"none": None, "inf": float("inf"), "third": 1 / 3}, 0.1]
    for name in ("empty", "scalar", "bits"):
        assert found[name].dtype == tree[name].dtype
        np.testing.assert_array_equal(found[name], tree[name])
    for wrong in (np.array(["text"]), object()):
        with pytest.raises(CheckpointError, match="a checkpoint cannot store"):
            pack_state({"wrong": wrong})


def forged(head: bytes, body: bytes = b"") -> bytes:
    """Bytes whose checksum is right."""
    return struct.pack("<8sIQ", b"EFFCKPT1", zlib.crc32(head + body), len(head)) + head + body


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"EFFCKPT1",
        forged(b"{"),
        forged(b"[]"),
        forged(b'{"tree": {"@array": 0}, "arrays": []}'),
        forged(b'{"tree": {}, "arrays": [["object", [1]]]}', b"12345678"),
        forged(b'{"tree": {}, "arrays": [["float64", [9999999999]]]}', b"12345678"),
        forged(b'{"tree": {}, "arrays": [["float64", [-1]]]}', b"12345678"),
        forged(b'{"tree": {}, "arrays": [["uint8", [1]]]}', b"12345678"),
        forged(b'{"tree": {}, "arrays": 7}'),
        forged(b"[" * 100_000),
    ],
)
def test_no_bytes_are_more_than_a_message(data: bytes) -> None:
    with pytest.raises(CheckpointError):
        unpack_state(data)


def test_nothing_is_saved_before_the_first_step_or_with_a_step_unreported() -> None:
    training = train(tiny_config(), None, lambda: 0.0)
    assert training.checkpoint() is None
    found: list[Checkpoint | None] = []
    for event in training:
        if isinstance(event, StepEvent):
            found.append(training.checkpoint())
            if event.step == 3:
                break
        else:
            assert training.checkpoint() is None
    assert [checkpoint is None for checkpoint in found] == [False, True, True]


# When checkpoints are taken --------------------------------------------------------------


class Saved(Training):
    """A training of which a checkpoint takes some seconds, or cannot be taken.

    Attributes:
        now_s: The time, which taking one moves.
        asked: How often one was asked for.
    """

    def __init__(self, seconds: float, fails: bool = False) -> None:
        self.now_s, self.asked = 0.0, 0
        self._seconds, self._fails = seconds, fails

    def checkpoint(self) -> Checkpoint | None:
        self.asked += 1
        self.now_s += self._seconds
        if self._fails:
            raise CheckpointError("cannot keep a set in a checkpoint")
        return Checkpoint(1, 0.0, {})


@pytest.mark.parametrize(("seconds", "interval_s"), [(0.001, 5.0), (0.1, 50.0)])
def test_a_checkpoint_that_takes_long_is_taken_rarely(seconds: float, interval_s: float) -> None:
    training = Saved(seconds)
    schedule = CheckpointSchedule(tiny_config(), lambda: training.now_s)
    for due_s in (1.0, 1.001 + seconds + interval_s):
        training.now_s = due_s - 0.01
        assert schedule.checkpoint_if_due(training) is None
        training.now_s = due_s
        found = schedule.checkpoint_if_due(training)
        assert found is not None
        assert found.origin == checkpoint_origin(tiny_config())
    assert training.asked == 2


def test_a_run_whose_state_cannot_be_kept_is_asked_for_it_once() -> None:
    training = Saved(0.0, fails=True)
    schedule = CheckpointSchedule(tiny_config(), lambda: training.now_s)
    for training.now_s in (1.0, 10.0, 1e6):
        assert schedule.checkpoint_if_due(training) is None
    assert training.asked == 1
