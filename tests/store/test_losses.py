"""The file of what is known of each example: written, torn, read, and of old runs missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from effcore.records.epoch_record import MAX_LOSS_BYTES, EpochRecord, keeps_epoch_losses
from effcore.store.bundle_import import check_epoch_records
from effcore.store.run_files import (
    EPOCH_RECORDS_FILE,
    epoch_record_bytes,
    parse_epoch_records,
    read_epoch_records,
)
from tests.store.bundles import RUN, bundle_of, full_run, members_of, pass_losses
from tests.store.samples import opened

TWO = (pass_losses(6, 0, 21), pass_losses(9, 1, 21, kept=False))


def test_what_is_written_comes_back_up_to_where_it_is_torn() -> None:
    raw = b"".join(map(epoch_record_bytes, TWO))
    check_epoch_records(raw)
    for torn, count in ((0, 2), (1, 1), (len(epoch_record_bytes(TWO[1])), 1), (len(raw) - 1, 0)):
        found, end = parse_epoch_records(raw[: len(raw) - torn])
        assert len(found) == count
        assert end == sum(len(epoch_record_bytes(each)) for each in found)
    (first, second), _ = parse_epoch_records(raw)
    assert first[:3] == (6, 0, 21)
    assert first.trained_N.tolist() == [place % 2 == 0 for place in range(21)]
    np.testing.assert_array_equal(first.losses_N, TWO[0].losses_N)
    assert second.losses_N is None
    assert second.is_complete


@pytest.mark.parametrize("spoilt", [b"", b"LOSS", b"NONE" + bytes(60), b"LOSS" + bytes(60)])
def test_what_is_no_record_is_none(spoilt: bytes) -> None:
    assert parse_epoch_records(spoilt) == ([], 0)


def test_a_run_from_before_there_were_losses_is_read_and_taken_along(tmp_path: Path) -> None:
    with opened(tmp_path) as store:
        full_run(store)
        folder = store.home / "runs" / RUN
        assert [each.step for each in read_epoch_records(folder)] == [6]
        (folder / EPOCH_RECORDS_FILE).unlink()
        assert read_epoch_records(folder) == []
        assert store.load_snapshot(RUN).end is not None
        assert EPOCH_RECORDS_FILE not in members_of(bundle_of(store, RUN))


def test_losses_of_many_passes_are_thinned_and_stay_small() -> None:
    n = 100_000
    all_kept = MAX_LOSS_BYTES // (2 * n)
    kept = [index for index in range(16 * all_kept) if keeps_epoch_losses(index, n)]
    assert kept[:all_kept] == list(range(all_kept)), "of every pass, at first"
    assert max(np.diff(kept)) == 16
    assert len(kept) * 2 * n < 4 * MAX_LOSS_BYTES
    assert all(keeps_epoch_losses(index, 1257) for index in range(3000)), (
        "few examples: of every pass"
    )


def test_a_pass_that_was_cut_short_says_so() -> None:
    assert not EpochRecord(1, 0, 20, TWO[0].trained_bits, None, 21).is_complete
