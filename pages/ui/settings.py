"""The choices that make a run, as widgets in the sidebar, kept in the page's address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from effcore.config import (
    OPTIMIZERS,
    PRECISIONS,
    RANGES,
    ConfigError,
    default_knobs,
    devices,
    resolve,
)
from effcore.events import RunConfig
from effcore.knobs import KnobSpec, knobs_of, values_of
from effcore.manager import shared_runs
from effcore.policies import KINDS, Policies, policies_of, run_knobs
from effcore.repeat import to_settings
from effcore.store import StoreError
from effcore.tasks.base import SIZES, TASKS

_PREFIX = "set_"
#: Part of an address, or of a configuration, but nothing that an address can set.
_NOT_SETTINGS = ("run", "changes", "knobs", "data")
_NAMES = ("task", "model", "size", *KINDS, "device", "optimizer", "precision")
_ASKS = {
    "selection": "Which examples are trained on.",
    "update": "Which parameters a step changes.",
    "intensity": "How much of a model or an example a step computes with.",
}
_NUMBERS = ("epochs", "batch_size", "learning_rate", "seed", "threads", "clip_norm")


def _key(name: str) -> str:
    return _PREFIX + name


def _state(name: str) -> Any:
    return st.session_state.get(_key(name))


def from_address(params: Mapping[str, str]) -> tuple[RunConfig, list[str]]:
    """Return the configuration an address asks for, and what of it had to be left out.

    A value that cannot be used is dropped and named; the others stay.
    """
    asked: dict[str, Any] = {n: value for n, value in params.items() if n not in _NOT_SETTINGS}
    problems: list[str] = []
    while True:
        try:
            return resolve(asked), problems
        except ConfigError as error:
            problems.append(str(error))
            asked = _without(asked, error.field)


def _without(asked: dict[str, Any], field: str) -> dict[str, Any]:
    if field in asked:
        return {name: value for name, value in asked.items() if name != field}
    return {}  # nothing says what is at fault: start from the defaults


def seed_widgets(config: RunConfig) -> None:
    """Put a configuration into the widgets' state."""
    for name in (*_NUMBERS, *_NAMES):
        st.session_state[_key(name)] = getattr(config, name)
    for name, value in config.data.items():
        st.session_state[_key(name)] = value
    st.session_state[_key("end")] = "passes" if config.budget is None else "budget"
    st.session_state[_key("budget")] = 0.6 if config.budget is None else config.budget
    _seed_knobs(policies_of(config), config.knobs)


def _seed_knobs(policies: Policies, values: Mapping[str, Any]) -> None:
    for spec in run_knobs(policies):
        value = values.get(spec.name)
        st.session_state[_key(spec.name)] = spec.start if value is None else value
        if spec.group is not None and value is not None:
            st.session_state[_key("group_" + spec.group)] = spec.name


def _task_changed() -> None:
    task = TASKS.get(_state("task"))
    st.session_state[_key("model")] = task.models[0].id
    for name, value in values_of(task.settings()).items():
        st.session_state[_key(name)] = value
    _model_changed()


def _model_changed() -> None:
    defaults = TASKS.get(_state("task")).model_choice(_state("model")).defaults
    for name in ("epochs", "batch_size", "learning_rate"):
        st.session_state[_key(name)] = getattr(defaults, name)
    _policy_changed()


def _policy_changed() -> None:
    chosen = _policies()
    _seed_knobs(chosen, default_knobs(_state("task"), _state("model"), chosen))


def _policies() -> Policies:
    return Policies(*(_state(kind) for kind in KINDS))


def choose(shown: str | None = None) -> RunConfig | None:
    """Draw the widgets and return what they say; ``None`` where it cannot be used.

    Args:
        shown: The run on the page, whose settings a first visit without any starts from.
    """
    _restore(shown)
    _choose_what()
    _choose_policies()
    _choose_length()
    with st.expander("Machine and optimizer"):
        _choose_machine()
    st.session_state["settings"] = {
        key: value for key, value in st.session_state.items() if str(key).startswith(_PREFIX)
    }
    try:
        config = resolve(_chosen())
    except ConfigError as error:
        st.error(str(error), icon=":material/error:")
        return None
    _write_address(config)
    return config


def _restore(shown: str | None) -> None:
    """Fill the widgets from the address at first, and again after another page was open."""
    params = st.query_params.to_dict()
    if not params and shown is not None:
        params = _settings_of(shown)
    if set(params) == {"run"}:  # a bare link to a run: its own settings go with it
        params = _settings_of(params["run"])
        st.session_state.pop("settings", None)
    if "settings" not in st.session_state:
        config, problems = from_address(params)
        seed_widgets(config)
        st.session_state["problems"] = problems
    else:
        for key, value in st.session_state["settings"].items():
            st.session_state.setdefault(key, value)


def _settings_of(run_id: str) -> dict[str, str]:
    """Return the settings of a run, none where it cannot be read: the page says so itself."""
    try:
        run = shared_runs().get(run_id)
    except StoreError:
        return {}
    return {} if run is None else to_settings(run.snapshot().config)


def _choose_what() -> None:
    tasks = {task.id: task for task in TASKS}
    st.selectbox(
        "Task",
        list(tasks),
        format_func=lambda i: tasks[i].title,
        key=_key("task"),
        on_change=_task_changed,
        help="What the model learns.",
    )
    task = tasks[_state("task")]
    st.caption(task.summary)
    models = {choice.id: choice for choice in task.models}
    st.selectbox(
        "Model",
        list(models),
        key=_key("model"),
        on_change=_model_changed,
        help="What learns it.",
    )
    st.caption(models[_state("model")].summary)
    st.selectbox(
        "Size",
        SIZES,
        key=_key("size"),
        help="How large the model is; the other defaults were chosen for the middle one.",
    )
    _choose_data(knobs_of(task.settings))


def _choose_data(specs: tuple[KnobSpec, ...]) -> None:
    if not specs:
        return
    with st.expander("Its data"):
        st.caption("Only what is trained on is changed; what is judged on stays as it is.")
        for spec in specs:
            _number(spec.name, spec.label, spec.lo, spec.hi, spec.step, spec.integer, spec.help)


def _choose_policies() -> None:
    for name, registry in KINDS.items():
        policies: dict[str, Any] = {policy.id: policy for policy in registry}
        ids = list(policies)
        st.selectbox(
            f"{name.capitalize()} policy",
            ids,
            format_func={i: policies[i].title for i in ids}.__getitem__,
            key=_key(name),
            on_change=_policy_changed,
            help=_ASKS[name],
        )
        st.caption(policies[_state(name)].summary)
    _choose_knobs(run_knobs(_policies()))


def _choose_knobs(specs: tuple[KnobSpec, ...]) -> None:
    if not specs:
        return
    with st.expander("Where its knobs start"):
        st.caption("They stay adjustable while the run trains.")
        for group in dict.fromkeys(spec.group for spec in specs if spec.group):
            members = {spec.name: spec.label for spec in specs if spec.group == group}
            st.radio(
                f"{group.capitalize()} by",
                list(members),
                format_func=members.__getitem__,
                key=_key("group_" + group),
                horizontal=True,
                help="Only one of these is in force at a time.",
            )
        for spec in specs:
            if spec.group is None or _state("group_" + spec.group) == spec.name:
                _number(spec.name, spec.label, spec.lo, spec.hi, spec.step, spec.integer, spec.help)


def _choose_length() -> None:
    epochs = RANGES["epochs"]
    _number("epochs", "Epochs", epochs.lo, epochs.hi, 1, True, epochs.help)
    st.radio(
        "Ends after",
        ["passes", "budget"],
        format_func=lambda i: {"passes": "its passes", "budget": "a budget"}[i],
        key=_key("end"),
        horizontal=True,
        help="After its passes, skipping shortens the run; at a budget it buys more passes.",
    )
    if _state("end") == "budget":
        st.slider(
            "Budget, share of dense",
            RANGES["budget"].lo,
            RANGES["budget"].hi,
            step=0.01,
            key=_key("budget"),
            help=RANGES["budget"].help,
        )
    batch, rate, seed = RANGES["batch_size"], RANGES["learning_rate"], RANGES["seed"]
    _number("batch_size", "Batch size", batch.lo, batch.hi, 1, True, batch.help)
    _number("learning_rate", "Learning rate", rate.lo, rate.hi, 1e-3, False, rate.help)
    _number("seed", "Seed", seed.lo, seed.hi, 1, True, seed.help)


def _choose_machine() -> None:
    here = devices()
    st.selectbox("Device", here, key=_key("device"), help="What the run trains on.")
    _number("threads", "CPU threads", 1, 1024, 1, True, RANGES["threads"].help)
    st.selectbox("Optimizer", OPTIMIZERS, key=_key("optimizer"), help="AdamW or SGD with momentum.")
    st.selectbox(
        "Precision", PRECISIONS, key=_key("precision"), help="bf16 halves memory and may be faster."
    )
    _number("clip_norm", "Clip gradients at", 0, 1e6, 0.5, False, RANGES["clip_norm"].help)


def _number(
    name: str, label: str, lo: float, hi: float, step: float, integer: bool, help: str
) -> None:
    kind = int if integer else float
    st.session_state[_key(name)] = kind(st.session_state[_key(name)])
    st.number_input(
        label,
        kind(lo),
        kind(hi),
        step=kind(step),
        format="%d" if integer else "%.6g",
        key=_key(name),
        help=help,
    )


def _chosen() -> dict[str, Any]:
    raw = {name: _state(name) for name in (*_NAMES, *_NUMBERS)}
    raw |= {spec.name: _state(spec.name) for spec in knobs_of(TASKS.get(_state("task")).settings)}
    raw["budget"] = _state("budget") if _state("end") == "budget" else None
    for spec in run_knobs(_policies()):
        if spec.group is None or _state("group_" + spec.group) == spec.name:
            raw[spec.name] = _state(spec.name)
    return raw


def _write_address(config: RunConfig) -> None:
    wanted = to_settings(config)
    run = st.query_params.get("run")
    if run is not None:
        wanted["run"] = run
    if st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)
