from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from effcore.records import RunStatus
from effcore.store import Store, StoreError, UnknownRunError
from effcore.store.labels import validated_labels
from effcore.store.study_table import StudyTable
from effcore.store.trash import RUN_KIND, STUDY_KIND, Trash
from tests.store.samples import CONFIG, DENSE, END, ESTIMATE, block, opened


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with opened(tmp_path) as store:
        yield store


def add(store: Store, config: object = CONFIG) -> str:
    writer = store.create_run(config)  # type: ignore[arg-type]
    writer.write_event(block(1, 4))
    writer.finish(END, ESTIMATE)
    return writer.run_id


def study_of(store: Store, *run_ids: str) -> str:
    studies = StudyTable(store)
    study = studies.create_or_replan_study("key", lambda known: json.dumps({"arms": {}}))
    for seed, run_id in enumerate(run_ids):
        studies.record_run(study.study_id, "auto", seed, run_id)
    return study.study_id


def test_what_is_deleted_is_nowhere_and_comes_back_complete(store: Store) -> None:
    kept, gone = add(store), add(store, DENSE)
    store.set_labels(gone, validated_labels("Mine", ["a"], "A note."))
    before, look = store.summary(gone), store.load_snapshot(gone)
    trash = Trash(store)
    assert trash.add_runs([gone]) == {}
    assert [run.run_id for run in store.runs()] == [kept]
    assert store.find_reference(CONFIG) is None
    with pytest.raises(UnknownRunError):
        store.load_snapshot(gone)
    with pytest.raises(StoreError, match="exists already"):
        store.create_run(CONFIG, run_id=gone)
    (listed,) = trash.list_items()
    assert (listed.id, listed.kind, listed.row["status"]) == (gone, RUN_KIND, "finished")
    trash.restore([gone])
    assert trash.list_items() == []
    assert store.summary(gone) == before
    after = store.load_snapshot(gone)
    assert np.array_equal(after.steps, look.steps)
    assert (after.end, after.energy, after.created_unix) == (
        look.end,
        look.energy,
        look.created_unix,
    )
    assert store.find_reference(CONFIG) == gone


def test_a_live_run_stays_and_the_others_of_several_go(store: Store) -> None:
    writer = store.create_run(CONFIG)
    others = [add(store), add(store)]
    refused = Trash(store).add_runs([writer.run_id, *others, "20200101-000000-none", "../../x"])
    assert set(refused) == {writer.run_id, "20200101-000000-none", "../../x"}
    assert "is live: stop it first" in refused[writer.run_id]
    assert "may have been deleted already" in refused["20200101-000000-none"]
    assert [run.run_id for run in store.runs()] == [writer.run_id]
    writer.close()
    assert Trash(store).add_runs([writer.run_id]) == {}
    Trash(store).restore([writer.run_id])
    assert store.runs()[0].status is RunStatus.INTERRUPTED


def test_runs_of_a_study_under_way_stay_and_so_does_it(store: Store) -> None:
    run_id = add(store)
    study_id = study_of(store, run_id)
    trash = Trash(store)
    (store.home / "studies").mkdir()
    with FileLock(store.home / "studies" / f"{study_id}.lock", thread_local=False):
        refused = trash.add_runs([run_id]) | trash.add_studies([study_id])
    assert f"belongs to study {study_id}, which is running: cancel the study" in refused[run_id]
    assert "is running: cancel it or wait for its end" in refused[study_id]
    assert len(store.runs()) == 1
    assert trash.add_runs([run_id]) == {}, "it is over now"


def test_a_study_says_what_it_lost_and_has_it_again(store: Store) -> None:
    run_id, other = add(store), add(store)
    study_id = study_of(store, run_id, other)
    studies, trash = StudyTable(store), Trash(store)
    assert len(studies.ended_runs(study_id)) == 2
    trash.add_runs([run_id])
    assert list(studies.ended_runs(study_id)) == [("auto", 1)]
    assert studies.deleted_run_ids(study_id) == [run_id]
    trash.restore([run_id])
    assert len(studies.ended_runs(study_id)) == 2
    assert studies.deleted_run_ids(study_id) == []


def test_a_study_is_deleted_without_its_runs(store: Store) -> None:
    run_id = add(store)
    study_id = study_of(store, run_id)
    store.set_labels(study_id, validated_labels("A study"))
    trash = Trash(store)
    assert trash.add_studies([study_id]) == {}
    assert StudyTable(store).list_studies() == []
    assert (len(store.runs()), StudyTable(store).study_ids_by_run()) == (1, {})
    assert [each.kind for each in trash.list_items()] == [STUDY_KIND]
    trash.restore([study_id])
    assert [study.study_id for study in StudyTable(store).list_studies()] == [study_id]
    assert StudyTable(store).study_ids_by_run() == {run_id: [study_id]}
    trash.add_studies([study_id])
    assert trash.purge() == 1
    assert store.query("SELECT * FROM study_runs") == []
    assert store.all_labels() == {}
    assert len(store.runs()) == 1


def test_only_what_was_deleted_long_enough_ago_is_deleted_for_good(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, kept = add(store), add(store), add(store)
    trash = Trash(store)
    trash.add_runs([old])
    store.execute_write("UPDATE trash SET deleted_unix = deleted_unix - 100")
    trash.add_runs([new])
    assert trash.purge(older_than_s=50) == 1
    assert [each.id for each in trash.list_items()] == [new]
    assert not (store.home / "runs" / old).exists()
    assert store.query("SELECT * FROM events WHERE run_id = ?", old) == []
    assert trash.purge([kept]) == 0, "it is not in the trash"
    assert trash.purge([new]) == 1
    trash.restore([old, new])
    assert [run.run_id for run in store.runs()] == [kept]
    assert (store.home / "runs" / kept).exists()
