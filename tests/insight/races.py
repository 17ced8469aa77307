"""Races made of plain numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from effcore.records import Energy, RunEnd, RunStatus, Snapshot
from tests.fakes import MEASURED, config, snapshot

END = RunEnd(
    RunStatus.FINISHED, "", "accuracy", 0.9, 4, 4000, 2000, 60e9, 120e9, 6.0, None, {}, 100e9
)
METERED = replace(MEASURED, lo=9.0, hi=11.0)


def finished(selection: str, energy: Energy = METERED, **end: Any) -> Snapshot:
    """A run of digits that has ended; ``end`` changes what it came to."""
    of = config(task="digits", model="cnn", selection=selection, budget=0.6)
    return snapshot(
        config=of if selection != "dense" else replace(of, budget=None, knobs={}),
        end=replace(END, **end), status=RunStatus.FINISHED, progress=1.0, energy=energy,
    )  # fmt: skip


def race(own: Energy = METERED, dense: Energy = METERED, **end: Any) -> tuple[Snapshot, Snapshot]:
    """A dense run that took 100 GFLOP and 10 s, and one that took less."""
    usual = finished("dense", dense, flops_spent=100e9, seconds=10.0, metric=0.92)
    return usual, finished("confident-skip", own, **end)


def waiting(look: Snapshot) -> Snapshot:
    """The same run before its turn came."""
    nothing = {name: getattr(look, name)[:, :0] for name in ("steps", "evals", "power")}
    unknown = replace(METERED, joules=None, lo=None, hi=None)
    return replace(look, status=RunStatus.QUEUED, end=None, progress=0.0, energy=unknown, **nothing)


def training(look: Snapshot, progress: float) -> Snapshot:
    """The same run on its way."""
    return replace(look, status=RunStatus.RUNNING, end=None, progress=progress)
