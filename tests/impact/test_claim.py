from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effcore.energy.sources.base import SHARED_USE_UNKNOWN, SHARED_USE_UNKNOWN_BEFORE
from effcore.impact.ranges import ImpactError, exact_range
from effcore.impact.saving import Saving, SavingBasis
from effcore.impact.saving_text import NOT_MEASURED, NOT_STATED, EnergyClaim, claim_text
from effcore.records import Energy, EnergyQuality
from tests.fakes import ESTIMATED, MEASURED, UNAVAILABLE

NAMES = [name for name, _ in EnergyClaim(MEASURED).items()]
STATED = [
    field.name
    for field in fields(EnergyClaim)
    if field.name not in ("energy", "saving", "pairs") and field.type == "str"
]


def test_a_whole_claim_says_everything() -> None:
    energy = replace(
        MEASURED, lo=9.5, hi=10.5, notes=("whole board",), device_uuid="GPU-1", crosscheck=1.01,
        max_gap_s=0.12, ticks=99, throttled_s=0.0,
    )  # fmt: skip
    words: dict[str, Any] = {name: f"the {name} in words" for name in STATED}
    saving = Saving(exact_range(0.3), SavingBasis.JOULES, "x", EnergyQuality.MEASURED, ("4 pairs",))
    text = claim_text(EnergyClaim(energy, saving=saving, **words))
    assert NOT_STATED not in text
    assert NOT_MEASURED not in text
    for part in (
        *words.values(),
        "GPU board",
        "a counter",
        "9.50 to 10.5 J MEASURED",
        "1.00 s",
        "4 pairs",
    ):
        assert part in text
    assert "Notes: whole board." in text
    assert "30.0% · Saving of MEASURED joules" in text


def test_what_befell_the_joules_is_in_the_claim() -> None:
    board = replace(MEASURED, device_uuid="GPU-1", throttled_s=0.0)
    for energy, others, held in (
        (board, "none seen", "never seen"),
        (replace(board, contended=True), "yes: the joules include other programs", "never seen"),
        (replace(board, throttled_s=3.0), "none seen", "for 3.00 s"),
        (replace(board, throttled_s=None), "none seen", NOT_MEASURED),
        (
            replace(board, notes=(f"{SHARED_USE_UNKNOWN}odd",)),
            f"{SHARED_USE_UNKNOWN}odd",
            "never seen",
        ),
        (
            replace(board, notes=(f"{SHARED_USE_UNKNOWN_BEFORE}odd",)),
            f"{SHARED_USE_UNKNOWN_BEFORE}odd",
            "never seen",
        ),
        (ESTIMATED, NOT_MEASURED, NOT_MEASURED),
    ):
        items = dict(EnergyClaim(energy).items())
        assert items["Other users"].startswith(others)
        assert items["Clock throttling"] == held


def test_what_is_missing_is_said_to_be() -> None:
    items = dict(EnergyClaim(MEASURED).items())
    for name in ("Sampling", "Card", "Driver", "Power limit", "Idle power", "Accuracy reached"):
        assert items[name] == NOT_STATED
    assert items["Saving against full training"] == NOT_MEASURED
    assert items["Interval"] == NOT_STATED
    assert NOT_STATED in items["Not covered"]


@given(st.sets(st.sampled_from(STATED)), st.sampled_from([MEASURED, ESTIMATED, UNAVAILABLE]))
def test_no_part_is_ever_left_out(stated: set[str], energy: Energy) -> None:
    words = dict.fromkeys(stated, "said")
    items = EnergyClaim(energy, **words).items()  # type: ignore[arg-type]
    assert [name for name, _ in items] == NAMES
    assert all(text for _, text in items)
    assert dict(items)["Quality"] == energy.quality.value.upper()


def test_an_estimate_claims_no_saving_and_nothing_claims_no_joules() -> None:
    assert "cannot prove a saving" in claim_text(EnergyClaim(ESTIMATED))
    nothing = claim_text(EnergyClaim(UNAVAILABLE))
    assert "no joules are claimed" in nothing
    assert f"Boundary: {NOT_MEASURED}" in nothing
    assert "No TDP." in nothing


def test_pairs_become_the_saving() -> None:
    own = replace(MEASURED, joules=7.0, lo=7.0, hi=7.0)
    dense = replace(MEASURED, lo=10.0, hi=10.0)
    items = dict(EnergyClaim(own, trained="a task", pairs=[(own, dense)]).items())
    assert items["Saving against full training"].startswith("30.0% · Saving of MEASURED joules")
    assert items["Repeats"].startswith("one pair")
    with pytest.raises(ImpactError, match="measure both alike"):
        EnergyClaim(own, pairs=[(own, ESTIMATED)]).items()
