"""Small network trained on real digits for several seeds at once, fast enough for a slider.

Data, epoch sampling, policies and learning-rate schedule are those of every run. Only the
network's arithmetic uses numpy: a full run also counts, reports and meters, which takes
seconds. Suffixes: S seeds, B examples of a batch, N all examples.
"""

from __future__ import annotations

import functools
from typing import Final, NamedTuple

import numpy as np
import torch

from effcore.policies.selection.base import ExampleState, SelectionPolicy
from effcore.records import FloatArray
from effcore.tasks.base import TASKS, Task
from effcore.training.epoch_sampler import EpochSampler
from effcore.training.optimizer import learning_rate_factor

TASK: Final = "tabular-digits"
SEED_COUNT: Final = 6
#: Epochs of full training, and examples of a batch.
EPOCHS: Final = 4
BATCH_SIZE: Final = 16
LOSS_KIND: Final = "cross_entropy"
_HIDDEN_UNITS, _MOMENTUM = 32, 0.9
#: The best of 0.01, 0.03, 0.1 and 0.3 on the validation split, in full training.
PEAK_LR: Final = 0.1
_CPU = torch.device("cpu")

#: Weights (S, in, out) and biases (S, 1, out) of one layer after the other.
Parameters = list[FloatArray]


class _SplitTables(NamedTuple):
    """The same table, split by each seed; K classes, D columns."""

    tasks: list[Task]
    rows_SND: FloatArray
    one_hot_SNK: FloatArray  # 1 at the class of an example, else 0


@functools.cache
def _load_tables() -> _SplitTables:
    tasks = [TASKS.get(TASK)(seed, _CPU) for seed in range(SEED_COUNT)]
    all_examples = torch.arange(tasks[0].n_train)
    parts = [task.batch(all_examples, torch.Generator()) for task in tasks]
    rows, labels = (np.stack([part[i].numpy() for part in parts]) for i in range(2))
    return _SplitTables(tasks, rows.astype(np.float64), np.eye(labels.max() + 1)[labels])


def _initial_parameters(columns: int, classes: int) -> Parameters:
    parameters = []
    rng = np.random.default_rng(0)
    for n_in, n_out in ((columns, _HIDDEN_UNITS), (_HIDDEN_UNITS, classes)):
        parameters.append(rng.standard_normal((SEED_COUNT, n_in, n_out)) * np.sqrt(2 / n_in))
        parameters.append(np.zeros((SEED_COUNT, 1, n_out)))
    return parameters


def forward_network(parameters: Parameters, rows_SBD: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the hidden layer, (S, B, hidden), and the logits, (S, B, classes)."""
    weight_1, bias_1, weight_2, bias_2 = parameters
    hidden: FloatArray = np.maximum(rows_SBD @ weight_1 + bias_1, 0.0)
    logits: FloatArray = hidden @ weight_2 + bias_2
    return hidden, logits


def losses_and_gradient(
    parameters: Parameters, rows_SBD: FloatArray, one_hot_SBK: FloatArray
) -> tuple[FloatArray, Parameters]:
    """Return each example's cross-entropy, (S, B), and the gradient of each seed's mean."""
    hidden, logits = forward_network(parameters, rows_SBD)
    logits -= logits.max(-1, keepdims=True)
    log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    # 0 − x, because −x may be a negative zero.
    losses = 0.0 - (log_probabilities * one_hot_SBK).sum(-1)
    error = (np.exp(log_probabilities) - one_hot_SBK) / one_hot_SBK.shape[1]
    hidden_error = (error @ parameters[2].swapaxes(1, 2)) * (hidden > 0)
    gradient = [
        rows_SBD.swapaxes(1, 2) @ hidden_error,
        hidden_error.sum(1, keepdims=True),
        hidden.swapaxes(1, 2) @ error,
        error.sum(1, keepdims=True),
    ]
    return losses, gradient


class _SeedNetwork(torch.nn.Module):
    """One seed's network as a module, so that the task can evaluate it."""

    def __init__(self, parameters: Parameters, seed: int) -> None:
        super().__init__()
        self._own = [part[seed : seed + 1] for part in parameters]

    def forward(self, rows_ND: torch.Tensor) -> torch.Tensor:
        """Return the logits, (N, classes)."""
        return torch.from_numpy(forward_network(self._own, rows_ND.double().numpy()[None])[1][0])


class MultiSeedLearner:
    """Networks of all seeds, trained on the examples that a policy draws.

    Args:
        policy: The selection policy, the same for every seed, each with its own losses.
        total_steps: Steps over which the learning rate is decayed.
        peak_lr: Peak learning rate.

    Attributes:
        steps: Steps taken.
        last_loss_SN: Last loss of each example, float32; ``inf`` until it is first trained on.
    """

    def __init__(self, policy: SelectionPolicy, total_steps: int, peak_lr: float = PEAK_LR) -> None:
        # OpenMP stores this per thread; more threads are slower for so little work.
        torch.set_num_threads(1)
        self._policy, self._total_steps, self._peak_lr = policy, total_steps, peak_lr
        data = _load_tables()
        n, columns = data.rows_SND.shape[1:]
        self._parameters = _initial_parameters(columns, data.one_hot_SNK.shape[-1])
        self._momentum = [np.zeros_like(part) for part in self._parameters]
        self._samplers = [EpochSampler(n, BATCH_SIZE, seed, _CPU) for seed in range(SEED_COUNT)]
        self.steps = 0
        self.last_loss_SN = torch.full((SEED_COUNT, n), torch.inf)

    def step(self) -> None:
        """Train each seed's network on its next batch (SGD with Nesterov's momentum)."""
        data, seed = _load_tables(), np.arange(SEED_COUNT)[:, None]
        idx_SB = torch.stack([self._next_batch(s) for s in range(SEED_COUNT)]).numpy()
        losses, gradient = losses_and_gradient(
            self._parameters, data.rows_SND[seed, idx_SB], data.one_hot_SNK[seed, idx_SB]
        )
        lr = self._peak_lr * learning_rate_factor((self.steps + 0.5) / self._total_steps)
        for part, momentum, gradient_part in zip(
            self._parameters, self._momentum, gradient, strict=True
        ):
            momentum *= _MOMENTUM
            momentum += gradient_part
            part -= lr * (gradient_part + _MOMENTUM * momentum)
        self.last_loss_SN.numpy()[seed, idx_SB] = losses
        self.steps += 1

    def _next_batch(self, seed: int) -> torch.Tensor:
        sampler = self._samplers[seed]
        while sampler.epoch_index < 0 or (idx_B := sampler.next_batch()) is None:
            sampler.begin_epoch()
            example_state = ExampleState(self.last_loss_SN[seed], sampler.epoch_index, LOSS_KIND)
            sampler.apply_decision(self._policy.inclusion_probabilities(example_state))
        return idx_B

    def accuracy(self, split: str) -> FloatArray:
        """Return each seed's accuracy on a split, (S,)."""
        tasks = _load_tables().tasks
        metrics = (
            task.evaluate(_SeedNetwork(self._parameters, seed), split).metric
            for seed, task in enumerate(tasks)
        )
        return np.array([float(metric) for metric in metrics])


def steps_for_frac(frac: float) -> int:
    """Return the number of steps of a share, 0 to 1, of full training."""
    return round(frac * EPOCHS * _load_tables().tasks[0].n_train / BATCH_SIZE)
