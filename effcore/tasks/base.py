"""What every task is: data on the device, models, per-example loss, metric, view.

Suffix letters name dimensions: N examples, B batch, C classes or colours, H height,
W width.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from effcore.events import KnobValue
from effcore.registry import Registry, UnknownNameError, nearest

_SEEDING = threading.Lock()

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Metric:
    """The number a task is judged by.

    Attributes:
        name: Id in files and JSON.
        label: What charts call it.
        unit: Shown after the value; ``%`` means the value is a fraction.
        higher_is_better: Direction.
        digits: Decimals shown.
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool
    digits: int


@dataclass(frozen=True)
class ModelChoice:
    """One of a task's models.

    Attributes:
        id: Id on the command line.
        summary: One line that says what it is.
        build: Makes the module; parameters come from PyTorch's global generator.
    """

    id: str
    summary: str
    build: Callable[[], torch.nn.Module]


@dataclass(frozen=True)
class Defaults:
    """Where a run of the task starts from.

    Attributes:
        epochs: Passes over the data.
        batch_size: Examples per step, tuned for dense training.
        learning_rate: Peak rate, tuned for dense training.
        knobs: Values by name for policies that have such a knob, in place of their own.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    knobs: Mapping[str, KnobValue] = field(default_factory=dict)


class Evaluation(NamedTuple):
    """Mean loss and metric over a split, as 0-d tensors on the device."""

    loss: torch.Tensor
    metric: torch.Tensor


@dataclass(frozen=True)
class Attention:
    """Where the computation goes right now; what a task draws its view from.

    Attributes:
        batch_B: int64, the examples trained on in the last step.
        drawn_N: bool, the examples that the current pass draws.
        trained_N: float32, how often each example was drawn so far.
        last_loss_N: float32, each example's last loss; ``inf`` if never trained on.
    """

    batch_B: torch.Tensor
    drawn_N: torch.Tensor
    trained_N: torch.Tensor
    last_loss_N: torch.Tensor


class Task(ABC):
    """A data set with models; an instance holds the data, split by seed, on a device.

    Args:
        seed: Seed of the split.
        device: Where the data lives for the whole run.
    """

    id: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    rank: ClassVar[int] = 50
    metric: ClassVar[Metric]
    loss_kind: ClassVar[str]
    loss_label: ClassVar[str]
    models: ClassVar[tuple[ModelChoice, ...]]
    defaults: ClassVar[Defaults]
    n_train: ClassVar[int]
    #: Captions of the pictures that :meth:`view` draws, by name.
    captions: ClassVar[Mapping[str, str]]
    #: Whether the test split is the training data itself: a fit, not a generalisation.
    is_fit: ClassVar[bool] = False

    @abstractmethod
    def __init__(self, seed: int, device: torch.device) -> None: ...

    @abstractmethod
    def batch(
        self, idx_B: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets of the training examples ``idx_B`` (int64)."""

    @abstractmethod
    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return float32 per-example losses, shape (B,)."""

    @abstractmethod
    def evaluate(self, model: torch.nn.Module, split: str) -> Evaluation:
        """Evaluate on ``validation`` or ``test`` without gradient."""

    @abstractmethod
    def view(self, attention: Attention) -> dict[str, Picture]:
        """Return the pictures of the task's view, by name; reads the device."""

    def remember(self, idx_B: torch.Tensor, outputs: torch.Tensor) -> None:
        """Keep what a training step computed anyway, for the view; by default nothing."""
        return None

    @classmethod
    def model_choice(cls, name: str) -> ModelChoice:
        """Return the model called ``name``.

        Raises:
            UnknownNameError: The task has no such model; the message names the nearest.
        """
        by_id = {choice.id: choice for choice in cls.models}
        if name not in by_id:
            raise UnknownNameError(
                f"unknown model {name!r} of task {cls.id!r}: {nearest(name, list(by_id))}"
            )
        return by_id[name]

    def build_model(self, name: str, seed: int, device: torch.device) -> torch.nn.Module:
        """Return a fresh model whose parameters depend on ``seed`` alone."""
        with _SEEDING, torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.model_choice(name).build().to(device)


TASKS: Registry[Task] = Registry("task", "effcore.tasks")
