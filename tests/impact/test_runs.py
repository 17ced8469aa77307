from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from effcore.impact.costs import example_counts, joules_per_example
from effcore.impact.ranges import exact_range
from effcore.impact.reference_comparison import (
    ComputationNotSpent,
    ProjectableShare,
    compare_with_reference,
    projectable_shares,
)
from effcore.impact.saving import SavingBasis
from effcore.records import Energy, EnergyQuality, RunEnd, RunStatus, Snapshot
from tests.fakes import ESTIMATED, MEASURED, UNAVAILABLE, config, snapshot

END = RunEnd(
    RunStatus.FINISHED, "", "accuracy", 0.9, 4, 4000, 2000, 60.0, 150.0, 6.0, None, {}, 100.0
)


METERED = replace(MEASURED, lo=10.0, hi=10.0)


def run(energy: Energy = METERED, selection: str = "auto", **changes: Any) -> Snapshot:
    end = replace(END, **changes)
    return snapshot(
        config=config(selection=selection), end=end, status=RunStatus.FINISHED, energy=energy
    )


def savings_against_reference(
    own: Snapshot, reference: Snapshot | None
) -> dict[SavingBasis, ProjectableShare]:
    saving = None if reference is None else compare_with_reference([(own, reference)])
    return projectable_shares(own, saving)


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
        assert "accuracy 0.900 against 0.920 of full training" in saving.notes
        assert str(saving).endswith("; accuracy 0.900 against 0.920 of full training")
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
    assert found[SavingBasis.FLOPS].fraction == exact_range(0.4), "of full training, not skipped"
    assert isinstance(found[SavingBasis.FLOPS], ComputationNotSpent)
    assert "full training of seed 0 has not finished" in found[SavingBasis.FLOPS].notes[-1]


def test_what_has_nothing_to_save_saves_nothing() -> None:
    assert savings_against_reference(DENSE, None) == {}
    assert savings_against_reference(snapshot(), DENSE) == {}
    assert savings_against_reference(run(flops_full=None), None) == {}
    assert savings_against_reference(run(flops_full=0.0), None) == {}
    assert savings_against_reference(run(flops_spent=0.0), DENSE) == {}
    unknown = savings_against_reference(run(metric=None), DENSE)[SavingBasis.FLOPS]
    assert "one of the two results is unknown" in unknown.notes[-1]


def test_joules_are_shared_among_examples_trained_and_seen() -> None:
    texts = [str(amount) for _, amount in joules_per_example(run())]
    assert texts == [
        "0.00500 J per example trained on MEASURED",
        "0.00250 J per example seen MEASURED",
    ]
    assert list(joules_per_example(run(UNAVAILABLE))) == []
    ((_, estimate), _) = joules_per_example(run(ESTIMATED))
    assert str(estimate) == "0.00250 to 0.0100 J per example trained on ESTIMATED"
    assert estimate.quality is EnergyQuality.ESTIMATED


def test_a_run_that_trains_counts_what_it_has_done_so_far() -> None:
    assert example_counts(snapshot(20)) == (2000, 4000)
    assert example_counts(snapshot(0)) == (0, 0)
    assert list(joules_per_example(snapshot(0))) == []


def test_dense_training_on_a_budget_saves_too() -> None:
    cheaper = run(selection="dense")
    cheaper = replace(cheaper, config=replace(cheaper.config, budget=0.6))
    saving = compare_with_reference([(cheaper, DENSE)])
    assert saving is not None
    assert saving.saved_compute_frac == pytest.approx(0.4)
    assert (
        "same-budget training at 60% of the computation" in saving.savings[SavingBasis.FLOPS].where
    )


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"epochs": 5}, {"task": "digits"}, {"budget": 0.6}, {"model": "cnn"}]
)
def test_only_full_training_of_the_same_seed_and_settings_is_a_reference(
    changes: dict[str, Any],
) -> None:
    other = replace(DENSE, config=replace(DENSE.config, **changes))
    assert compare_with_reference([(run(), other)]) is None
    assert compare_with_reference([(run(), DENSE), (run(), other)]) is None
    assert compare_with_reference([]) is None
