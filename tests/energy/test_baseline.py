from __future__ import annotations

from dataclasses import replace

import pytest

from effcore.energy.baseline import dynamic, idle_power_w
from effcore.events import Energy, Quality

GROSS = Energy(
    1000.0, 950.0, 1050.0, 2.0, Quality.MEASURED, "a counter", "GPU board", ("as told",),
    idle_w=((60.0, 70.0, 80.0), (80.0, 90.0, 100.0)),
)  # fmt: skip


def test_what_lies_above_idle_is_as_uncertain_as_both_allow() -> None:
    net = dynamic(GROSS)
    assert net.joules == 1000.0 - 2 * 80.0
    assert (net.lo, net.hi) == (950.0 - 2 * 100.0, 1050.0 - 2 * 60.0)
    assert net.source == "a counter, dynamic: less 80.0 W of the idle board"
    assert net.quality is Quality.MEASURED
    assert net.notes == ("the gross energy is 1,000.0 J MEASURED", "as told")


@pytest.mark.parametrize(
    "gross",
    [
        replace(GROSS, idle_w=GROSS.idle_w[:1]),
        replace(GROSS, joules=None),
        replace(GROSS, lo=None),
    ],
)
def test_one_reading_or_no_joules_are_not_enough(gross: Energy) -> None:
    net = dynamic(gross)
    assert (net.joules, net.lo, net.hi, net.quality) == (None, None, None, Quality.UNAVAILABLE)
    assert net.notes[0].startswith("no dynamic energy:")


def test_the_power_of_an_idle_reading_has_its_interval() -> None:
    assert idle_power_w(GROSS) == (475.0, 500.0, 525.0)
    assert idle_power_w(replace(GROSS, joules=None)) is None
    assert idle_power_w(replace(GROSS, seconds=0.0)) is None
