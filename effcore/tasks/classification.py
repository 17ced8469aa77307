"""Base class of classification tasks: cross-entropy, accuracy and calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import nn

from effcore.records.deprecation import with_old_names
from effcore.tasks.base import ConstantModel, Evaluation, Metric, Task, class_logits

ACCURACY = Metric("accuracy", "Accuracy", "%", higher_is_better=True, digits=2, margin=0.005)
BALANCED_ACCURACY = Metric(
    "balanced_accuracy", "Balanced accuracy", "%", higher_is_better=True, digits=2, margin=0.005
)


def accuracy(logits_NC: torch.Tensor, label_N: torch.Tensor) -> torch.Tensor:
    """Return the share of examples classified correctly, 0-d."""
    return (logits_NC.argmax(-1) == label_N).float().mean()


def balanced_accuracy(logits_NC: torch.Tensor, label_N: torch.Tensor) -> torch.Tensor:
    """Return the mean over classes of the share classified correctly, 0-d.

    Classes without examples are left out.
    """
    own_NC = nn.functional.one_hot(label_N, logits_NC.shape[-1]).float()
    hit_N = (logits_NC.argmax(-1) == label_N).float()
    return ((hit_N[:, None] * own_NC).sum(0) / own_NC.sum(0)).nanmean()


#: Confidence bins of the calibration error.
_CALIBRATION_BINS = 15
_METRIC_FUNCTIONS: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
}


@with_old_names
class Classification(Task):
    """A task whose examples are each of one class.

    A subclass sets the names of its classes in ``groups`` and each split's labels, int64 of
    shape (N,), in ``_label``.
    """

    loss_kind = "cross_entropy"
    loss_label = "Cross-entropy"
    metric = ACCURACY
    _label: dict[str, torch.Tensor]

    @property
    def group_N(self) -> torch.Tensor:
        """The given class of each training example, label noise included, int64 (N,)."""
        return self._label["train"]

    def class_name_of(self, index: int) -> str:
        """Return the name of a training example's given class."""
        return self.groups[int(self._label["train"][index])]

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return each example's cross-entropy, in nats."""
        return nn.functional.cross_entropy(outputs.float(), targets, reduction="none")

    def evaluate(self, model: nn.Module, split: str) -> Evaluation:
        """Return the mean cross-entropy and the metric over a split."""
        logits_NC, label_N = model(self.held_out_inputs(split)), self._label[split]
        score = _METRIC_FUNCTIONS[self.metric.name](logits_NC, label_N)
        return Evaluation(self.losses(logits_NC, label_N).mean(), score)

    def extra_metrics(self, model: nn.Module, split: str) -> dict[str, float]:
        """Return the accuracy on the worst class, and the expected calibration error."""
        logits_NC, label_N = model(self.held_out_inputs(split)).float(), self._label[split]
        probability_NC = logits_NC.softmax(-1)
        right_N = (logits_NC.argmax(-1) == label_N).float()
        by_class = [right_N[label_N == group] for group in range(len(self.groups))]
        class_accuracy = [right_K.mean() for right_K in by_class if len(right_K)]
        error = calibration_error(probability_NC.amax(-1), right_N)
        return {
            "worst_class": float(torch.stack(class_accuracy).min()),
            "calibration_error": float(error),
        }

    def held_out_inputs(self, split: str) -> torch.Tensor:
        """Return the inputs of a split as they are evaluated, shape (N, ...)."""
        raise NotImplementedError

    def trivial_model(self) -> nn.Module:
        """Return a model of the class frequencies."""
        return ConstantModel(class_logits(self._label["train"], len(self.groups)))


def calibration_error(confidence_N: torch.Tensor, right_N: torch.Tensor) -> torch.Tensor:
    """Return the expected calibration error over 15 confidence bins of equal width, 0-d.

    Guo et al. 2017, *On Calibration of Modern Neural Networks*, equation 3: the gap between
    accuracy and confidence of each bin, weighted by its share of the examples.

    Args:
        confidence_N: Probability given to the predicted class.
        right_N: 1 if that class is right, else 0.
    """
    bin_N = (confidence_N * _CALIBRATION_BINS).long().clamp_max(_CALIBRATION_BINS - 1)
    gap_K = torch.zeros(_CALIBRATION_BINS, device=confidence_N.device)
    gap_K.index_add_(0, bin_N, right_N - confidence_N)
    return gap_K.abs().sum() / len(confidence_N)
