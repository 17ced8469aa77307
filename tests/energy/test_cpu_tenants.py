from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from effcore.energy.sources.base import SharedUse
from effcore.energy.sources.rapl import (
    CpuProcessMonitor,
    process_tree_cpu_s,
    shared_use_from_cpu_time,
)

ALONE = SharedUse(False, "")


@pytest.mark.parametrize(
    ("busy_s", "own_s", "cores_s", "contended"),
    [
        (5.0, 5.0, 10.0, False),
        (5.0, 4.6, 10.0, False),  # 8% of what was busy
        (5.0, 4.0, 10.0, True),
        (0.15, 0.0, 10.0, False),  # an idle machine is never quite idle
        (0.9, 0.5, 40.0, False),
        (3.0, 1.0, 40.0, True),
        (5.0, 5.3, 10.0, False),  # counts of 10 ms may disagree
        (0.0, 0.0, 10.0, False),
    ],
)
def test_others_count_where_they_took_a_share_that_matters(
    busy_s: float, own_s: float, cores_s: float, contended: bool
) -> None:
    found = shared_use_from_cpu_time(busy_s, own_s, cores_s)
    assert found.contended is contended
    assert bool(found.description) is contended


class Machine:
    """Two cores, in a test's time."""

    def __init__(self) -> None:
        self.t = self.own = self.others = 0.0

    def tenants(self) -> CpuProcessMonitor:
        def whole() -> SimpleNamespace:
            return SimpleNamespace(user=self.own, system=0.0, nice=self.others, idle=9.0)

        return CpuProcessMonitor(whole, lambda: self.own, lambda: self.t, cores=2)

    def run_for(self, seconds: float, own: float, others: float) -> None:
        self.t += seconds
        self.own += own
        self.others += others


def test_each_look_is_at_the_time_since_the_last_one() -> None:
    machine = Machine()
    tenants = machine.tenants()
    machine.run_for(5.0, own=5.0, others=0.0)
    assert tenants.check_shared_use() == ALONE
    machine.run_for(5.0, own=4.0, others=4.0)
    found = tenants.check_shared_use()
    assert found.contended
    assert found.description.startswith("other processes took 50% of the processor's busy time")
    machine.run_for(0.2, own=0.2, others=0.0)
    assert tenants.check_shared_use() == found, "too soon to tell"
    machine.run_for(5.0, own=5.0, others=0.1)
    assert tenants.check_shared_use() == ALONE


def test_this_machine_can_be_looked_at() -> None:
    assert CpuProcessMonitor().check_shared_use() == ALONE  # at once: nothing is known yet
    assert process_tree_cpu_s() >= 0.9 * time.process_time()
