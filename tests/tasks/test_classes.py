"""What is told of a classifier beside its metric."""

from __future__ import annotations

import torch
from torch import nn

from effcore.tasks.classification import calibration_error
from effcore.testing.tiny_task import TinyTask


def test_calibration_is_the_gap_of_each_bin_by_its_share() -> None:
    # Bins of 1/15: 0.95 and 0.96 share one, accuracy 1/2; 0.5 has one of its own, accuracy 1.
    confidence_N = torch.tensor([0.95, 0.96, 0.5, 0.5])
    right_N = torch.tensor([1.0, 0.0, 1.0, 1.0])
    expected = abs(1.0 - 0.95 - 0.96) / 4 + abs(2.0 - 1.0) / 4
    torch.testing.assert_close(calibration_error(confidence_N, right_N), torch.tensor(expected))


def test_a_model_as_sure_as_it_is_right_is_calibrated() -> None:
    generator = torch.Generator().manual_seed(0)
    confidence_N = torch.rand(200_000, generator=generator)
    right_N = (torch.rand(200_000, generator=generator) < confidence_N).float()
    assert float(calibration_error(confidence_N, right_N)) < 0.01
    assert float(calibration_error(confidence_N, 1.0 - right_N)) > 0.4


def test_the_worst_class_is_told_apart() -> None:
    task = TinyTask(0, torch.device("cpu"))

    class Always(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.tensor([4.0, 0.0]).expand(len(inputs), 2)

    found = task.extra_metrics(Always(), "test")
    assert found["worst_class"] == 0.0
    share = float((task._label["test"] == 0).float().mean())
    sure = float(torch.tensor([4.0, 0.0]).softmax(0)[0])
    assert abs(found["calibration_error"] - abs(share - sure)) < 1e-6
