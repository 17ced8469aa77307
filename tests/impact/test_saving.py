from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from effcore.impact.ranges import ImpactError, Range, exact_range
from effcore.impact.saving import (
    Saving,
    SavingBasis,
    paired_energy_saving,
    paired_saving,
    percent_text,
)
from effcore.records import Energy, EnergyQuality
from tests.fakes import ESTIMATED, UNAVAILABLE

DENSE = Energy(100.0, 95.0, 105.0, 9.0, EnergyQuality.MEASURED, "a counter", "GPU board")
OWN = replace(DENSE, joules=70.0, lo=66.5, hi=73.5)


def test_pairs_give_the_mean_and_its_t_interval() -> None:
    own, dense = [6.0, 7.0, 6.5, 7.5], [10.0, 10.0, 10.0, 10.0]
    saving = paired_saving(own, dense, SavingBasis.SECONDS, "a task")
    shares = 1 - np.array(own) / 10
    expected = stats.ttest_1samp(shares, 0).confidence_interval(0.95)
    assert saving.fraction == pytest.approx((expected.low, expected.high))
    assert saving.notes == ("4 pairs, 95% t interval",)


def test_equal_pairs_have_no_width_and_one_pair_says_so() -> None:
    assert paired_saving([5, 5], [10, 10], SavingBasis.FLOPS, "x").fraction == exact_range(0.5)
    alone = paired_saving([5], [10], SavingBasis.FLOPS, "x")
    assert alone.fraction == exact_range(0.5)
    assert "one pair" in alone.notes[0]


@given(st.lists(st.floats(0, 10), min_size=1, max_size=5))
def test_nothing_saves_more_than_all(own: list[float]) -> None:
    fraction = paired_saving(own, [1.0] * len(own), SavingBasis.FLOPS, "x").fraction
    assert -10 <= fraction.lo <= fraction.hi <= 1


def test_one_pair_of_joules_counts_both_intervals_in_full() -> None:
    saving = paired_energy_saving([(OWN, DENSE)], "a task")
    assert saving.fraction == pytest.approx((1 - 73.5 / 95, 1 - 66.5 / 105))
    assert saving.measured
    assert 0.3 in saving.fraction


def test_several_pairs_of_joules_scatter_as_they_do() -> None:
    pairs = [(replace(OWN, joules=value), DENSE) for value in (69.0, 70.0, 71.0)]
    saving = paired_energy_saving(pairs, "a task")
    expected = stats.t.interval(0.95, 2, loc=0.3, scale=0.01 / math.sqrt(3))
    assert saving.fraction == pytest.approx(expected)


@pytest.mark.parametrize(
    ("own", "dense", "words"),
    [
        (ESTIMATED, ESTIMATED, "only follows processor time"),
        (UNAVAILABLE, UNAVAILABLE, "compare runs metered alike"),
        (OWN, ESTIMATED, "measure both alike"),
        (OWN, replace(DENSE, quality=EnergyQuality.MODELLED), "measure both alike"),
        (OWN, replace(DENSE, scope="another board"), "measure both alike"),
        (OWN, replace(DENSE, lo=0.0), "expected more than 0 J"),
        (OWN, replace(DENSE, lo=None), "needs the intervals of both"),
    ],
)
def test_joules_that_cannot_be_compared_are_refused(own: Energy, dense: Energy, words: str) -> None:
    with pytest.raises(ImpactError, match=words):
        paired_energy_saving([(own, dense)], "a task")
    with pytest.raises(ImpactError, match="expected joules of one quality"):
        paired_energy_saving([], "a task")
    modelled = replace(DENSE, quality=EnergyQuality.MODELLED)
    with pytest.raises(ImpactError, match="expected joules of one quality"):
        paired_energy_saving([(OWN, DENSE), (modelled, modelled)], "a task")


def test_labels_call_measured_only_what_was() -> None:
    labels = {
        "measured": Saving(exact_range(0.3), SavingBasis.JOULES, "x", EnergyQuality.MEASURED),
        "modelled": Saving(exact_range(0.3), SavingBasis.JOULES, "x", EnergyQuality.MODELLED),
        "seconds": Saving(exact_range(0.3), SavingBasis.SECONDS, "x"),
        "flops": Saving(exact_range(0.3), SavingBasis.FLOPS, "x"),
        "stated": Saving(exact_range(0.3), SavingBasis.STATED, "x"),
    }
    for name, saving in labels.items():
        assert saving.measured == (name == "measured")
        assert ("not measured" in str(saving)) == (name != "measured"), saving.label
    assert labels["flops"].label == "Assumes that joules follow FLOPs: not measured. X"


@pytest.mark.parametrize(
    ("fraction", "quality"),
    [
        (exact_range(1.01), None),
        (Range(0.3, 0.1), None),
        (exact_range(math.nan), None),
        (exact_range(0.1), EnergyQuality.MEASURED),
    ],
)
def test_what_is_no_saving_is_refused(fraction: Range, quality: EnergyQuality | None) -> None:
    with pytest.raises(ImpactError):
        Saving(fraction, SavingBasis.FLOPS, "x", quality)
    with pytest.raises(ImpactError, match="where"):
        Saving(exact_range(0.1), SavingBasis.FLOPS, " ")
    with pytest.raises(ImpactError, match="quality"):
        Saving(exact_range(0.1), SavingBasis.JOULES, "x", EnergyQuality.UNAVAILABLE)


@pytest.mark.parametrize(
    ("own", "dense"), [([], []), ([1], [1, 2]), ([1], [0]), ([-1], [1]), ([math.nan], [1])]
)
def test_amounts_that_cannot_be_compared_are_refused(own: list[float], dense: list[float]) -> None:
    with pytest.raises(ImpactError, match="^(own|dense)="):
        paired_saving(own, dense, SavingBasis.SECONDS, "x")


def test_shares_are_written_as_per_cent() -> None:
    assert percent_text(Range(-0.0501, 0.2)) == "−5.0% to 20.0%"
    assert percent_text(Range(-0.0001, 0.0001)) == "0.0%"
