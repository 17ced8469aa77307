"""Settings of a run, as widgets in the sidebar, kept in the page's address."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from effcore.config import (
    NUMBER_RANGES,
    OPTIMIZERS,
    PRECISIONS,
    ConfigError,
    available_devices,
    resolve,
)
from effcore.knobs import KnobSpec, knobs_of, values_of
from effcore.policies.combination import POLICY_REGISTRIES
from effcore.records import RunConfig
from effcore.records.settings import Settings, SettingValue
from effcore.runs.manager import shared_run_manager
from effcore.runs.reproduce import config_to_settings
from effcore.store import StoreError
from effcore.tasks.base import SIZES, TASKS
from pages.ui.live.fields import (
    KEY_PREFIX,
    draw_knob_field,
    draw_number_field,
    set_setting,
    setting_key,
    setting_value,
)
from pages.ui.live.policy_fields import (
    active_knobs,
    choose_policies,
    chosen_policies,
    replace_incompatible_policies,
    reset_knobs_to_defaults,
    set_policy_knobs,
)

#: Parameters of an address, or fields of a configuration, that are not settings.
_NOT_SETTINGS = ("run", "changes", "knobs", "data")
_CHOICE_SETTINGS = ("task", "model", "size", *POLICY_REGISTRIES, "device", "optimizer", "precision")
_NUMBER_SETTINGS = ("epochs", "batch_size", "learning_rate", "seed", "threads", "clip_norm")


def config_from_address(params: Mapping[str, str]) -> tuple[RunConfig, list[str]]:
    """Return the configuration in an address, and messages on the values that were left out.

    An invalid value is left out; the others are used.
    """
    settings: dict[str, SettingValue] = {
        name: value for name, value in params.items() if name not in _NOT_SETTINGS
    }
    problems: list[str] = []
    while True:
        try:
            return resolve(settings), problems
        except ConfigError as error:
            problems.append(str(error))
            settings = _drop_setting(settings, error.field)


def _drop_setting(settings: dict[str, SettingValue], field: str) -> dict[str, SettingValue]:
    if field in settings:
        return {name: value for name, value in settings.items() if name != field}
    return {}  # the faulty setting is unknown: use the defaults


def set_setting_fields(config: RunConfig) -> None:
    """Set the widgets to a configuration."""
    for name in (*_NUMBER_SETTINGS, *_CHOICE_SETTINGS):
        set_setting(name, getattr(config, name))
    for name, value in config.data.items():
        set_setting(name, value)
    set_setting("end", "passes" if config.budget is None else "budget")
    set_setting("budget", 0.6 if config.budget is None else config.budget)
    for kind in POLICY_REGISTRIES:
        set_policy_knobs(kind, getattr(config, kind), config.knobs)


def _on_task_change() -> None:
    task = TASKS.get(setting_value("task"))
    set_setting("model", task.models[0].id)
    for name, value in values_of(task.settings()).items():
        set_setting(name, value)
    _on_model_change()


def _on_model_change() -> None:
    defaults = TASKS.get(setting_value("task")).model_choice(setting_value("model")).defaults
    for name in ("epochs", "batch_size", "learning_rate"):
        set_setting(name, getattr(defaults, name))
    replace_incompatible_policies()
    reset_knobs_to_defaults(*POLICY_REGISTRIES)


def choose_run_settings(shown_run_id: str | None = None) -> tuple[RunConfig | None, str]:
    """Draw the widgets; return the configuration, or ``None`` and the reason if it is invalid.

    Args:
        shown_run_id: The run on the page. Its settings are the defaults of a first visit whose
            address has no settings.
    """
    _restore_settings(shown_run_id)
    _choose_task_and_model()
    choose_policies()
    _choose_length_and_seed()
    with st.expander("Machine and optimizer"):
        _choose_machine_and_optimizer()
    st.session_state["settings"] = {
        name: value for name, value in st.session_state.items() if str(name).startswith(KEY_PREFIX)
    }
    try:
        config = resolve(_raw_settings())
    except ConfigError as error:
        return None, str(error)
    _write_address(config)
    return config, ""


def current_config() -> RunConfig | None:
    """Return the configuration in the widgets, or ``None`` if it is invalid."""
    try:
        return resolve(_raw_settings())
    except ConfigError:
        return None


def _restore_settings(shown_run_id: str | None) -> None:
    """Fill the widgets from the address, or with the values kept while another page was open."""
    params = st.query_params.to_dict()
    if st.session_state.pop("away", False) and set(params) - {"run"}:
        st.session_state.pop("settings", None)  # a link from another page carries settings
    if not params and shown_run_id is not None:
        params = _settings_of_run(shown_run_id)
    if set(params) == {"run"}:  # a bare link to a run: use the settings of that run
        params = _settings_of_run(params["run"])
        st.session_state.pop("settings", None)
    if "settings" not in st.session_state:
        config, problems = config_from_address(params)
        set_setting_fields(config)
        st.session_state["problems"] = problems
        return
    # Streamlit forgets the value of a widget that is not drawn, on this page or another one, and
    # an interrupted script may not have sent it to the browser.
    for name, value in st.session_state["settings"].items():
        st.session_state[name] = st.session_state.get(name, value)


def _settings_of_run(run_id: str) -> dict[str, str]:
    """Return the settings of a run; none if it cannot be read, which the page reports itself."""
    try:
        run = shared_run_manager().find_run(run_id)
    except StoreError:
        return {}
    return {} if run is None else config_to_settings(run.snapshot().config)


def _choose_task_and_model() -> None:
    tasks = {task.id: task for task in TASKS}
    st.selectbox(
        "Task",
        list(tasks),
        format_func=lambda i: tasks[i].title,
        key=setting_key("task"),
        on_change=_on_task_change,
        help="What the model learns.",
    )
    task = tasks[setting_value("task")]
    st.caption(task.summary)
    models = {choice.id: choice for choice in task.models}
    st.selectbox(
        "Model",
        list(models),
        key=setting_key("model"),
        on_change=_on_model_change,
        help="The model that learns the task.",
    )
    st.caption(models[setting_value("model")].summary)
    st.selectbox(
        "Size",
        SIZES,
        key=setting_key("size"),
        on_change=replace_incompatible_policies,
        help="Size of the model. The other defaults were chosen for the medium size.",
    )
    _choose_data_faults(knobs_of(task.settings))


def _choose_data_faults(specs: tuple[KnobSpec, ...]) -> None:
    if not specs:
        return
    with st.expander("Training data: noise and imbalance"):
        st.caption("Only the training data is changed; validation and test data are not.")
        for spec in specs:
            draw_knob_field(spec)


def _choose_length_and_seed() -> None:
    epochs = NUMBER_RANGES["epochs"]
    draw_number_field("epochs", "Epochs", epochs.lo, epochs.hi, 1, True, epochs.help)
    st.radio(
        "Stop after",
        ["passes", "budget"],
        format_func=lambda i: {"passes": "the epochs", "budget": "a compute budget"}[i],
        key=setting_key("end"),
        horizontal=True,
        help="After the epochs: skipping shortens the run. After a budget: skipping allows more "
        "epochs.",
    )
    if setting_value("end") == "budget":
        st.slider(
            "Budget, share of full training",
            NUMBER_RANGES["budget"].lo,
            NUMBER_RANGES["budget"].hi,
            step=0.01,
            key=setting_key("budget"),
            help=NUMBER_RANGES["budget"].help,
        )
    batch, lr, seed = (
        NUMBER_RANGES["batch_size"],
        NUMBER_RANGES["learning_rate"],
        NUMBER_RANGES["seed"],
    )
    draw_number_field("batch_size", "Batch size", batch.lo, batch.hi, 1, True, batch.help)
    draw_number_field("learning_rate", "Learning rate", lr.lo, lr.hi, 1e-3, False, lr.help)
    draw_number_field("seed", "Seed", seed.lo, seed.hi, 1, True, seed.help)


def _choose_machine_and_optimizer() -> None:
    devices = available_devices()
    st.selectbox("Device", devices, key=setting_key("device"), help="Device that trains the run.")
    draw_number_field("threads", "CPU threads", 1, 1024, 1, True, NUMBER_RANGES["threads"].help)
    st.selectbox(
        "Optimizer", OPTIMIZERS, key=setting_key("optimizer"), help="AdamW or SGD with momentum."
    )
    st.selectbox(
        "Precision",
        PRECISIONS,
        key=setting_key("precision"),
        help="bf16 halves memory and may be faster.",
    )
    draw_number_field(
        "clip_norm", "Clip gradients at", 0, 1e6, 0.5, False, NUMBER_RANGES["clip_norm"].help
    )


def _raw_settings() -> Settings:
    raw: dict[str, SettingValue] = {
        name: setting_value(name) for name in (*_CHOICE_SETTINGS, *_NUMBER_SETTINGS)
    }
    raw |= {
        spec.name: setting_value(spec.name)
        for spec in knobs_of(TASKS.get(setting_value("task")).settings)
    }
    raw["budget"] = setting_value("budget") if setting_value("end") == "budget" else None
    raw |= {spec.name: setting_value(spec.name) for spec in active_knobs(chosen_policies())}
    return raw


def _write_address(config: RunConfig) -> None:
    wanted = config_to_settings(config)
    run = st.query_params.get("run")
    if run is not None:
        wanted["run"] = run
    if st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)
