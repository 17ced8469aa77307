"""The choices that make a run, as widgets in the sidebar, kept in the page's address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from effcore.config import OPTIMIZERS, PRECISIONS, RANGES, ConfigError, devices, resolve
from effcore.events import RunConfig
from effcore.knobs import KnobSpec, knobs_of, values_of
from effcore.policies import KINDS
from effcore.repeat import to_settings
from effcore.runs.manager import shared_runs
from effcore.store import StoreError
from effcore.tasks.base import SIZES, TASKS
from pages.ui.live.fields import PREFIX, key, knob_number, number, put, state
from pages.ui.live.policies import (
    choose_policies,
    chosen_policies,
    fall_back,
    knobs_in_force,
    seed_knobs,
    take_default_knobs,
)

#: Part of an address, or of a configuration, but nothing that an address can set.
_NOT_SETTINGS = ("run", "changes", "knobs", "data")
_NAMES = ("task", "model", "size", *KINDS, "device", "optimizer", "precision")
_NUMBERS = ("epochs", "batch_size", "learning_rate", "seed", "threads", "clip_norm")


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
        put(name, getattr(config, name))
    for name, value in config.data.items():
        put(name, value)
    put("end", "passes" if config.budget is None else "budget")
    put("budget", 0.6 if config.budget is None else config.budget)
    for kind in KINDS:
        seed_knobs(kind, getattr(config, kind), config.knobs)


def _task_changed() -> None:
    task = TASKS.get(state("task"))
    put("model", task.models[0].id)
    for name, value in values_of(task.settings()).items():
        put(name, value)
    _model_changed()


def _model_changed() -> None:
    defaults = TASKS.get(state("task")).model_choice(state("model")).defaults
    for name in ("epochs", "batch_size", "learning_rate"):
        put(name, getattr(defaults, name))
    fall_back()
    take_default_knobs(*KINDS)


def choose(shown: str | None = None) -> tuple[RunConfig | None, str]:
    """Draw the widgets and return what they say; ``None`` and why where it cannot be used.

    Args:
        shown: The run on the page, whose settings a first visit without any starts from.
    """
    _restore(shown)
    _choose_what()
    choose_policies()
    _choose_length()
    with st.expander("Machine and optimizer"):
        _choose_machine()
    st.session_state["settings"] = {
        name: value for name, value in st.session_state.items() if str(name).startswith(PREFIX)
    }
    try:
        config = resolve(_chosen())
    except ConfigError as error:
        return None, str(error)
    _write_address(config)
    return config, ""


def chosen_now() -> RunConfig | None:
    """Return what the widgets say at this moment, ``None`` where that cannot be used."""
    try:
        return resolve(_chosen())
    except ConfigError:
        return None


def _restore(shown: str | None) -> None:
    """Fill the widgets from the address at first, and again after another page was open."""
    params = st.query_params.to_dict()
    if st.session_state.pop("away", False) and set(params) - {"run"}:
        st.session_state.pop("settings", None)  # another page's link says what it wants
    if not params and shown is not None:
        params = _settings_of(shown)
    if set(params) == {"run"}:  # a bare link to a run: its own settings go with it
        params = _settings_of(params["run"])
        st.session_state.pop("settings", None)
    if "settings" not in st.session_state:
        config, problems = from_address(params)
        seed_widgets(config)
        st.session_state["problems"] = problems
        return
    # Put again what is there: Streamlit forgets the value of a widget that is not drawn, here
    # or on another page, and a script that was cut short may never have told the browser.
    for name, value in st.session_state["settings"].items():
        st.session_state[name] = st.session_state.get(name, value)


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
        key=key("task"),
        on_change=_task_changed,
        help="What the model learns.",
    )
    task = tasks[state("task")]
    st.caption(task.summary)
    models = {choice.id: choice for choice in task.models}
    st.selectbox(
        "Model",
        list(models),
        key=key("model"),
        on_change=_model_changed,
        help="What learns it.",
    )
    st.caption(models[state("model")].summary)
    st.selectbox(
        "Size",
        SIZES,
        key=key("size"),
        on_change=fall_back,
        help="How large the model is; the other defaults were chosen for the middle one.",
    )
    _choose_data(knobs_of(task.settings))


def _choose_data(specs: tuple[KnobSpec, ...]) -> None:
    if not specs:
        return
    with st.expander("Its data"):
        st.caption("Only what is trained on is changed; what is judged on stays as it is.")
        for spec in specs:
            knob_number(spec)


def _choose_length() -> None:
    epochs = RANGES["epochs"]
    number("epochs", "Epochs", epochs.lo, epochs.hi, 1, True, epochs.help)
    st.radio(
        "Ends after",
        ["passes", "budget"],
        format_func=lambda i: {"passes": "its passes", "budget": "a budget"}[i],
        key=key("end"),
        horizontal=True,
        help="After its passes, skipping shortens the run; at a budget it buys more passes.",
    )
    if state("end") == "budget":
        st.slider(
            "Budget, share of dense",
            RANGES["budget"].lo,
            RANGES["budget"].hi,
            step=0.01,
            key=key("budget"),
            help=RANGES["budget"].help,
        )
    batch, rate, seed = RANGES["batch_size"], RANGES["learning_rate"], RANGES["seed"]
    number("batch_size", "Batch size", batch.lo, batch.hi, 1, True, batch.help)
    number("learning_rate", "Learning rate", rate.lo, rate.hi, 1e-3, False, rate.help)
    number("seed", "Seed", seed.lo, seed.hi, 1, True, seed.help)


def _choose_machine() -> None:
    here = devices()
    st.selectbox("Device", here, key=key("device"), help="What the run trains on.")
    number("threads", "CPU threads", 1, 1024, 1, True, RANGES["threads"].help)
    st.selectbox("Optimizer", OPTIMIZERS, key=key("optimizer"), help="AdamW or SGD with momentum.")
    st.selectbox(
        "Precision", PRECISIONS, key=key("precision"), help="bf16 halves memory and may be faster."
    )
    number("clip_norm", "Clip gradients at", 0, 1e6, 0.5, False, RANGES["clip_norm"].help)


def _chosen() -> dict[str, Any]:
    raw = {name: state(name) for name in (*_NAMES, *_NUMBERS)}
    raw |= {spec.name: state(spec.name) for spec in knobs_of(TASKS.get(state("task")).settings)}
    raw["budget"] = state("budget") if state("end") == "budget" else None
    raw |= {spec.name: state(spec.name) for spec in knobs_in_force(chosen_policies())}
    return raw


def _write_address(config: RunConfig) -> None:
    wanted = to_settings(config)
    run = st.query_params.get("run")
    if run is not None:
        wanted["run"] = run
    if st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)
