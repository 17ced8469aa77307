"""Widgets for the three policies and their knobs, without policies that do not fit the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from effcore.config import default_knobs, incompatibility, model_structure
from effcore.knobs import KnobSpec, knobs_of, with_own_knobs
from effcore.policies.combination import POLICY_REGISTRIES, PolicyCombination
from effcore.policies.intensity.base import INTENSITIES
from effcore.policies.update.base import UPDATES
from effcore.records import KnobValue
from effcore.records.step_plan import FULL_PLAN, ModelStructure, StepPlan, StepProgress
from effcore.tasks.base import TASKS
from pages.ui.live.fields import (
    draw_knob_field,
    set_setting,
    setting_key,
    setting_value,
    show_small_note,
)

_KIND_HELP = {
    "selection": "Which examples are trained on.",
    "update": "Which parameters a step updates.",
    "intensity": "How much of a model or an example a step computes with.",
}
#: Kinds of policies that are folded away, since most runs use their defaults.
_ADVANCED_KINDS = ("update", "intensity")
_REPLACED_KEY = "replaced_policies"


def chosen_policies() -> PolicyCombination:
    """Return the policies chosen in the widgets."""
    return PolicyCombination(*(setting_value(kind) for kind in POLICY_REGISTRIES))


def active_knobs(policies: PolicyCombination) -> list[KnobSpec]:
    """Return the knobs that have a field; of a group only the chosen one."""
    specs = [spec for policy in policies.classes() for spec in knobs_of(policy)]
    return [spec for spec in specs if _is_active_knob(spec)]


def _is_active_knob(spec: KnobSpec) -> bool:
    return spec.group is None or setting_value("group_" + spec.group) == spec.name


def set_policy_knobs(kind: str, policy: str, values: Mapping[str, KnobValue | None]) -> None:
    """Put the knobs of one policy into the widgets' state.

    Args:
        kind: Kind of the policy.
        policy: Its id.
        values: Knob values by name; other knobs get their default start.
    """
    for spec in knobs_of(POLICY_REGISTRIES[kind].get(policy)):
        value = values.get(spec.name)
        set_setting(spec.name, spec.start if value is None else value)
        if spec.group is not None and value is not None:
            set_setting("group_" + spec.group, spec.name)


def reset_knobs_to_defaults(*kinds: str) -> None:
    """Set the knobs of these kinds of policies to the defaults of the task and the model."""
    values = default_knobs(setting_value("task"), setting_value("model"), chosen_policies())
    for kind in kinds:
        set_policy_knobs(kind, setting_value(kind), values)


def replace_incompatible_policies() -> None:
    """Replace policies that do not fit the model by the default of their kind, and note it."""
    messages = []
    for kind in _ADVANCED_KINDS:
        if problem := incompatible_policies(kind).get(setting_value(kind)):
            default = PolicyCombination._field_defaults[kind]
            old, new = (
                POLICY_REGISTRIES[kind].get(name).title for name in (setting_value(kind), default)
            )
            messages.append(f"{old} does not fit this model ({problem}). {new} is used instead.")
            set_setting(kind, default)
            reset_knobs_to_defaults(kind)
    st.session_state[_REPLACED_KEY] = messages


def incompatible_policies(kind: str) -> dict[str, str]:
    """Return the policies of a kind that do not fit the chosen model, with the reasons."""
    task, size = setting_value("task"), setting_value("size")
    choice = TASKS.get(task).model_choice(setting_value("model"))
    problems = {
        name: incompatibility(PolicyCombination()._replace(**{kind: name}), task, choice, size)
        for name in POLICY_REGISTRIES[kind].ids()
    }
    return {
        name: problem.problem
        for name, problem in problems.items()
        if problem is not None and problem.kind == kind
    }


def choose_policies() -> None:
    """Draw the selection policy, with the update and intensity policies folded away below it."""
    _choose_policy("selection")
    defaults = PolicyCombination()
    changed = [kind for kind in _ADVANCED_KINDS if setting_value(kind) != getattr(defaults, kind)]
    titles = ", ".join(POLICY_REGISTRIES[kind].get(setting_value(kind)).title for kind in changed)
    label = "Update and intensity" + (f": **{titles}**" if changed else "")
    with st.expander(label, expanded=bool(changed), key="seldom"):
        for kind in _ADVANCED_KINDS:
            _choose_policy(kind)
    for text in st.session_state.pop(_REPLACED_KEY, []):
        show_small_note(text)
    _choose_starting_knobs()


def _choose_policy(kind: str) -> None:
    unfitting = incompatible_policies(kind)
    offered = {p.id: p for p in POLICY_REGISTRIES[kind] if p.id not in unfitting}
    st.selectbox(
        f"{kind.capitalize()} policy",
        list(offered),
        format_func={name: policy.title for name, policy in offered.items()}.__getitem__,
        key=setting_key(kind),
        on_change=reset_knobs_to_defaults,
        args=(kind,),
        help=_KIND_HELP[kind],
    )
    st.caption(offered[setting_value(kind)].summary)
    if unfitting:
        reasons: dict[str, list[str]] = {}
        for name, reason in unfitting.items():
            reasons.setdefault(reason, []).append(POLICY_REGISTRIES[kind].get(name).title)
        listed = "; ".join(f"{', '.join(names)} ({why})" for why, names in reasons.items())
        st.caption(f"Not for this model: {listed}.")


def _choose_starting_knobs() -> None:
    steered = {kind: POLICY_REGISTRIES[kind].get(setting_value(kind)) for kind in POLICY_REGISTRIES}
    steered = {kind: policy for kind, policy in steered.items() if knobs_of(policy)}
    if not steered:
        return
    with st.expander("Starting thresholds"):
        st.caption("You can move them while the run trains.")
        for kind, policy in steered.items():
            if len(steered) > 1:
                st.markdown(f"**{policy.title}**")
            _draw_knob_fields(knobs_of(policy))
            if text := _effect_on_model_text(kind, policy):
                st.caption(text)


def _draw_knob_fields(specs: tuple[KnobSpec, ...]) -> None:
    for group in dict.fromkeys(spec.group for spec in specs if spec.group):
        members = {spec.name: spec.label for spec in specs if spec.group == group}
        st.radio(
            f"{group.capitalize()} by",
            list(members),
            format_func=members.__getitem__,
            key=setting_key("group_" + group),
            horizontal=True,
            help="Only one of these applies at a time.",
        )
    for spec in specs:
        if _is_active_knob(spec):
            draw_knob_field(spec)


def _effect_on_model_text(kind: str, policy: Any) -> str:
    """Return how much of the chosen model a policy skips or uses with these knobs."""
    model = model_structure(setting_value("task"), setting_value("model"), setting_value("size"))
    values = {spec.name: setting_value(spec.name) for spec in knobs_of(policy)}
    if kind == "update":  # an update policy skips most at the end of a run
        update = with_own_knobs(UPDATES.get(policy.id)(), values)
        return _step_plan_text(update.plan(StepProgress(1.0, 0, model)), model)
    if kind == "intensity":  # an intensity policy computes least at the start
        intensity = with_own_knobs(INTENSITIES.get(policy.id)(), values)
        return _step_plan_text(intensity.plan(FULL_PLAN, StepProgress(0.0, 0, model)), model)
    return ""


def _step_plan_text(plan: StepPlan, model: ModelStructure) -> str:
    if plan.frozen:
        return f"In this model: {plan.frozen} of {model.stages} stages stop training."
    if plan.detached:
        skipped, total = len(plan.detached), sum(model.branches)
        return f"In this model: a step skips the backward pass of {skipped} of {total} branches."
    if plan.depth is not None:
        total = len(model.branches)
        return f"In this model: training starts with {plan.depth} of {total} residual stages."
    return ""
