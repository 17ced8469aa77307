"""The three policies and their knobs, as widgets; what does not fit the model is not offered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from effcore.config import default_knobs
from effcore.intensity.base import INTENSITIES
from effcore.knobs import KnobSpec, knobs_of, with_own_knobs
from effcore.plan import FULL, Anatomy, Moment, Plan
from effcore.policies import KINDS, Policies, anatomy, misfit
from effcore.tasks.base import TASKS
from effcore.update.base import UPDATES
from pages.ui.live.fields import key, knob_number, note, put, state

_ASKS = {
    "selection": "Which examples are trained on.",
    "update": "Which parameters a step changes.",
    "intensity": "How much of a model or an example a step computes with.",
}
#: Most runs leave these as they are, so they take no room unless they are asked for.
_SELDOM = ("update", "intensity")
_REPLACED = "replaced_policies"


def chosen_policies() -> Policies:
    """Return what the widgets say."""
    return Policies(*(state(kind) for kind in KINDS))


def knobs_in_force(policies: Policies) -> list[KnobSpec]:
    """Return the knobs that have a field: of a group, the one that is chosen."""
    specs = [spec for policy in policies.classes() for spec in knobs_of(policy)]
    return [spec for spec in specs if _in_force(spec)]


def _in_force(spec: KnobSpec) -> bool:
    return spec.group is None or state("group_" + spec.group) == spec.name


def seed_knobs(kind: str, policy: str, values: Mapping[str, Any]) -> None:
    """Put the knobs of one policy into the widgets' state.

    Args:
        kind: Kind of the policy.
        policy: Its id.
        values: Knob values by name; others start where they always do.
    """
    for spec in knobs_of(KINDS[kind].get(policy)):
        value = values.get(spec.name)
        put(spec.name, spec.start if value is None else value)
        if spec.group is not None and value is not None:
            put("group_" + spec.group, spec.name)


def take_default_knobs(*kinds: str) -> None:
    """Let the knobs of these kinds of policies start where task and model have them start."""
    values = default_knobs(state("task"), state("model"), chosen_policies())
    for kind in kinds:
        seed_knobs(kind, state(kind), values)


def fall_back() -> None:
    """Replace what does not go with the model by the default of its kind, and note it."""
    replaced = []
    for kind in _SELDOM:
        if problem := unfit(kind).get(state(kind)):
            usual = Policies._field_defaults[kind]
            old, new = (KINDS[kind].get(i).title for i in (state(kind), usual))
            replaced.append(f"{old} does not go with this model ({problem}): {new} is chosen.")
            put(kind, usual)
            take_default_knobs(kind)
    st.session_state[_REPLACED] = replaced


def unfit(kind: str) -> dict[str, str]:
    """Return the policies of a kind that do not go with the model chosen, with the reasons."""
    task, size = state("task"), state("size")
    choice = TASKS.get(task).model_choice(state("model"))
    found = {
        name: misfit(Policies()._replace(**{kind: name}), task, choice, size)
        for name in KINDS[kind].ids()
    }
    return {name: no.problem for name, no in found.items() if no is not None and no.kind == kind}


def choose_policies() -> None:
    """Draw the policies and, folded, what most runs leave as it is."""
    _choose_policy("selection")
    usual = Policies()
    other = [kind for kind in _SELDOM if state(kind) != getattr(usual, kind)]
    titles = ", ".join(KINDS[kind].get(state(kind)).title for kind in other)
    label = "Update and intensity" + (f": **{titles}**" if other else "")
    with st.expander(label, expanded=bool(other), key="seldom"):
        for kind in _SELDOM:
            _choose_policy(kind)
    for text in st.session_state.pop(_REPLACED, []):
        note(text)
    _choose_knobs()


def _choose_policy(kind: str) -> None:
    unfitting = unfit(kind)
    offered: dict[str, Any] = {p.id: p for p in KINDS[kind] if p.id not in unfitting}
    st.selectbox(
        f"{kind.capitalize()} policy",
        list(offered),
        format_func={name: policy.title for name, policy in offered.items()}.__getitem__,
        key=key(kind),
        on_change=take_default_knobs,
        args=(kind,),
        help=_ASKS[kind],
    )
    st.caption(offered[state(kind)].summary)
    if unfitting:
        reasons: dict[str, list[str]] = {}
        for name, reason in unfitting.items():
            reasons.setdefault(reason, []).append(KINDS[kind].get(name).title)
        listed = "; ".join(f"{', '.join(names)} ({why})" for why, names in reasons.items())
        st.caption(f"Not for this model: {listed}.")


def _choose_knobs() -> None:
    steered = {kind: KINDS[kind].get(state(kind)) for kind in KINDS}
    steered = {kind: policy for kind, policy in steered.items() if knobs_of(policy)}
    if not steered:
        return
    with st.expander("Where the knobs start"):
        st.caption("They stay adjustable while the run trains.")
        for kind, policy in steered.items():
            if len(steered) > 1:
                st.markdown(f"**{policy.title}**")
            _choose_knobs_of(knobs_of(policy))
            if words := _in_this_model(kind, policy):
                st.caption(words)


def _choose_knobs_of(specs: tuple[KnobSpec, ...]) -> None:
    for group in dict.fromkeys(spec.group for spec in specs if spec.group):
        members = {spec.name: spec.label for spec in specs if spec.group == group}
        st.radio(
            f"{group.capitalize()} by",
            list(members),
            format_func=members.__getitem__,
            key=key("group_" + group),
            horizontal=True,
            help="Only one of these is in force at a time.",
        )
    for spec in specs:
        if _in_force(spec):
            knob_number(spec)


def _in_this_model(kind: str, policy: Any) -> str:
    """Return how much of the chosen model the knobs of a policy come to."""
    model = anatomy(state("task"), state("model"), state("size"))
    values = {spec.name: state(spec.name) for spec in knobs_of(policy)}
    if kind == "update":  # what it leaves out at most, which is at the end
        update = with_own_knobs(UPDATES.get(policy.id)(), values)
        return _words(update.plan(Moment(1.0, 0, model)), model)
    if kind == "intensity":  # likewise at the beginning
        intensity = with_own_knobs(INTENSITIES.get(policy.id)(), values)
        return _words(intensity.plan(FULL, Moment(0.0, 0, model)), model)
    return ""


def _words(plan: Plan, model: Anatomy) -> str:
    if plan.frozen:
        return f"In this model: {plan.frozen} of {model.stages} stages stop training."
    if plan.detached:
        lost, all_of_them = len(plan.detached), sum(model.branches)
        return f"In this model: {lost} of {all_of_them} branches without a backward in a step."
    if plan.depth is not None:
        of = len(model.branches)
        return f"In this model: begins with {plan.depth} of {of} residual stages."
    return ""
