from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from effcore.records import RunStatus
from effcore.store import Store, StoreError, UnknownRunError
from effcore.store.labels import LabelBook, checked
from effcore.store.studies import Studies
from effcore.store.trash import RUN, STUDY, Trash
from tests.store.samples import CONFIG, DENSE, END, ESTIMATE, block, opened


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with opened(tmp_path) as store:
        yield store


def add(store: Store, config: object = CONFIG) -> str:
    writer = store.create(config)  # type: ignore[arg-type]
    writer.write(block(1, 4))
    writer.finish(END, ESTIMATE)
    return writer.run_id


def study_of(store: Store, *run_ids: str) -> str:
    studies = Studies(store)
    study = studies.open("key", lambda known: json.dumps({"arms": {}}))
    for seed, run_id in enumerate(run_ids):
        studies.note(study.study_id, "auto", seed, run_id)
    return study.study_id


def test_what_is_deleted_is_nowhere_and_comes_back_complete(store: Store) -> None:
    kept, gone = add(store), add(store, DENSE)
    LabelBook(store).put(gone, checked("Mine", ["a"], "A note."))
    before, look = store.summary(gone), store.load(gone)
    trash = Trash(store)
    assert trash.put([gone]) == {}
    assert [run.run_id for run in store.runs()] == [kept]
    assert store.find_reference(CONFIG) is None
    with pytest.raises(UnknownRunError):
        store.load(gone)
    with pytest.raises(StoreError, match="already there"):
        store.create(CONFIG, run_id=gone)
    (listed,) = trash.all()
    assert (listed.id, listed.kind, listed.row["status"]) == (gone, RUN, "finished")
    trash.restore([gone])
    assert trash.all() == []
    assert store.summary(gone) == before
    after = store.load(gone)
    assert np.array_equal(after.steps, look.steps)
    assert (after.end, after.energy, after.created_unix) == (
        look.end,
        look.energy,
        look.created_unix,
    )
    assert store.find_reference(CONFIG) == gone


def test_a_live_run_stays_and_the_others_of_several_go(store: Store) -> None:
    writer = store.create(CONFIG)
    others = [add(store), add(store)]
    refused = Trash(store).put([writer.run_id, *others, "20200101-000000-none", "../../x"])
    assert set(refused) == {writer.run_id, "20200101-000000-none", "../../x"}
    assert "is live: stop it first" in refused[writer.run_id]
    assert "may have been deleted already" in refused["20200101-000000-none"]
    assert [run.run_id for run in store.runs()] == [writer.run_id]
    writer.close()
    assert Trash(store).put([writer.run_id]) == {}
    Trash(store).restore([writer.run_id])
    assert store.runs()[0].status is RunStatus.INTERRUPTED


def test_runs_of_a_study_under_way_stay_and_so_does_it(store: Store) -> None:
    run_id = add(store)
    study_id = study_of(store, run_id)
    trash = Trash(store)
    (store.home / "studies").mkdir()
    with FileLock(store.home / "studies" / f"{study_id}.lock", thread_local=False):
        refused = trash.put([run_id]) | trash.put_studies([study_id])
    assert f"belongs to study {study_id}, which is under way: cancel it" in refused[run_id]
    assert "is under way: cancel it or wait for its end" in refused[study_id]
    assert len(store.runs()) == 1
    assert trash.put([run_id]) == {}, "it is over now"


def test_a_study_says_what_it_lost_and_has_it_again(store: Store) -> None:
    run_id, other = add(store), add(store)
    study_id = study_of(store, run_id, other)
    studies, trash = Studies(store), Trash(store)
    assert len(studies.ended(study_id)) == 2
    trash.put([run_id])
    assert list(studies.ended(study_id)) == [("auto", 1)]
    assert studies.lost(study_id) == [run_id]
    trash.restore([run_id])
    assert len(studies.ended(study_id)) == 2
    assert studies.lost(study_id) == []


def test_a_study_is_deleted_without_its_runs(store: Store) -> None:
    run_id = add(store)
    study_id = study_of(store, run_id)
    LabelBook(store).put(study_id, checked("A study"))
    trash = Trash(store)
    assert trash.put_studies([study_id]) == {}
    assert Studies(store).all() == []
    assert (len(store.runs()), Studies(store).of_runs()) == (1, {})
    assert [each.kind for each in trash.all()] == [STUDY]
    trash.restore([study_id])
    assert [study.study_id for study in Studies(store).all()] == [study_id]
    assert Studies(store).of_runs() == {run_id: [study_id]}
    trash.put_studies([study_id])
    assert trash.empty() == 1
    assert store.query("SELECT * FROM study_runs") == []
    assert LabelBook(store).all() == {}
    assert len(store.runs()) == 1


def test_only_what_was_deleted_long_enough_ago_is_deleted_for_good(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, kept = add(store), add(store), add(store)
    trash = Trash(store)
    trash.put([old])
    store.change("UPDATE trash SET deleted_unix = deleted_unix - 100")
    trash.put([new])
    assert trash.empty(older_than_s=50) == 1
    assert [each.id for each in trash.all()] == [new]
    assert not (store.home / "runs" / old).exists()
    assert store.query("SELECT * FROM events WHERE run_id = ?", old) == []
    assert trash.empty([kept]) == 0, "it is not in the trash"
    assert trash.empty([new]) == 1
    trash.restore([old, new])
    assert [run.run_id for run in store.runs()] == [kept]
    assert (store.home / "runs" / kept).exists()
