from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from effcore.impact.reference_comparison import SeedRepeats, find_seed_repeats, saving_over_seeds
from effcore.impact.saving import Saving, SavingBasis
from effcore.records import EnergyQuality, RunEnd, RunStatus, Snapshot
from effcore.store import RunSummary
from tests.fakes import ESTIMATED, MEASURED, config, snapshot

END = RunEnd(
    RunStatus.FINISHED, "", "accuracy", 0.9, 4, 4000, 2000, 60.0, 100.0, 6.0, None, {}, 100.0
)


def stored(selection: str, seed: int, joules: float, **changes: Any) -> RunSummary:
    energy = replace(MEASURED, joules=joules, lo=joules, hi=joules)
    plain = RunSummary(
        f"{selection}-{seed}", config(selection=selection, seed=seed), RunStatus.FINISHED, 0.0,
        replace(END, flops_spent=joules), energy, False, None, 1.0,
    )  # fmt: skip
    return replace(plain, **changes)


DENSE = [stored("dense", seed, 100.0) for seed in range(4)]
OWN = [stored("auto", seed, joules) for seed, joules in enumerate([60.0, 62.0, 58.0, 60.0])]
LOOK: Snapshot = snapshot(config=config(selection="auto"), end=END, status=RunStatus.FINISHED)


def savings_over_seeds(repeats: SeedRepeats) -> dict[SavingBasis, Saving]:
    saving = saving_over_seeds(repeats)
    return {} if saving is None else dict(saving.savings)


def test_pairs_of_other_seeds_give_a_saving_its_scatter() -> None:
    found = find_seed_repeats(LOOK, [*OWN, *DENSE])
    assert [(p.own.run_id, p.dense.run_id) for p in found.pairs] == [
        (f"auto-{seed}", f"dense-{seed}") for seed in range(4)
    ]
    savings = savings_over_seeds(found)
    assert list(savings) == [SavingBasis.JOULES, SavingBasis.FLOPS, SavingBasis.SECONDS]
    joules = savings[SavingBasis.JOULES]
    # 1 - mean ± t(3) x sem of 0.60, 0.62, 0.58, 0.60.
    assert joules.fraction == pytest.approx((0.374, 0.426), abs=5e-4)
    assert joules.quality is EnergyQuality.MEASURED
    assert "4 pairs of runs, each with the same seed" in joules.where
    assert joules.notes[0] == "4 pairs, 95% t interval"
    assert "accuracy 0.900 on average against 0.900 of full training" in joules.notes


@pytest.mark.parametrize(
    "other",
    [
        stored("auto", 1, 60.0, config=config(selection="auto", seed=1, batch_size=7)),
        stored("auto", 1, 60.0, config=config(selection="auto", seed=1, knobs={"mass": 0.1})),
        stored("auto", 1, 60.0, exploratory=True),
        stored("auto", 1, 60.0, imported=True),
        stored("auto", 1, 60.0, status=RunStatus.STOPPED),
        stored("infobatch", 1, 60.0),
        stored("auto", 9, 60.0),  # without dense training of that seed
    ],
)
def test_what_is_another_setting_or_has_no_twin_is_no_repeat(other: RunSummary) -> None:
    found = find_seed_repeats(LOOK, [OWN[0], other, *DENSE])
    assert [p.own.run_id for p in found.pairs] == ["auto-0"]


@pytest.mark.parametrize(("budget", "twins"), [(None, 1), (1.0, 1), (0.6, 0)])
def test_only_full_dense_training_is_a_twin(budget: float | None, twins: int) -> None:
    dense = stored("dense", 0, 100.0, config=config(selection="dense", budget=budget))
    assert len(find_seed_repeats(LOOK, [OWN[0], dense]).pairs) == twins


def test_another_machine_s_runs_are_no_twins() -> None:
    far = [replace(run, imported=True) for run in DENSE]
    assert find_seed_repeats(LOOK, [*OWN, *far]).pairs == ()
    assert len(find_seed_repeats(LOOK, [*far, *OWN, *DENSE]).pairs) == len(DENSE)


def test_of_a_seed_trained_twice_the_newest_counts() -> None:
    again = replace(OWN[0], run_id="again")
    assert find_seed_repeats(LOOK, [again, *OWN, *DENSE]).pairs[0].own.run_id == "again"


def test_seeds_on_which_it_broke_are_said() -> None:
    broken = stored("auto", 7, 60.0, status=RunStatus.FAILED)
    found = find_seed_repeats(LOOK, [broken, *OWN, *DENSE])
    assert found.failed_seeds == (7,)
    assert (
        "failed on 1 more seed, not included" in savings_over_seeds(found)[SavingBasis.FLOPS].notes
    )


def test_joules_count_only_where_all_were_metered_alike() -> None:
    elsewhere = replace(OWN[3].energy or MEASURED, device_uuid="GPU-2")
    for energy in (ESTIMATED, None, elsewhere):
        runs = [*OWN[:3], replace(OWN[3], energy=energy), *DENSE]
        assert list(savings_over_seeds(find_seed_repeats(LOOK, runs))) == [
            SavingBasis.FLOPS,
            SavingBasis.SECONDS,
        ]


def test_dense_training_and_a_steered_run_have_no_repeats() -> None:
    dense = replace(LOOK, config=config(selection="dense"))
    steered = replace(LOOK, exploratory=True)
    assert (
        find_seed_repeats(dense, DENSE).pairs
        == find_seed_repeats(steered, [*OWN, *DENSE]).pairs
        == ()
    )
