"""Runs whose phases draw known powers, metered by NVML's wrapper over the fake library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest

from effcore.energy.run_energy import RunEnergy
from effcore.records import PHASES, Energy, FloatArray
from effcore.records.attribution import NO_PHASE, AttributedPhaseEnergy, PhaseAttribution
from effcore.records.run_clock import RunClock
from effcore.training.phase_clock import OUTSIDE_PHASES, HostPhaseClock
from tests.energy.fake_nvml import FakeNvml
from tests.energy.nvml_runs import nvml_run

#: Watts and mean ms of each part of a step, in their order.
STEP = {
    "data": (90, 8),
    "selection": (380, 5),
    "forward": (450, 16),
    "backward": (560, 30),
    "optimizer": (320, 6),
    NO_PHASE: (70, 2),
}
#: The same of an evaluation, and ms between two.
EVALUATION, EVERY_MS = (500, 60), 2000
#: Seconds between two reports of a run.
REPORT_S = 0.1
#: A run stands still for so long where it is held.
HELD_S = 3.0


class Part(NamedTuple):
    """One stretch of one phase: its number, when it begins and ends, s, and its watts."""

    phase: int
    begin_s: float
    end_s: float
    watts: float


def course(seed: int, seconds: float) -> list[Part]:
    """Draw a run's phases: lengths 15 % apart, in whole ms, and powers 2 % apart."""
    draw = np.random.default_rng(seed)
    numbers = {name: i for i, name in enumerate((*PHASES, NO_PHASE))}
    found: list[Part] = []
    at_ms, evaluate_ms = 0, EVERY_MS
    while at_ms < 1000 * seconds:
        due = [(numbers[name], *of) for name, of in STEP.items()]
        if at_ms >= evaluate_ms:
            evaluate_ms += EVERY_MS
            due.append((numbers["evaluation"], *EVALUATION))
        for phase, watts, mean_ms in due:
            ms = max(1, round(mean_ms * draw.lognormal(0, 0.15)))
            power = watts * (1 + 0.02 * draw.standard_normal())
            found.append(Part(phase, at_ms / 1000, (at_ms + ms) / 1000, power))
            at_ms += ms
    return found


class Outcome(NamedTuple):
    """What a run's attribution says, its energy, and the true mean power of each phase, W."""

    attribution: PhaseAttribution
    energy: Energy
    watts: dict[str, float]

    def phase(self, name: str) -> AttributedPhaseEnergy:
        return next(found for found in self.attribution.phases if found.phase == name)

    def true_j(self, name: str) -> float:
        """Return the joules of the time that was attributed, at the phase's true power."""
        return self.watts[name] * self.phase(name).seconds

    def holds(self, name: str) -> bool:
        found = self.phase(name)
        return found.lo <= self.true_j(name) <= found.hi


def attributed(
    seed: int, seconds: float, patch: pytest.MonkeyPatch, holds: Sequence[float] = ()
) -> Outcome:
    """Let a run pass, as the runner sees it, in the fake's time; nobody waits.

    Args:
        seed: Of everything that is drawn.
        seconds: How long it trains.
        patch: Undoes the fake.
        holds: When it is held, s of training; the board then draws 1000 W.
    """
    parts = list(_held(course(seed, seconds), holds))
    by_ms = np.concatenate([np.full(round(1e3 * (p.end_s - p.begin_s)), p.watts) for p in parts])
    powers = [*by_ms.tolist(), *[70.0] * 1000]
    fake = FakeNvml(lambda t: powers[int(1000 * t + 1e-6)], phase_s=0.0037 * (seed % 27))
    with nvml_run(fake, patch, phases=True) as run:
        clock = RunClock()
        spending, report_s = RunEnergy(run.meter, clock), 0.0
        phases = HostPhaseClock(clock, lambda: fake.t, record_starts=spending.needs_phase_marks)
        for part in parts:
            if part.phase == HELD:
                with spending.pause_metering():
                    run.until(part.end_s)
                continue
            phases.enter(part.phase)
            run.until(part.end_s)
            if fake.t >= report_s:
                report_s = fake.t + REPORT_S
                phases.enter(OUTSIDE_PHASES)
                spending.on_event(phases.read())
        spending.on_event(phases.read())
        run.stop()
        energy, attribution = spending.stop()
        return Outcome(attribution, energy, _powers(parts))


#: The number of no phase: the run is held.
HELD = -1


def _held(parts: list[Part], holds: Sequence[float]) -> list[Part]:
    """Put pauses between the parts, which are then later."""
    found: list[Part] = []
    later_s, waiting = 0.0, sorted(holds)
    for part in parts:
        if waiting and part.begin_s >= waiting[0]:
            waiting.pop(0)
            begin_s = part.begin_s + later_s
            found.append(Part(HELD, begin_s, begin_s + HELD_S, 1000.0))
            later_s += HELD_S
        moved = part.begin_s + later_s, part.end_s + later_s
        found.append(Part(part.phase, *moved, part.watts))
    return found


def _powers(parts: list[Part]) -> dict[str, float]:
    table: FloatArray = np.array(parts)
    lengths = table[:, 2] - table[:, 1]
    names = (*PHASES, NO_PHASE)
    return {
        name: float(np.average(table[mine, 3], weights=lengths[mine]))
        for phase, name in enumerate(names)
        if (mine := table[:, 0] == phase).any()
    }
