"""A run as one file: complete on the way out and in."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effcore.records import Energy, EnergyQuality, RunStatus
from effcore.store import Store, StoreError
from effcore.store.bundle import MANIFEST_MEMBER
from effcore.store.bundle_import import (
    RunIdTakenError,
    energy_of_other_machine,
    import_run,
    read_bundle,
)
from effcore.store.run_files import read_epoch_records
from effcore.store.trash import Trash
from tests.store.bundles import (
    RUN,
    bundle_of,
    full_run,
    members_of,
    pass_losses,
    setting,
    with_json,
)
from tests.store.samples import DENSE, END, block, opened

LOSSES: Any = pass_losses(6, 0)
MEASURED = Energy(9.0, 8.0, 10.0, 4.0, EnergyQuality.MEASURED, "its counter", "GPU board", ("hot",))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    with opened(tmp_path_factory.mktemp("whole")) as store:
        return bundle_of(store, full_run(store))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with opened(tmp_path) as store:
        yield store


def test_a_run_comes_in_as_it_went_out_but_for_whose_joules_they_are(
    store: Store, tmp_path: Path
) -> None:
    full_run(store)
    with opened(tmp_path / "other") as other:
        assert import_run(other, read_bundle(bundle_of(store, RUN))) == RUN
        (before,), (after,) = store.runs(), other.runs()
        assert after.imported
        assert not before.imported
        assert dataclasses.replace(after, imported=False, energy=before.energy) == before
        one, two = store.load_snapshot(RUN), other.load_snapshot(RUN)
        for table in ("steps", "evals", "power", "phases"):
            assert np.array_equal(getattr(one, table), getattr(two, table), equal_nan=True), table
        for field in ("config", "start", "end", "changes", "knobs", "attribution", "created_unix"):
            assert getattr(one, field) == getattr(two, field), field
        assert [p.drawn_bits.tolist() for p in one.epoch_draws] == [[255, 255]]
        assert [p.n_drawn for p in two.epoch_draws] == [16]
        assert one.histogram is not None
        assert two.histogram is not None
        assert two.histogram.counts.tolist() == one.histogram.counts.tolist()
        assert math.isnan(two.histogram.threshold)
        assert one.view is not None
        assert two.view is not None
        assert list(two.view.items) == ["picture", "text", "map"]
        assert np.array_equal(two.view.items["picture"], one.view.items["picture"])  # type: ignore[arg-type]
        (losses,) = read_epoch_records(other.home / "runs" / RUN)
        assert (losses.step, losses.is_complete) == (6, True)
        assert np.array_equal(losses.losses_N, LOSSES.losses_N)  # type: ignore[arg-type]
        again = bundle_of(other, RUN)
        with opened(tmp_path / "third") as third:
            import_run(third, read_bundle(again))
            assert third.load_snapshot(RUN).energy == two.energy, "imported twice is imported"


@pytest.mark.parametrize("quality", EnergyQuality)
def test_imported_joules_keep_their_quality_and_nothing_was_measured_here(
    quality: EnergyQuality,
) -> None:
    energy = energy_of_other_machine(dataclasses.replace(MEASURED, quality=quality))
    expected = EnergyQuality.RECORDED if quality is EnergyQuality.MEASURED else quality
    assert energy.quality is expected
    assert energy.source == "another machine's its counter"
    assert energy.scope == "another machine's GPU board"
    assert energy.notes[0] == "hot"
    assert energy.notes[1].startswith(f"{quality.value} on another machine")
    assert energy_of_other_machine(energy) == energy


def test_an_imported_run_is_no_reference_of_runs_of_this_machine(store: Store) -> None:
    full_run(store, DENSE)
    raw = bundle_of(store, RUN)
    store.delete_run(RUN)
    assert import_run(store, read_bundle(raw)) == RUN
    assert store.find_reference(DENSE) is None


def test_a_reference_stays_one_where_both_came_from_elsewhere(store: Store) -> None:
    local, dense = full_run(store, run_id=None), full_run(store, DENSE)
    raw = bundle_of(store, RUN)
    for reference, kept in ((local, None), (dense, None)):
        said = with_json(raw, MANIFEST_MEMBER, setting("reference_id", to=reference))
        assert (
            store.load_snapshot(import_run(store, read_bundle(said), fresh_id=True)).reference_id
            is kept
        )
    both = import_run(store, read_bundle(raw), fresh_id=True)
    said = with_json(raw, MANIFEST_MEMBER, setting("reference_id", to=both))
    assert (
        store.load_snapshot(import_run(store, read_bundle(said), fresh_id=True)).reference_id
        == both
    )


def test_a_taken_id_is_refused_and_a_fresh_one_is_offered(store: Store, good: bytes) -> None:
    bundle = read_bundle(good)
    import_run(store, bundle)
    with pytest.raises(
        RunIdTakenError, match="in this store already.*import this one under a fresh"
    ):
        import_run(store, bundle)
    Trash(store).add_runs([RUN])
    with pytest.raises(RunIdTakenError, match="or in its trash"):
        import_run(store, bundle)
    fresh = import_run(store, bundle, fresh_id=True)
    Trash(store).restore([RUN])
    assert {run.run_id for run in store.runs()} == {RUN, fresh}
    assert store.load_snapshot(fresh).end == END


def test_nothing_is_left_of_an_import_that_fails(
    store: Store, good: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.execute_write("DROP TABLE imports")
    with pytest.raises(StoreError):
        import_run(store, read_bundle(good)._replace(reference_id=None))
    assert not (store.home / "runs" / RUN).exists()
    assert store.query("SELECT * FROM events") == []


def test_only_what_is_over_is_exported_and_torn_rows_are_left_out(store: Store) -> None:
    writer = store.create_run(DENSE, run_id=RUN)
    writer.write_event(block(1, 3))
    writer.flush()
    with pytest.raises(StoreError, match="is running: stop it, or export it after its end"):
        bundle_of(store, RUN)
    writer.close()
    folder = store.home / "runs" / RUN
    with (folder / "steps.f64").open("ab") as file:
        file.write(b"torn")
    (folder / "decisions.bin").write_bytes(b"PASStorn")
    (folder / "losses.bin").write_bytes(b"LOSStorn")
    (folder / "view.npy").write_bytes(b"nonsense")
    bundle = read_bundle(bundle_of(store, RUN))
    assert (bundle.status, bundle.view) == (RunStatus.INTERRUPTED, None)
    assert (len(bundle.files["steps.f64"]), bundle.files["decisions.bin"]) == (3 * 64, b"")
    assert bundle.files["losses.bin"] == b""
    with pytest.raises(StoreError, match="unknown run"):
        bundle_of(store, "20260101-120000-none")


def test_a_run_from_before_there_were_phases_can_be_taken_along(store: Store) -> None:
    full_run(store)
    (store.home / "runs" / RUN / "phases.f64").unlink()
    raw = bundle_of(store, RUN)
    assert "phases.f64" not in members_of(raw)
    copy = import_run(store, read_bundle(raw), fresh_id=True)
    assert store.load_snapshot(copy).phases.shape[1] == 0
