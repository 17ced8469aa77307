"""In words: a configuration, as runs and charts are named, and how long something takes yet."""

from __future__ import annotations

from effcore.knobs import knobs_of, values_of
from effcore.policies.combination import (
    DEFAULT_INTENSITY,
    DEFAULT_UPDATE,
    POLICY_REGISTRIES,
    policies_of,
)
from effcore.records import RunConfig
from effcore.tasks.base import TASKS

#: What a run does before its first step where its policy needs each irreducible loss.
_IRREDUCIBLE_LOSS_NOTE = (
    "Two small models train first and judge every example; what they compute counts."
)


def describe_config(config: RunConfig) -> dict[str, object]:
    """Return the words that name a configuration and its charts."""
    task = TASKS.get(config.task)
    selection = POLICY_REGISTRIES["selection"].get(config.selection)
    metric = task.metric
    policies = policies_of(config).classes()
    return {
        "title": f"{task.title} · {selection.title}",
        "task": task.title,
        "model": config.model,
        "selection": selection.title,
        "setup": " · ".join(text for text in (setup_text(config), task.provenance().words) if text),
        "metric": {
            "name": metric.name,
            "label": metric.label,
            "unit": metric.unit,
            "higher_is_better": metric.higher_is_better,
            "digits": metric.digits,
        },
        "loss_label": task.loss_label,
        "confidence": task.loss_kind == "cross_entropy",
        "captions": dict(task.captions),
        "is_fit": task.is_fit,
        "owners": {spec.name: policy.title for policy in policies for spec in knobs_of(policy)},
        "preparing": _IRREDUCIBLE_LOSS_NOTE if selection.needs_irreducible else "",
    }


def setup_text(config: RunConfig) -> str:
    """Return what task and selection policy leave open, as far as it is worth saying."""
    task = TASKS.get(config.task)
    said = [f"{config.model}, {config.size}"]
    if config.update != DEFAULT_UPDATE:
        said.append(POLICY_REGISTRIES["update"].get(config.update).title)
    if config.intensity != DEFAULT_INTENSITY:
        said.append(POLICY_REGISTRIES["intensity"].get(config.intensity).title)
    usual = values_of(task.settings())
    for spec in knobs_of(task.settings):
        value = config.data.get(spec.name, usual[spec.name])
        if value != usual[spec.name]:
            said.append(f"{spec.label} {value:g}")
    return " · ".join(said)


def time_left_text(seconds: float | None) -> str:
    """Return about how long something takes yet, to follow a count; nothing where not known."""
    if seconds is None:
        return ""
    left = f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
    return f", about {left} left"
