"""Descriptions of configurations for runs and charts, and of the time left."""

from __future__ import annotations

from effcore.knobs import knobs_of, values_of
from effcore.policies.combination import (
    DEFAULT_INTENSITY,
    DEFAULT_UPDATE,
    POLICY_REGISTRIES,
    policies_of,
)
from effcore.records import RunConfig
from effcore.records.run_description import MetricDescription, RunDescription
from effcore.tasks.base import TASKS

#: Shown before the first step of a run whose policy needs irreducible losses.
_IRREDUCIBLE_LOSS_NOTE = (
    "Two small models train first, to score every example; their computation counts."
)


def describe_config(config: RunConfig) -> RunDescription:
    """Return the titles and labels of a configuration."""
    task = TASKS.get(config.task)
    selection = POLICY_REGISTRIES["selection"].get(config.selection)
    metric = task.metric
    policies = policies_of(config).classes()
    return RunDescription(
        title=f"{task.title} · {selection.title}",
        task=task.title,
        model=config.model,
        selection=selection.title,
        setup=" · ".join(text for text in (setup_text(config), task.provenance().words) if text),
        metric=MetricDescription(
            metric.name, metric.label, metric.unit, metric.higher_is_better, metric.digits
        ),
        loss_label=task.loss_label,
        confidence=task.loss_kind == "cross_entropy",
        captions=dict(task.captions),
        is_fit=task.is_fit,
        owners={spec.name: policy.title for policy in policies for spec in knobs_of(policy)},
        preparing=_IRREDUCIBLE_LOSS_NOTE if selection.needs_irreducible else "",
    )


def setup_text(config: RunConfig) -> str:
    """Return model, size, policies and data settings that differ from the defaults, as text."""
    task = TASKS.get(config.task)
    parts = [f"{config.model}, {config.size}"]
    if config.update != DEFAULT_UPDATE:
        parts.append(POLICY_REGISTRIES["update"].get(config.update).title)
    if config.intensity != DEFAULT_INTENSITY:
        parts.append(POLICY_REGISTRIES["intensity"].get(config.intensity).title)
    defaults = values_of(task.settings())
    for spec in knobs_of(task.settings):
        value = config.data.get(spec.name, defaults[spec.name])
        if value != defaults[spec.name]:
            parts.append(f"{spec.label} {value:g}")
    return " · ".join(parts)


def time_left_text(seconds: float | None) -> str:
    """Return the time left as text to append to a count; empty if it is not known."""
    if seconds is None:
        return ""
    duration = f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
    return f", about {duration} left"
