"""Records for the store's tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from effcore.records import Energy, EnergyQuality, RunConfig, RunEnd, RunStatus, StepBlock
from effcore.store import Store

CONFIG = RunConfig(
    task="digits",
    model="cnn",
    selection="confident-skip",
    update="every-step",
    epochs=3,
    batch_size=64,
    learning_rate=1e-3,
    seed=7,
    device="cpu",
    budget=0.6,
    optimizer="adamw",
    precision="fp32",
    threads=1,
    knobs={"mass": 0.35, "loss_threshold": None, "revisit": 4},
)
DENSE = dataclasses.replace(CONFIG, selection="dense", budget=None, knobs={})
END = RunEnd(
    status=RunStatus.FINISHED,
    reason="all passes are done",
    metric_name="accuracy",
    metric=0.97,
    passes=3,
    examples_considered=4311,
    examples_trained=2900,
    flops_spent=1.5e9,
    flops_dense=2.5e9,
    seconds=3.25,
    parameters_sha256="ab" * 32,
    flops_full=2.0e9,
)
ESTIMATE = Energy(
    joules=None,
    lo=12.5,
    hi=80.0,
    seconds=3.25,
    quality=EnergyQuality.ESTIMATED,
    source="processor time",
    scope="this process",
    notes=("not measured",),
)


def end(**fields: Any) -> RunEnd:
    return dataclasses.replace(END, **fields)


def block(first: int, count: int) -> StepBlock:
    """Rows whose every value tells its step and column."""
    steps = np.arange(first, first + count, dtype=np.float64)
    return StepBlock(steps + np.arange(8)[:, None] / 16)


@contextmanager
def opened(home: Path) -> Iterator[Store]:
    store = Store(home)
    try:
        yield store
    finally:
        store.close()
