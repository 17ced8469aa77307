"""Listing of the registered tasks, policies and knobs: ``list``."""

from __future__ import annotations

from typing import Any

from effcore.config import DEFAULT_SIZE, NUMBER_RANGES
from effcore.knobs import KnobSpec, knobs_of
from effcore.policies.combination import POLICY_REGISTRIES, registered_policies
from effcore.tasks.base import SIZES, TASKS, ModelChoice


def knobs_by_owner() -> dict[str, dict[str, KnobSpec]]:
    """Return the knobs of all policies and the data settings of all tasks, by name and owner.

    An owner is the id of a policy or of a task.
    """
    declared: list[tuple[str, Any]] = [(policy.id, policy) for policy in registered_policies()]
    declared += [(task.id, task.settings) for task in TASKS]
    specs: dict[str, dict[str, KnobSpec]] = {}
    for owner, declaration in declared:
        for spec in knobs_of(declaration):
            specs.setdefault(spec.name, {})[owner] = spec
    return specs


def registered_listing() -> dict[str, Any]:
    """Return everything registered, as plain JSON types."""
    return {
        "tasks": [_task_record(task) for task in TASKS],
        **{
            kind: [_policy_record(policy) for policy in registry]
            for kind, registry in POLICY_REGISTRIES.items()
        },
        "settings": {
            name: {"lo": r.lo, "hi": r.hi, "integer": r.integer, "help": r.help}
            for name, r in NUMBER_RANGES.items()
        },
    }


def _task_record(task: Any) -> dict[str, Any]:
    return {
        "id": task.id,
        "summary": task.summary,
        "metric": task.metric.name,
        "n_train": task.count_examples(task.settings()),
        "provenance": task.provenance().words,
        "models": [_model_record(choice) for choice in task.models],
        "data": [_knob_record(spec) for spec in knobs_of(task.settings)],
    }


def _model_record(choice: ModelChoice) -> dict[str, Any]:
    defaults = choice.defaults
    return {
        "id": choice.id,
        "summary": choice.summary,
        "sizes": list(SIZES),
        "defaults": {
            "epochs": defaults.epochs,
            "batch_size": defaults.batch_size,
            "learning_rate": defaults.learning_rate,
            "knobs": dict(defaults.knobs),
        },
    }


def _policy_record(policy: Any) -> dict[str, Any]:
    knobs = [_knob_record(spec) for spec in knobs_of(policy)]
    return {"id": policy.id, "summary": policy.summary, "knobs": knobs}


def _knob_record(spec: KnobSpec) -> dict[str, Any]:
    names = ("name", "option", "default", "lo", "hi", "integer", "group", "help")
    return {name: getattr(spec, name) for name in names}


def registered_listing_text() -> str:
    """Return the listing for a terminal."""
    data = registered_listing()
    lines: list[str] = []
    for task in data["tasks"]:
        lines += [f"task {task['id']}: {task['summary']}"]
        lines += [f"  data: {task['provenance']}"] if task["provenance"] else []
        for model in task["models"]:
            lines += [f"  model {model['id']}: {model['summary']}"]
            lines += [f"    defaults: {_defaults_text(model['defaults'])}"]
        lines += _knob_lines(task["data"])
    for kind in POLICY_REGISTRIES:
        for policy in data[kind]:
            lines += [f"{kind} {policy['id']}: {policy['summary']}"]
            lines += _knob_lines(policy["knobs"])
    lines.append(f"--size {', '.join(SIZES)}: of the model; {DEFAULT_SIZE} by default.")
    for name, setting in data["settings"].items():
        option = "--" + name.replace("_", "-")
        lines.append(f"{option} {setting['lo']:g} to {setting['hi']:g}: {setting['help']}")
    return "\n".join(lines)


def _knob_lines(knobs: list[dict[str, Any]]) -> list[str]:
    return [
        f"  {knob['option']} {knob['lo']:g} to {knob['hi']:g} ({_default_text(knob)}): "
        f"{knob['help']}"
        for knob in knobs
    ]


def _default_text(knob: dict[str, Any]) -> str:
    """Return the default of a knob; of a group of knobs only one applies at a time."""
    if knob["default"] is None:
        return f"off unless given; then it sets the {knob['group']}"
    return f"default {knob['default']:g}"


def _defaults_text(defaults: dict[str, Any]) -> str:
    settings = {name: value for name, value in defaults.items() if name != "knobs"}
    named = (settings | defaults["knobs"]).items()
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in named)
