"""Base class of tasks: data on the device, models, per-example loss, metric and view.

Suffix letters name dimensions: N examples, B batch, T tokens, C classes or colours, H
height, W width.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn

from effcore.knobs import with_knobs
from effcore.records import KnobValue, RunConfig
from effcore.records.deprecation import resolve_old_names, with_old_names
from effcore.records.views import ExampleDisplay, ViewItem
from effcore.registry import Registry, UnknownNameError, suggest_nearest

#: Sizes of every model; the defaults were tuned for ``medium``.
SIZES = ("small", "medium", "large")
_SEEDING_LOCK = threading.Lock()


@dataclass(frozen=True)
class Metric:
    """The metric of a task.

    Attributes:
        name: Id in files and JSON.
        label: Name in charts.
        unit: Shown after the value; ``%`` means the value is a fraction.
        higher_is_better: Whether a higher value is better.
        digits: Decimals shown.
        margin: Largest difference that counts as equivalent, in the metric's own scale.
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool
    digits: int
    margin: float

    @property
    def factor(self) -> float:
        """Factor from a value to its number in ``unit``."""
        return 100.0 if self.unit == "%" else 1.0

    @property
    def sign(self) -> float:
        """What a value is multiplied by so that more is better."""
        return 1.0 if self.higher_is_better else -1.0

    @property
    def difference_unit(self) -> str:
        """Unit of a difference of two values: ``points`` for fractions, otherwise ``unit``."""
        return "points" if self.unit == "%" else self.unit


@dataclass(frozen=True)
class Defaults:
    """Default settings of a model's runs.

    Attributes:
        epochs: Epochs over the data.
        batch_size: Examples per step, tuned for dense training.
        learning_rate: Peak learning rate, tuned for dense training.
        knobs: Initial knob values by name, in place of the policies' own defaults.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    knobs: Mapping[str, KnobValue] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelChoice:
    """One of a task's models.

    Attributes:
        id: Id on the command line.
        summary: One sentence that describes the model.
        build: Returns the module for one of ``SIZES``; parameters are drawn from PyTorch's
            global generator. Its children are its stages, run one after the other; a policy
            may freeze the first of them.
        defaults: Default settings of its runs.
        reducible: What the model accepts at reduced size: ``resolution``, ``length`` or
            nothing.
    """

    id: str
    summary: str
    build: Callable[[str], nn.Sequential]
    defaults: Defaults
    reducible: str = ""


class Provenance(NamedTuple):
    """Source of a task's data, and its hash.

    Attributes:
        words: The source in words.
        hash: Hash of the data; the same on every machine.
        problem: Why the data is not available on this machine; empty if it is.
    """

    words: str = ""
    hash: str = ""
    problem: str = ""


class Evaluation(NamedTuple):
    """Mean loss and metric over a split, as 0-d tensors on the device."""

    loss: torch.Tensor
    metric: torch.Tensor


@with_old_names
@dataclass(frozen=True)
class ViewInputs:
    """State of a run that a task draws its view from.

    Attributes:
        batch_B: int64, the examples trained on in the last step.
        drawn_N: bool, the examples that the current epoch draws.
        trained_N: float32, how often each example was drawn so far.
        last_loss_N: float32, each example's last loss; ``inf`` if never trained on.
        model: The current model, in evaluation mode; it must not be changed.
    """

    batch_B: torch.Tensor
    drawn_N: torch.Tensor
    trained_N: torch.Tensor
    last_loss_N: torch.Tensor
    model: nn.Module

    def easiest_skipped(self, count: int) -> torch.Tensor:
        """Return at most ``count`` examples that this epoch skips, easiest first, int64."""
        ease_N = torch.where(self.drawn_N, torch.inf, self.last_loss_N)
        easiest = ease_N.argsort(stable=True)[:count]
        return easiest[~self.drawn_N[easiest]]


@dataclass(frozen=True)
class NoSettings:
    """Data settings of a task that has none."""


class ConstantModel(nn.Module):
    """Model with the same output for every example.

    Args:
        answer: The output, float32, of any shape.
        places: Leading dimensions of an input over which it is repeated: 1 for examples, 2 for
            examples and tokens.
    """

    answer: torch.Tensor

    def __init__(self, answer: torch.Tensor, places: int = 1) -> None:
        super().__init__()
        self.register_buffer("answer", answer)
        self.places = places

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the output, repeated over the leading dimensions of the input."""
        return self.answer.expand(*inputs.shape[: self.places], *self.answer.shape)


def class_logits(labels: torch.Tensor, n_classes: int) -> torch.Tensor:
    """Return the logits that give each class its share of ``labels``."""
    counts = torch.bincount(labels.flatten(), minlength=n_classes)
    return counts.clamp_min(0.5).float().log()


@with_old_names
class Task(ABC):
    """A data set with models; an instance holds the data, split by seed, on a device.

    Args:
        seed: Seed of the split, and of any random part of the data.
        device: Device of the data.
        data: Data settings, an instance of ``settings``; ``None`` for the defaults.
    """

    id: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    rank: ClassVar[int] = 50
    metric: ClassVar[Metric]
    loss_kind: ClassVar[str]
    loss_label: ClassVar[str]
    models: ClassVar[tuple[ModelChoice, ...]]
    #: Frozen dataclass of the data settings, declared as knobs; they are fixed for a run.
    settings: ClassVar[type[Any]] = NoSettings
    #: Names of the classes; empty for tasks without classes.
    groups: ClassVar[tuple[str, ...]] = ()
    #: Captions of the view's items, by name.
    captions: ClassVar[Mapping[str, str]]
    #: Whether the test split is the training data itself: a fit, not a generalisation.
    is_fit: ClassVar[bool] = False
    #: Whether the held-out part is the same for every seed.
    fixed_split: ClassVar[bool] = False
    #: Whether training examples are randomly augmented.
    augmented: ClassVar[bool] = True
    #: Number of training examples; set on the class if it does not depend on the settings.
    n_train: int

    @abstractmethod
    def __init__(self, seed: int, device: torch.device, data: Any = None) -> None: ...

    @classmethod
    def count_examples(cls, data: Any) -> int:
        """Return the number of training examples for the settings ``data``, without making them."""
        return cls.n_train

    @classmethod
    def provenance(cls) -> Provenance:
        """Return the source of the data; empty if it is the same on every machine."""
        return Provenance()

    @abstractmethod
    def batch(
        self, idx_B: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets of the training examples ``idx_B`` (int64)."""

    @property
    def group_N(self) -> torch.Tensor | None:
        """The class of each training example, int64; ``None`` for tasks without classes."""
        return None

    def reduce_batch(
        self, idx_B: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor, share: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a batch reduced to this share of its side or length.

        Called only for tasks with a model that accepts it (``ModelChoice.reducible``).

        Args:
            idx_B: int64, indices of the examples.
            inputs: Inputs that :meth:`batch` returned for them.
            targets: Targets that :meth:`batch` returned for them.
            share: Share of the side or length, in (0, 1).
        """
        raise NotImplementedError(f"examples of task {self.id!r} cannot be reduced")

    def active_mask(self, share: float) -> torch.Tensor | None:
        """Return which examples represent others at this share of the side, bool (N,).

        ``None`` if each example represents itself.
        """
        return None

    @abstractmethod
    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return float32 per-example losses, shape (B,)."""

    @abstractmethod
    def evaluate(self, model: nn.Module, split: str) -> Evaluation:
        """Evaluate on ``validation`` or ``test`` without gradient."""

    def extra_metrics(self, model: nn.Module, split: str) -> dict[str, float]:
        """Return additional metrics by name, as fractions; by default none."""
        return {}

    @abstractmethod
    def view(self, inputs: ViewInputs) -> dict[str, ViewItem]:
        """Return the items of the task's view by name; reads the device."""

    @abstractmethod
    def display_example(self, index: int) -> ExampleDisplay:
        """Return a training example for display, without augmentation."""

    @abstractmethod
    def trivial_model(self) -> nn.Module:
        """Return a model that ignores its input: the lowest baseline."""

    def record_outputs(self, idx_B: torch.Tensor, outputs: torch.Tensor) -> None:
        """Store outputs of a training step for the view; by default nothing.

        Called right after :meth:`losses` of the same step.
        """
        return None

    def view_state(self) -> dict[str, torch.Tensor]:
        """Return the tensors of the view that a checkpoint has to store; by default none.

        These are what :meth:`record_outputs` stores and what views draw at random. Batches need no
        state, since they depend only on the generator passed to :meth:`batch`.
        """
        return {}

    def restore_view_state(self, memories: Mapping[str, torch.Tensor]) -> None:
        """Restore what :meth:`view_state` of the same task returned, as tensors on the host."""
        return None

    @classmethod
    def model_choice(cls, name: str) -> ModelChoice:
        """Return the model called ``name``.

        Raises:
            UnknownNameError: The task has no such model; the message suggests the nearest.
        """
        by_id = {choice.id: choice for choice in cls.models}
        if name not in by_id:
            raise UnknownNameError(
                f"unknown model {name!r} of task {cls.id!r}: {suggest_nearest(name, list(by_id))}"
            )
        return by_id[name]

    def build_model(
        self, name: str, seed: int, device: torch.device, size: str = "medium"
    ) -> nn.Sequential:
        """Return a new model, whose parameters depend only on ``seed``."""
        with _SEEDING_LOCK, torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.model_choice(name).build(size)
        return model.to(device)


TASKS: Registry[Task] = Registry("task", "effcore.tasks")


def make_task(config: RunConfig) -> Task:
    """Return the configured task with its data, on the configured device."""
    cls = TASKS.get(config.task)
    data = with_knobs(cls.settings(), config.data)
    return cls(config.seed, torch.device(config.device), data)


def make_model(task: Task, config: RunConfig) -> nn.Sequential:
    """Return a new model as configured."""
    return task.build_model(config.model, config.seed, torch.device(config.device), config.size)


resolve_old_names(__name__)
