from __future__ import annotations

from dataclasses import replace

import pytest

from effcore.energy.arithmetic import (
    dynamic_energy,
    has_short_idle_readings,
    idle_duration_text,
    idle_power_w,
    with_idle_readings,
)
from effcore.impact.idle_descriptions import above_idle_text, idle_power_text
from effcore.records import Energy, EnergyQuality

GROSS = Energy(
    1000.0, 950.0, 1050.0, 2.0, EnergyQuality.MEASURED, "a counter", "GPU board", ("as told",),
    idle_w=((60.0, 70.0, 80.0), (80.0, 90.0, 100.0)), idle_s=(9.9, 10.0),
)  # fmt: skip


def test_what_lies_above_idle_is_as_uncertain_as_both_allow() -> None:
    net = dynamic_energy(GROSS)
    assert net.joules == 1000.0 - 2 * 80.0
    assert (net.lo, net.hi) == (950.0 - 2 * 100.0, 1050.0 - 2 * 60.0)
    assert net.source == "a counter, dynamic: less 80.0 W of the idle board"
    assert net.quality is EnergyQuality.MEASURED
    assert net.notes == (
        "the gross energy is 1,000.0 J MEASURED", "idle power: read for 9.9 s and 10.0 s", "as told"
    )  # fmt: skip


@pytest.mark.parametrize(
    "gross",
    [
        replace(GROSS, idle_w=GROSS.idle_w[:1]),
        replace(GROSS, joules=None),
        replace(GROSS, lo=None),
    ],
)
def test_one_reading_or_no_joules_are_not_enough(gross: Energy) -> None:
    net = dynamic_energy(gross)
    assert (net.joules, net.lo, net.hi, net.quality) == (
        None,
        None,
        None,
        EnergyQuality.UNAVAILABLE,
    )
    assert net.notes[0].startswith("no dynamic energy:")


def test_the_power_of_an_idle_reading_has_its_interval() -> None:
    assert idle_power_w(GROSS) == (475.0, 500.0, 525.0)
    assert idle_power_w(replace(GROSS, joules=None)) is None
    assert idle_power_w(replace(GROSS, seconds=0.0)) is None


@pytest.mark.parametrize(
    ("idle_s", "said"),
    [
        ((10.0, 10.0), "read for 10.0 s"),
        ((0.6, 0.6), "read for 0.6 s, shorter than the intended 10 s"),
        ((10.0, 0.6), "read for 10.0 s and 0.6 s, shorter than the intended 10 s"),
        ((), "reading time not recorded"),
        ((10.0,), "reading time not recorded"),
    ],
)
def test_what_comes_of_short_idle_readings_says_so(idle_s: tuple[float, ...], said: str) -> None:
    energy = replace(GROSS, idle_s=idle_s)
    short = idle_s != (10.0, 10.0)
    assert (idle_duration_text(energy), has_short_idle_readings(energy)) == (said, short)
    assert f"idle power: {said}" in dynamic_energy(energy).notes
    assert (idle_power_text(energy) or "").endswith(f"after training, MEASURED, {said}")
    assert (above_idle_text(energy) or "").endswith("idle readings are short") is short


def test_idle_readings_without_joules_are_left_out() -> None:
    lost = replace(GROSS, joules=None)
    beside = with_idle_readings(
        GROSS, (replace(GROSS, seconds=4.0), lost, replace(GROSS, seconds=5.0))
    )
    assert [power[1] for power in beside.idle_w] == [250.0, 200.0]
    assert beside.idle_s == (4.0, 5.0)


def test_a_board_that_others_used_was_not_idle() -> None:
    run = Energy(100.0, 90.0, 110.0, 10.0, EnergyQuality.MEASURED, "a counter", "the board")
    found = with_idle_readings(run, (run, replace(run, contended=True)))
    assert (found.idle_w, found.idle_s) == (((9.0, 10.0, 11.0),), (10.0,))
