"""A run made of plain numbers, for what watches runs without training one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from effcore.knobs import KnobError, KnobSpec, knob, knobs_of
from effcore.records import (
    Energy,
    EnergyQuality,
    FloatArray,
    KnobChange,
    KnobValue,
    LossHistogram,
    RunConfig,
    RunStart,
    RunStatus,
    Snapshot,
    ViewEvent,
)
from effcore.records.run_description import MetricDescription, RunDescription

N_TRAIN, BATCH, PER_EXAMPLE = 1000, 100, 50.0
INFO = RunDescription(
    "A run",
    "A task",
    "a model",
    "A policy",
    "",
    MetricDescription("accuracy", "Accuracy", "%", True, 1),
)
MEASURED = Energy(10.0, None, None, 1.0, EnergyQuality.MEASURED, "a counter", "GPU board")
ESTIMATED = Energy(None, 5.0, 20.0, 1.0, EnergyQuality.ESTIMATED, "a model", "processor")
UNAVAILABLE = Energy(None, None, None, 1.0, EnergyQuality.UNAVAILABLE, "none", "none", ("No TDP.",))


@dataclass(frozen=True)
class Policy:
    """Two knobs."""

    mass: float = knob(0.5, lo=0.0, hi=0.95, step=0.01, label="Mass", help="What is cut.")
    revisit: int = knob(8, lo=1, hi=20, step=1, label="Revisit", help="How often.")


def config(**changes: object) -> RunConfig:
    plain = RunConfig(
        "tiny", "mlp", "confident-skip", "every-step", 4, BATCH, 0.1, 0, "cpu", None, "adamw",
        "fp32", 1, {"mass": 0.5, "revisit": 8},
    )  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type]


def step_table(n: int, skip: float = 0.5, selection: float = 0.1) -> FloatArray:
    """``n`` steps, one a tenth of a second, each skipping ``skip`` of what it considers."""
    step = np.arange(1.0, n + 1)
    considered = step * BATCH / (1 - skip)
    selecting = selection * step * BATCH * PER_EXAMPLE
    flops = step * BATCH * PER_EXAMPLE + selecting
    rate = np.full(n, 0.1)
    return np.stack([step, considered, step * BATCH, step / 10, flops, selecting, rate, 1 / step])


def snapshot(n: int = 20, **changes: object) -> Snapshot:
    """A running run of ``n`` steps, two evaluations and a watt of measured power."""
    steps = step_table(n)
    at = steps[:, [n // 2, n - 1]] if n else np.empty((8, 0))
    metric = np.linspace(0.5, 0.9, at.shape[1])
    seconds = np.arange(0.0, n / 10 + 0.1, 0.1)
    nothing = np.full(seconds.shape, math.nan)
    power = np.stack([seconds, np.ones_like(seconds), nothing, nothing, seconds, nothing, nothing])
    plain = Snapshot(
        run_id="one",
        config=config(),
        status=RunStatus.RUNNING,
        created_unix=0.0,
        start=RunStart(N_TRAIN, PER_EXAMPLE, 4 * N_TRAIN * PER_EXAMPLE, None, 10),
        end=None,
        progress=0.25,
        steps=steps,
        evals=np.stack([at[0], at[1], at[3], at[4], at[7], metric]),
        power=power,
        changes=(),
        energy=MEASURED,
        exploratory=False,
        knobs={"mass": 0.5, "revisit": 8},
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def histogram(threshold: float = 0.01) -> LossHistogram:
    return LossHistogram(5, np.logspace(-4, 0, 5), np.array([1, 2, 3, 4]), threshold, 7)


def view() -> ViewEvent:
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    return ViewEvent(5, {"picture": pixels}, {"picture": "What it sees"})


class FakeRun:
    """A run whose snapshot is set by the test and whose controls write down what came."""

    def __init__(self, look: Snapshot | None = None) -> None:
        self.look = look or snapshot()
        self.run_id = self.look.run_id
        self.pace = "full"
        self.asked: list[object] = []

    def snapshot(self) -> Snapshot:
        return self.look

    def knob_specs(self) -> tuple[KnobSpec, ...]:
        return knobs_of(Policy)

    def set_knob(self, name: str, value: object) -> int:
        specs = {spec.name: spec for spec in self.knob_specs()}
        if name not in specs:
            raise KnobError(f"unknown knob {name!r}")
        self.asked.append((name, specs[name].validate(value)))
        return len(self.asked)

    def apply(self, step: int, name: str, value: KnobValue) -> None:
        """Bring a knob into force, as the trainer does."""
        changes = (*self.look.changes, KnobChange(step, name, value))
        self.look = replace(self.look, changes=changes, knobs={**self.look.knobs, name: value})

    def pause(self) -> None:
        self.asked.append("pause")

    def resume(self) -> None:
        self.asked.append("resume")

    def step_once(self) -> None:
        self.asked.append("step")

    def stop(self) -> None:
        if self.look.status.is_final:
            raise RuntimeError("the run is over")
        self.asked.append("stop")

    def set_pace(self, pace: str) -> None:
        if pace not in ("full", "slow", "step"):
            raise ValueError(f"pace={pace!r} is not allowed")
        self.pace = pace

    def reproduction_command(self) -> str:
        return "python -m effcore run"

    def description(self) -> RunDescription:
        return INFO


class FakeSource:
    """Runs by id."""

    def __init__(self, *runs: FakeRun) -> None:
        self.runs = {run.run_id: run for run in runs}

    def find_run(self, run_id: str) -> FakeRun | None:
        if run_id == "broken":
            raise OSError("the disk is gone")
        return self.runs.get(run_id)

    def active_run(self) -> FakeRun | None:
        return next((r for r in self.runs.values() if not r.look.status.is_final), None)
