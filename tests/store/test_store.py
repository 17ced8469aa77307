from __future__ import annotations

import dataclasses
import logging
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import platformdirs
import pytest

from effcore.home import default_home
from effcore.records import Energy, EnergyQuality, RunConfig, RunStatus
from effcore.records.attribution import (
    ATTRIBUTION_NOT_RECORDED,
    AttributedPhaseEnergy,
    PhaseAttribution,
)
from effcore.store import (
    DamagedRunError,
    RunWriter,
    Store,
    StoreError,
    UnknownRunError,
    new_run_id,
)
from effcore.store.db import DATABASE_FILE
from effcore.store.run_files import STEPS_FILE, VIEW_FILE
from tests.store.samples import CONFIG, DENSE, END, ESTIMATE, block, end, opened

HOSTILE = ["../../x", "..", "", ".", "/etc", "a/b", "20261123-224501-k3f9/..", "C:\\x",
           "20261123-224501-K3F9", "20261123-224501-k3f9\n", "２0261123-224501-k3f9"]  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with opened(tmp_path) as store:
        yield store


def add(store: Store, config: RunConfig = CONFIG, status: str = "finished", **kwargs: Any) -> str:
    writer = store.create_run(config, **kwargs)
    writer.write_event(block(1, 2))
    writer.finish(end(status=RunStatus(status)), ESTIMATE)
    return writer.run_id


def spoil(store: Store, sql: str, *values: object) -> None:
    with sqlite3.connect(store.home / DATABASE_FILE) as connection:
        assert connection.execute(sql, values).rowcount == 1
    connection.close()


def test_home_follows_the_environment_then_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EFFCORE_HOME", "~/somewhere")
    assert default_home() == Path.home() / "somewhere"
    for unset in ("", None):
        if unset is None:
            monkeypatch.delenv("EFFCORE_HOME")
        else:
            monkeypatch.setenv("EFFCORE_HOME", unset)
        assert default_home() == platformdirs.user_data_path("effcore", appauthor=False)


def test_ids_sort_by_time_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = {new_run_id() for _ in range(50)}
    assert len(ids) > 45
    assert all(re.fullmatch(r"\d{8}-\d{6}-[0-9a-z]{4}", name) for name in ids)
    monkeypatch.setattr("time.gmtime", lambda: (2026, 11, 23, 22, 45, 1, 0, 327, 0))
    assert new_run_id().startswith("20261123-224501-")


def test_messages_name_the_store_as_the_user_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EFFCORE_HOME", str(tmp_path / "file"))
    with pytest.raises(StoreError, match="the store at EFFCORE_HOME cannot"):
        Store()
    with pytest.raises(StoreError, match="the store in 'file' cannot"):
        Store(tmp_path / "file")
    monkeypatch.delenv("EFFCORE_HOME")
    monkeypatch.setattr("platformdirs.user_data_path", lambda *_, **__: tmp_path / "file")
    with pytest.raises(StoreError, match=r"the default store \(EFFCORE_HOME is not set\) cannot"):
        Store()


def test_a_finished_run_is_listed_and_loaded(store: Store) -> None:
    run_id = add(store, reference_id="20260101-000000-abcd")
    (summary,) = store.runs()
    loaded = store.load_snapshot(run_id)
    for record in (summary, loaded):
        assert (record.run_id, record.config, record.end) == (run_id, CONFIG, END)
        assert (record.energy, record.status) == (ESTIMATE, RunStatus.FINISHED)
        assert record.reference_id == "20260101-000000-abcd"
        assert not record.exploratory
    assert loaded.created_unix == summary.created_unix


def test_a_run_without_energy_says_that_it_is_unavailable(store: Store) -> None:
    writer = store.create_run(CONFIG)
    writer.write_event(block(1, 4))
    writer.close()
    assert store.runs()[0].energy is None
    energy = store.load_snapshot(writer.run_id).energy
    assert (energy.joules, energy.lo, energy.hi) == (None, None, None)
    assert energy.quality is EnergyQuality.UNAVAILABLE
    assert energy.seconds == 4 + 3 / 16  # the "seconds" of the last row


def test_what_phases_took_is_kept_with_the_run(store: Store) -> None:
    found = (
        AttributedPhaseEnergy("forward", 5.0, 4.0, 6.0, 1.5),
        AttributedPhaseEnergy("data", None, 0.0, 9.0, 0.5),
    )
    for attribution in (
        PhaseAttribution(found, notes=("a note",)),
        PhaseAttribution(why="too few steps"),
    ):
        writer = store.create_run(CONFIG)
        writer.finish(END, ESTIMATE, attribution)
        assert store.load_snapshot(writer.run_id).attribution == attribution
    assert store.load_snapshot(add(store)).attribution == ATTRIBUTION_NOT_RECORDED, (
        "as in earlier versions"
    )


@pytest.mark.parametrize("quality", EnergyQuality)
def test_an_estimate_comes_back_as_an_estimate(store: Store, quality: EnergyQuality) -> None:
    writer = store.create_run(CONFIG)
    energy = Energy(None, 1.0, 2.0, 3.0, quality, "source", "scope", ("note", "another"))
    writer.finish(END, energy)
    assert store.load_snapshot(writer.run_id).energy == energy
    assert store.runs()[0].energy == energy


def test_the_list_is_newest_first_and_limited(store: Store) -> None:
    ids = [add(store, dataclasses.replace(CONFIG, seed=seed)) for seed in range(4)]
    assert [run.run_id for run in store.runs()] == ids[::-1]
    assert [run.run_id for run in store.runs(limit=2)] == ids[:1:-1]


def test_a_live_run_is_live_to_others_and_interrupted_once_released(
    store: Store, tmp_path: Path
) -> None:
    writer = store.create_run(CONFIG)
    with opened(tmp_path) as other:
        assert other.runs()[0].status is RunStatus.RUNNING
        writer.set_status(RunStatus.PAUSED)
        assert other.load_snapshot(writer.run_id).status is RunStatus.PAUSED
        writer.close()
        assert other.runs()[0].status is RunStatus.INTERRUPTED
        assert other.load_snapshot(writer.run_id).status is RunStatus.INTERRUPTED


def test_a_run_that_finishes_while_it_is_read_is_not_interrupted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = store.create_run(CONFIG)

    def finish_now(folder: Path) -> bool:
        writer.finish(END, ESTIMATE)
        return False

    monkeypatch.setattr("effcore.store.store.is_run_locked", finish_now)
    (summary,) = store.runs()
    assert (summary.status, summary.end) == (RunStatus.FINISHED, END)


def test_a_run_that_is_deleted_while_it_is_read_is_left_out(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store)
    writer = store.create_run(CONFIG)
    writer.close()

    def delete_now(folder: Path) -> bool:
        store.delete_run(writer.run_id)
        return False

    monkeypatch.setattr("effcore.store.store.is_run_locked", delete_now)
    assert len(store.runs()) == 1


def test_a_killed_process_leaves_an_interrupted_run(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from effcore.store import Store\n"
        "from tests.store.samples import CONFIG, block\n"
        "writer = Store(Path(sys.argv[1])).create_run(CONFIG); writer.write_event(block(1, 5))\n"
        "writer.flush(); print(writer.run_id, flush=True); sys.stdin.read()\n"
    )
    with (
        opened(tmp_path) as store,
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=Path(__file__).parents[2],
        ) as process,
    ):  # fmt: skip
        assert process.stdout is not None
        run_id = process.stdout.readline().strip()
        assert store.load_snapshot(run_id).status is RunStatus.RUNNING
        with pytest.raises(StoreError, match="is live: stop it first"):
            store.delete_run(run_id)
        process.kill()
        process.wait(10)
        loaded = store.load_snapshot(run_id)
        assert (loaded.status, loaded.steps.shape[1]) == (RunStatus.INTERRUPTED, 5)
        store.delete_run(run_id)
        assert store.runs() == []


@pytest.mark.parametrize("run_id", HOSTILE)
def test_hostile_ids_are_refused(store: Store, run_id: str) -> None:
    with pytest.raises(StoreError, match="is not a run's id: expected one like 2026"):
        store.load_snapshot(run_id)
    with pytest.raises(StoreError, match="is not a run's id"):
        store.delete_run(run_id)
    if run_id:
        with pytest.raises(StoreError, match="is not a run's id"):
            store.create_run(CONFIG, run_id=run_id)


def test_unknown_runs_are_refused(store: Store) -> None:
    with pytest.raises(UnknownRunError, match="unknown run '20261123-224501-k3f9'"):
        store.load_snapshot("20261123-224501-k3f9")
    with pytest.raises(UnknownRunError, match="unknown run"):
        store.delete_run("20261123-224501-k3f9")


def test_an_id_can_be_chosen_once(store: Store) -> None:
    name = "20261123-224501-k3f9"
    assert add(store, run_id=name) == name
    with pytest.raises(StoreError, match=f"runs/{name} of .* exists already"):
        store.create_run(CONFIG, run_id=name)
    assert store.load_snapshot(name).end == END
    shutil.rmtree(store.home / "runs" / name)
    with pytest.raises(StoreError, match="has a run with this id already.*use another run id"):
        store.create_run(CONFIG, run_id=name)
    assert not (store.home / "runs" / name).exists()  # nothing is left of the attempt


DAMAGE = [
    ("UPDATE runs SET config = '{' WHERE run_id = ?", "RunConfig is damaged"),
    ("UPDATE runs SET config = '{}' WHERE run_id = ?", "it lacks batch_size, budget"),
    ("UPDATE runs SET config = CAST(x'ff00fe' AS TEXT) WHERE run_id = ?", "RunConfig"),
    ("UPDATE runs SET status = 'lost' WHERE run_id = ?", "'lost' is not a valid RunStatus"),
    ("UPDATE runs SET progress = 'x' WHERE run_id = ?", "could not convert"),
    ("UPDATE events SET data = '[' WHERE run_id = ? AND kind = 'end'", "RunEnd"),
    ("UPDATE events SET data = '{}' WHERE run_id = ? AND kind = 'energy'", "Energy"),
]


@pytest.mark.parametrize(("sql", "expected"), DAMAGE)
def test_one_damaged_run_does_not_blank_the_list(
    store: Store, caplog: pytest.LogCaptureFixture, sql: str, expected: str
) -> None:
    good, bad, other = (add(store) for _ in range(3))
    spoil(store, sql, bad)
    for _ in range(2):
        assert [run.run_id for run in store.runs()] == [other, good]
    (message,) = (r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)
    assert bad in message
    assert expected in message
    with pytest.raises(
        DamagedRunError, match="restore it from a copy. Other runs are not affected"
    ):
        store.load_snapshot(bad)
    store.delete_run(bad)
    assert store.load_snapshot(good).end == END


def test_a_row_with_a_hostile_id_opens_no_file(store: Store) -> None:
    good, bad = add(store), add(store)
    spoil(store, "UPDATE runs SET run_id = '../../x' WHERE run_id = ?", bad)
    assert [run.run_id for run in store.runs()] == [good]


def test_a_missing_file_is_named(store: Store) -> None:
    run_id = add(store)
    (store.home / "runs" / run_id / STEPS_FILE).unlink()
    assert len(store.runs()) == 1
    with pytest.raises(StoreError, match=f"runs/{run_id} of .* is missing") as caught:
        store.load_snapshot(run_id)
    assert str(store.home) not in str(caught.value)


def test_a_damaged_knob_change_is_named(store: Store) -> None:
    run_id = add(store)
    spoil(store, "INSERT INTO changes (run_id, step, name, value) VALUES (?, 1, 'm', 'x')", run_id)
    with pytest.raises(DamagedRunError, match="has a value that is not a number"):
        store.load_snapshot(run_id)


def test_a_damaged_view_does_not_withhold_the_run(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    run_id = add(store)
    (store.home / "runs" / run_id / VIEW_FILE).write_bytes(b"nonsense")
    loaded = store.load_snapshot(run_id)
    assert (loaded.view, loaded.end) == (None, END)
    assert "is shown without its view" in caplog.text


def test_a_database_damaged_while_open_is_reported_and_left(store: Store) -> None:
    add(store)
    store.query("PRAGMA wal_checkpoint(TRUNCATE)")
    path = store.home / DATABASE_FILE
    damaged = path.read_bytes()[:100] + b"\xa5" * (path.stat().st_size - 100)
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match="effcore.sqlite"):
        Store(store.home)
    assert path.read_bytes() == damaged


def test_a_deleted_run_is_gone_and_the_others_are_not(store: Store) -> None:
    gone, kept = add(store), add(store)
    store.delete_run(gone)
    assert [run.run_id for run in store.runs()] == [kept]
    assert not (store.home / "runs" / gone).exists()
    assert store.query("SELECT * FROM events WHERE run_id = ?", gone) == []
    with pytest.raises(UnknownRunError):
        store.load_snapshot(gone)


def test_a_run_whose_files_are_gone_can_be_deleted(store: Store) -> None:
    run_id = add(store)
    shutil.rmtree(store.home / "runs" / run_id)
    store.delete_run(run_id)
    assert store.runs() == []


def test_the_reference_is_the_newest_finished_dense_twin(store: Store) -> None:
    assert store.find_reference(CONFIG) is None
    add(store)  # the run itself is no reference
    add(store, DENSE)
    newest = add(store, DENSE)
    add(store, DENSE, status="stopped")
    add(store, DENSE, exploratory=True)
    store.create_run(DENSE).close()
    assert store.find_reference(CONFIG) == newest
    assert store.find_reference(dataclasses.replace(CONFIG, budget=None)) == newest
    store.delete_run(newest)
    assert store.find_reference(CONFIG) not in (None, newest)


@pytest.mark.parametrize(
    "difference",
    [
        {"selection": "random"},
        {"update": "skip-step"},
        {"budget": 0.6},
        {"task": "photo"},
        {"model": "mlp"},
        {"epochs": 4},
        {"batch_size": 32},
        {"learning_rate": 2e-3},
        {"seed": 8},
        {"device": "cuda"},
        {"optimizer": "sgd"},
        {"precision": "bf16"},
        {"threads": 2},
        {"size": "large"},
        {"data": {"label_noise": 0.1}},
    ],
)
def test_another_configuration_is_no_reference(store: Store, difference: dict[str, Any]) -> None:
    add(store, dataclasses.replace(DENSE, **difference))
    assert store.find_reference(CONFIG) is None


def test_a_run_marked_exploratory_later_is_no_reference(store: Store) -> None:
    writer = store.create_run(DENSE)
    writer.mark_exploratory()
    writer.finish(END, ESTIMATE)
    assert store.find_reference(CONFIG) is None


def test_a_closed_store_says_so_and_its_writers_go_on(tmp_path: Path) -> None:
    store = Store(tmp_path)
    writer: RunWriter = store.create_run(CONFIG)
    store.close()
    with pytest.raises(StoreError, match="closed database"):
        store.runs()
    writer.finish(END, ESTIMATE)
    with opened(tmp_path) as other:
        assert other.runs()[0].status is RunStatus.FINISHED
