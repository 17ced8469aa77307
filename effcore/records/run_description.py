"""Titles and labels of a run, as its charts, tiles and lists show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class MetricDescription:
    """How a metric is shown.

    Attributes:
        name: Id in files and JSON.
        label: Title on charts.
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
class RunDescription:
    """Titles and labels of a run.

    Attributes:
        title: Task and selection policy.
        task: Title of the task.
        model: Id of the model.
        selection: Title of the selection policy.
        setup: What task and selection policy leave open, and where the data is from.
        metric: How the metric is shown.
        loss_label: What a loss is called.
        confidence: Whether a loss tells how confident the model is.
        captions: Captions of the task's pictures, by picture.
        is_fit: Whether the model is fitted to a single picture.
        owners: Title of the policy that each knob belongs to, by knob.
        preparing: What the run does before its first step; empty where it is nothing.
    """

    title: str
    task: str
    model: str
    selection: str
    setup: str
    metric: MetricDescription
    loss_label: str = "Loss"
    confidence: bool = False
    captions: Mapping[str, str] = field(default_factory=dict)
    is_fit: bool = False
    owners: Mapping[str, str] = field(default_factory=dict)
    preparing: str = ""
