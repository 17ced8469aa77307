"""Between two passes nothing is read back from the device: on a GPU that would wait for it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from effcore.bench.host_sync_counter import HostSyncCounter
from effcore.config import resolve
from effcore.knobs import Controls
from effcore.policies.combination import POLICY_REGISTRIES
from effcore.records import RunEnd, RunStatus
from effcore.tasks.base import TASKS
from effcore.training.training_loop import TrainingLoop

#: What a policy that does not go with residual blocks on a table is tried with.
ELSEWHERE = {"resolution": ("digits", "cnn"), "sequence-growth": ("code", "convolution")}
MODELS = [(task.id, choice.id) for task in TASKS for choice in task.models]
EVERY = [(kind, name) for kind, registry in POLICY_REGISTRIES.items() for name in registry.ids()]


class Watched(TrainingLoop):
    """A loop whose steps are counted reads of, but for the first, which prices what it does."""

    watch: HostSyncCounter
    counted = 0

    def next_batch(self) -> torch.Tensor | None:
        with self.watch.running(self.ledger.steps > 0):
            return super().next_batch()

    def train_on_batch(self, idx_B: torch.Tensor) -> None:
        self.counted += self.ledger.steps > 0
        with self.watch.running(self.ledger.steps > 0):
            super().train_on_batch(idx_B)


def reads(most: int, **settings: Any) -> tuple[int, int]:
    """Return how often so many steps read the host, and how many of them there were."""
    loop = Watched(resolve({"device": "cpu", "size": "small", **settings}), Controls(), lambda: 0.0)
    with HostSyncCounter(counts=True) as watch:
        loop.watch = watch
        for event in loop.run():
            if loop.counted >= most:
                break
            assert not isinstance(event, RunEnd) or event.status is RunStatus.FINISHED
    return watch.reads, loop.counted


@pytest.mark.parametrize(("kind", "name"), EVERY, ids=lambda part: part)
def test_no_step_of_a_policy_reads_the_host(kind: str, name: str) -> None:
    task, model = ELSEWHERE.get(name, ("tabular-wine", "resnet"))
    settings = {"task": task, "model": model, "selection": "dense", "epochs": 4, kind: name}
    found, counted = reads(20, **settings)
    assert (found, counted > 5) == (0, True)


@pytest.mark.parametrize(("task", "model"), MODELS, ids=lambda part: part)
def test_no_step_of_a_model_reads_the_host(task: str, model: str) -> None:
    assert reads(3, task=task, model=model, selection="confident-skip") == (0, 3)
