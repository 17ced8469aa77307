"""What every task is: data on the device, models, per-example loss, metric, view.

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
from effcore.records.views import ExampleDisplay, ViewItem
from effcore.registry import Registry, UnknownNameError, suggest_nearest

#: Sizes of every model, the middle one being what the defaults were tuned for.
SIZES = ("small", "medium", "large")
_SEEDING_LOCK = threading.Lock()


@dataclass(frozen=True)
class Metric:
    """The number a task is judged by.

    Attributes:
        name: Id in files and JSON.
        label: What charts call it.
        unit: Shown after the value; ``%`` means the value is a fraction.
        higher_is_better: Direction.
        digits: Decimals shown.
        margin: A difference of no consequence, in the metric's own scale.
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool
    digits: int
    margin: float

    @property
    def factor(self) -> float:
        """What a value is multiplied by to be shown in ``unit``."""
        return 100.0 if self.unit == "%" else 1.0

    @property
    def sign(self) -> float:
        """What a value is multiplied by so that more is better."""
        return 1.0 if self.higher_is_better else -1.0

    @property
    def difference_unit(self) -> str:
        """What follows a difference, multiplied alike: fractions differ by points."""
        return "points" if self.unit == "%" else self.unit


@dataclass(frozen=True)
class Defaults:
    """Where a run of a model starts from.

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


@dataclass(frozen=True)
class ModelChoice:
    """One of a task's models.

    Attributes:
        id: Id on the command line.
        summary: One line that says what it is.
        build: Makes the module at one of ``SIZES``; parameters come from PyTorch's global
            generator. Its children are its stages, run one after the other: a policy may
            freeze the first of them.
        defaults: Where its runs start from.
        reducible: What of an example the model takes smaller, too: ``resolution``,
            ``length``, or nothing.
    """

    id: str
    summary: str
    build: Callable[[str], nn.Sequential]
    defaults: Defaults
    reducible: str = ""


class Provenance(NamedTuple):
    """Where data comes from, and a text that differs where the data does.

    Attributes:
        words: For people to read.
        hash: The same for the same data, on every machine.
        problem: Why there is no data here; empty where there is.
    """

    words: str = ""
    hash: str = ""
    problem: str = ""


class Evaluation(NamedTuple):
    """Mean loss and metric over a split, as 0-d tensors on the device."""

    loss: torch.Tensor
    metric: torch.Tensor


@dataclass(frozen=True)
class ViewInputs:
    """Where the computation goes right now; what a task draws its view from.

    Attributes:
        batch_B: int64, the examples trained on in the last step.
        drawn_N: bool, the examples that the current pass draws.
        trained_N: float32, how often each example was drawn so far.
        last_loss_N: float32, each example's last loss; ``inf`` if never trained on.
        model: The model as it is, in evaluation mode; not to be changed.
    """

    batch_B: torch.Tensor
    drawn_N: torch.Tensor
    trained_N: torch.Tensor
    last_loss_N: torch.Tensor
    model: nn.Module

    def easiest_skipped(self, count: int) -> torch.Tensor:
        """Return the first so many examples that this pass skips, the easiest first."""
        ease_N = torch.where(self.drawn_N, torch.inf, self.last_loss_N)
        easiest = ease_N.argsort(stable=True)[:count]
        return easiest[~self.drawn_N[easiest]]


@dataclass(frozen=True)
class NoSettings:
    """The settings of data that cannot be made in any other way."""


class ConstantModel(nn.Module):
    """Answers the same to every example.

    Args:
        answer: float32, of any shape.
        places: Dimensions of an input that each have an answer: 1 for examples, 2 for
            examples and tokens.
    """

    answer: torch.Tensor

    def __init__(self, answer: torch.Tensor, places: int = 1) -> None:
        super().__init__()
        self.register_buffer("answer", answer)
        self.places = places

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the answer for every place."""
        return self.answer.expand(*inputs.shape[: self.places], *self.answer.shape)


def class_logits(labels: torch.Tensor, n_classes: int) -> torch.Tensor:
    """Return the logits that give each class its share of ``labels``."""
    counts = torch.bincount(labels.flatten(), minlength=n_classes)
    return counts.clamp_min(0.5).float().log()


class Task(ABC):
    """A data set with models; an instance holds the data, split by seed, on a device.

    Args:
        seed: Seed of the split, and of whatever about the data is drawn.
        device: Where the data lives for the whole run.
        data: How the data is made, an instance of ``settings``; ``None`` for its defaults.
    """

    id: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    rank: ClassVar[int] = 50
    metric: ClassVar[Metric]
    loss_kind: ClassVar[str]
    loss_label: ClassVar[str]
    models: ClassVar[tuple[ModelChoice, ...]]
    #: A frozen dataclass whose knobs say how the data is made; fixed for a run.
    settings: ClassVar[type[Any]] = NoSettings
    #: What the classes are called, where there are any.
    groups: ClassVar[tuple[str, ...]] = ()
    #: What is in the view, by name.
    captions: ClassVar[Mapping[str, str]]
    #: Whether the test split is the training data itself: a fit, not a generalisation.
    is_fit: ClassVar[bool] = False
    #: Whether the held-out part is the same whatever the seed.
    fixed_split: ClassVar[bool] = False
    #: Whether a training example looks different each time.
    augmented: ClassVar[bool] = True
    #: Number of training examples; of the class, where the settings do not decide it.
    n_train: int

    @abstractmethod
    def __init__(self, seed: int, device: torch.device, data: Any = None) -> None: ...

    @classmethod
    def count_examples(cls, data: Any) -> int:
        """Return how many training examples the settings ``data`` make, without making them."""
        return cls.n_train

    @classmethod
    def provenance(cls) -> Provenance:
        """Return where the data comes from, where that may vary."""
        return Provenance()

    @abstractmethod
    def batch(
        self, idx_B: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return inputs and targets of the training examples ``idx_B`` (int64)."""

    @property
    def group_N(self) -> torch.Tensor | None:
        """The class of each training example, int64; ``None`` where there are none."""
        return None

    def reduce_batch(
        self, idx_B: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor, share: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a batch of this share of the side or length.

        Only asked of tasks with a model that takes less.

        Args:
            idx_B: int64, the examples.
            inputs: What :meth:`batch` returned for them.
            targets: Likewise.
            share: In (0, 1).
        """
        raise NotImplementedError(f"task {self.id!r} has nothing that could be smaller")

    def active_mask(self, share: float) -> torch.Tensor | None:
        """Return which examples stand for others at this share of the side, bool (N,).

        ``None`` where each stands for itself.
        """
        return None

    @abstractmethod
    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return float32 per-example losses, shape (B,)."""

    @abstractmethod
    def evaluate(self, model: nn.Module, split: str) -> Evaluation:
        """Evaluate on ``validation`` or ``test`` without gradient."""

    def extra_metrics(self, model: nn.Module, split: str) -> dict[str, float]:
        """Return what the metric does not tell, by name, as fractions; by default nothing."""
        return {}

    @abstractmethod
    def view(self, inputs: ViewInputs) -> dict[str, ViewItem]:
        """Return what the task shows, by name; reads the device."""

    @abstractmethod
    def display_example(self, index: int) -> ExampleDisplay:
        """Return what a training example is, as it was before anything was augmented."""

    @abstractmethod
    def trivial_model(self) -> nn.Module:
        """Return a model that looks at no input, the least that learning must beat."""

    def record_outputs(self, idx_B: torch.Tensor, outputs: torch.Tensor) -> None:
        """Keep what a training step computed anyway, for the view; by default nothing.

        Called right after :meth:`losses` of the same step.
        """
        return None

    def view_state(self) -> dict[str, torch.Tensor]:
        """Return what a run that goes on from a checkpoint must not have forgotten.

        That is what :meth:`remember` keeps and what views draw; what a batch is made of comes
        from the generator that :meth:`batch` is given. By default nothing.
        """
        return {}

    def restore_view_state(self, memories: Mapping[str, torch.Tensor]) -> None:
        """Take up what :meth:`view_state` of the same task returned, on the host."""
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
                f"unknown model {name!r} of task {cls.id!r}: {suggest_nearest(name, list(by_id))}"
            )
        return by_id[name]

    def build_model(
        self, name: str, seed: int, device: torch.device, size: str = "medium"
    ) -> nn.Sequential:
        """Return a fresh model whose parameters depend on ``seed`` alone."""
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
    """Return the configured model, fresh."""
    return task.build_model(config.model, config.seed, torch.device(config.device), config.size)
