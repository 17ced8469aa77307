from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from effcore.impact.ranges import exact_range
from effcore.impact.run_savings import example_counts, joules_per_example, savings_against_reference
from effcore.impact.saving import SavingBasis
from effcore.records import Energy, EnergyQuality, RunEnd, RunStatus, Snapshot
from tests.fakes import ESTIMATED, MEASURED, UNAVAILABLE, config, snapshot

END = RunEnd(RunStatus.FINISHED, "", "accuracy", 0.9, 4, 4000, 2000, 60.0, 100.0, 6.0, None)


METERED = replace(MEASURED, lo=10.0, hi=10.0)


def run(energy: Energy = METERED, selection: str = "auto", **changes: Any) -> Snapshot:
    end = replace(END, **changes)
    return snapshot(
        config=config(selection=selection), end=end, status=RunStatus.FINISHED, energy=energy
    )


DENSE = run(
    replace(MEASURED, joules=20.0, lo=20.0, hi=20.0), "dense",
    flops_spent=100.0, seconds=8.0, metric=0.92, examples_trained=4000,
)  # fmt: skip


def test_beside_its_reference_a_run_saves_joules_flops_and_seconds() -> None:
    found = savings_against_reference(run(), DENSE)
    assert list(found) == [SavingBasis.JOULES, SavingBasis.FLOPS, SavingBasis.SECONDS]
    assert [s.fraction.lo for s in found.values()] == pytest.approx([0.5, 0.4, 0.25])
    assert [s.measured for s in found.values()] == [True, False, False]
    for saving in found.values():
        assert "accuracy 0.900 against 0.920 of dense training" in saving.notes
        assert "tiny (mlp, medium) with auto" in saving.where


@pytest.mark.parametrize("energy", [ESTIMATED, UNAVAILABLE, replace(METERED, scope="other")])
def test_joules_that_cannot_be_compared_are_no_saving(energy: Energy) -> None:
    assert list(savings_against_reference(run(energy), DENSE)) == [
        SavingBasis.FLOPS,
        SavingBasis.SECONDS,
    ]


@pytest.mark.parametrize("reference", [None, replace(DENSE, status=RunStatus.STOPPED)])
def test_without_a_reference_that_finished_there_are_only_flops(reference: Snapshot | None) -> None:
    found = savings_against_reference(run(), reference)
    assert list(found) == [SavingBasis.FLOPS]
    assert found[SavingBasis.FLOPS].fraction == exact_range(0.4)
    assert "no dense run" in found[SavingBasis.FLOPS].notes[-1]


def test_what_has_nothing_to_save_saves_nothing() -> None:
    assert savings_against_reference(DENSE, None) == {}
    assert savings_against_reference(snapshot(), DENSE) == {}
    assert savings_against_reference(run(flops_dense=0.0), None) == {}
    assert savings_against_reference(run(flops_spent=0.0, flops_dense=0.0), None) == {}
    unknown = savings_against_reference(run(metric=None), DENSE)[SavingBasis.FLOPS]
    assert "not known on both sides" in unknown.notes[-1]


def test_joules_are_shared_among_examples_trained_and_seen() -> None:
    texts = [str(amount) for amount in joules_per_example(run())]
    assert texts == [
        "0.00500 J per example trained on MEASURED",
        "0.00250 J per example seen MEASURED",
    ]
    assert list(joules_per_example(run(UNAVAILABLE))) == []
    (estimate, _) = joules_per_example(run(ESTIMATED))
    assert str(estimate) == "0.00250 to 0.0100 J per example trained on ESTIMATED"
    assert estimate.quality is EnergyQuality.ESTIMATED


def test_a_run_that_trains_counts_what_it_has_done_so_far() -> None:
    assert example_counts(snapshot(20)) == (2000, 4000)
    assert example_counts(snapshot(0)) == (0, 0)
    assert list(joules_per_example(snapshot(0))) == []
