"""Settings of a run, as widgets in the sidebar, kept in the page's address."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import streamlit as st

from effcore.config import (
    NUMBER_RANGES,
    OPTIMIZERS,
    PRECISIONS,
    ConfigError,
    available_devices,
    default_knobs,
    incompatibility,
    model_structure,
    resolve,
)
from effcore.knobs import KnobSpec, knobs_of, values_of, with_own_knobs
from effcore.policies.combination import POLICY_REGISTRIES, PolicyCombination
from effcore.policies.intensity.base import INTENSITIES
from effcore.policies.update.base import UPDATES
from effcore.records import KnobValue, RunConfig
from effcore.records.settings import Settings, SettingValue
from effcore.records.step_plan import FULL_PLAN, ModelStructure, StepPlan, StepProgress
from effcore.runs.manager import shared_run_manager
from effcore.runs.reproduce import config_to_settings
from effcore.store import StoreError
from effcore.tasks.base import SIZES, TASKS

_KEY_PREFIX = "set_"
_CLAMPED_KEY = "refused"


def _setting_key(name: str) -> str:
    return _KEY_PREFIX + name


def _setting_value(name: str) -> Any:
    return st.session_state.get(_setting_key(name))


def _set_setting(name: str, value: Any) -> None:
    st.session_state[_setting_key(name)] = value


def _draw_number_field(
    name: str, label: str, lo: float, hi: float, step: float, integer: bool, help: str
) -> None:
    """Draw a number field, with a note if the entered value was out of range.

    The widget itself has no limits: with limits, a browser leaves an invalid number in the box
    without a message, while the page still uses the previous value.
    """
    kind = int if integer else float
    _set_setting(name, kind(_setting_value(name)))
    st.number_input(
        label,
        step=kind(step),
        format="%d" if integer else "%.6g",
        key=_setting_key(name),
        on_change=_clamp_to_range,
        args=(name, lo, hi),
        help=help,
    )
    refused, used = st.session_state.get(_CLAMPED_KEY, {}).get(name, (None, None))
    if refused is not None and used == _setting_value(name):
        _show_small_note(
            f"{refused:.6g} is not allowed: from {lo:.10g} to {hi:.10g}. {used:.10g} is used."
        )


def _show_small_note(text: str) -> None:
    st.markdown(f":material/info: :small[{text}]")


def _clamp_to_range(name: str, lo: float, hi: float) -> None:
    entered = _setting_value(name)
    used = min(max(entered, lo), hi)
    refusals: dict[str, tuple[float, float]] = st.session_state.setdefault(_CLAMPED_KEY, {})
    refusals.pop(name, None)
    if used != entered:
        refusals[name] = (entered, used)
        _set_setting(name, used)


def _draw_knob_field(spec: KnobSpec) -> None:
    """Draw a field for a knob or for a data setting of a task."""
    _draw_number_field(spec.name, spec.label, spec.lo, spec.hi, spec.step, spec.integer, spec.help)


_KIND_HELP = {
    "selection": "Which examples are trained on.",
    "update": "Which parameters a step updates.",
    "intensity": "How much of a model or an example a step computes with.",
}
#: Kinds of policies that are folded away, since most runs use their defaults.
_ADVANCED_KINDS = ("update", "intensity")
_REPLACED_KEY = "replaced_policies"


def _chosen_policies() -> PolicyCombination:
    return PolicyCombination(*(_setting_value(kind) for kind in POLICY_REGISTRIES))


def _active_knobs(policies: PolicyCombination) -> list[KnobSpec]:
    """Return the knobs that have a field; of a group only the chosen one."""
    specs = [spec for policy in policies.classes() for spec in knobs_of(policy)]
    return [spec for spec in specs if _is_active_knob(spec)]


def _is_active_knob(spec: KnobSpec) -> bool:
    return spec.group is None or _setting_value("group_" + spec.group) == spec.name


def _set_policy_knobs(kind: str, policy: str, values: Mapping[str, KnobValue | None]) -> None:
    """Put the knobs of one policy into the widgets' state.

    Args:
        kind: Kind of the policy.
        policy: Its id.
        values: Knob values by name; other knobs get their default start.
    """
    for spec in knobs_of(POLICY_REGISTRIES[kind].get(policy)):
        value = values.get(spec.name)
        _set_setting(spec.name, spec.start if value is None else value)
        if spec.group is not None and value is not None:
            _set_setting("group_" + spec.group, spec.name)


def _reset_knobs_to_defaults(*kinds: str) -> None:
    """Set the knobs of these kinds of policies to the defaults of the task and the model."""
    values = default_knobs(_setting_value("task"), _setting_value("model"), _chosen_policies())
    for kind in kinds:
        _set_policy_knobs(kind, _setting_value(kind), values)


def _replace_incompatible_policies() -> None:
    """Replace policies that do not fit the model by the default of their kind, and note it."""
    messages = []
    for kind in _ADVANCED_KINDS:
        if problem := _incompatible_policies(kind).get(_setting_value(kind)):
            default = PolicyCombination._field_defaults[kind]
            old, new = (
                POLICY_REGISTRIES[kind].get(name).title for name in (_setting_value(kind), default)
            )
            messages.append(f"{old} does not fit this model ({problem}). {new} is used instead.")
            _set_setting(kind, default)
            _reset_knobs_to_defaults(kind)
    st.session_state[_REPLACED_KEY] = messages


def _incompatible_policies(kind: str) -> dict[str, str]:
    """Return the policies of a kind that do not fit the chosen model, with the reasons."""
    task, size = _setting_value("task"), _setting_value("size")
    choice = TASKS.get(task).model_choice(_setting_value("model"))
    problems = {
        name: incompatibility(PolicyCombination()._replace(**{kind: name}), task, choice, size)
        for name in POLICY_REGISTRIES[kind].ids()
    }
    return {
        name: problem.problem
        for name, problem in problems.items()
        if problem is not None and problem.kind == kind
    }


def _choose_policies() -> None:
    """Draw the selection policy, with the update and intensity policies folded away below it."""
    _choose_policy("selection")
    defaults = PolicyCombination()
    changed = [kind for kind in _ADVANCED_KINDS if _setting_value(kind) != getattr(defaults, kind)]
    titles = ", ".join(POLICY_REGISTRIES[kind].get(_setting_value(kind)).title for kind in changed)
    label = "Update and intensity" + (f": **{titles}**" if changed else "")
    with st.expander(label, expanded=bool(changed), key="seldom"):
        for kind in _ADVANCED_KINDS:
            _choose_policy(kind)
    for text in st.session_state.pop(_REPLACED_KEY, []):
        _show_small_note(text)
    _choose_starting_knobs()


def _choose_policy(kind: str) -> None:
    unfitting = _incompatible_policies(kind)
    offered = {p.id: p for p in POLICY_REGISTRIES[kind] if p.id not in unfitting}
    st.selectbox(
        f"{kind.capitalize()} policy",
        list(offered),
        format_func={name: policy.title for name, policy in offered.items()}.__getitem__,
        key=_setting_key(kind),
        on_change=_reset_knobs_to_defaults,
        args=(kind,),
        help=_KIND_HELP[kind],
    )
    st.caption(offered[_setting_value(kind)].summary)
    if unfitting:
        reasons: dict[str, list[str]] = {}
        for name, reason in unfitting.items():
            reasons.setdefault(reason, []).append(POLICY_REGISTRIES[kind].get(name).title)
        listed = "; ".join(f"{', '.join(names)} ({why})" for why, names in reasons.items())
        st.caption(f"Not for this model: {listed}.")


def _choose_starting_knobs() -> None:
    chosen = {kind: POLICY_REGISTRIES[kind].get(_setting_value(kind)) for kind in POLICY_REGISTRIES}
    steered = {kind: policy for kind, policy in chosen.items() if knobs_of(policy)}
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
            key=_setting_key("group_" + group),
            horizontal=True,
            help="Only one of these applies at a time.",
        )
    for spec in specs:
        if _is_active_knob(spec):
            _draw_knob_field(spec)


def _effect_on_model_text(kind: str, policy: Any) -> str:
    """Return how much of the chosen model a policy skips or uses with these knobs."""
    model = model_structure(_setting_value("task"), _setting_value("model"), _setting_value("size"))
    values = {spec.name: _setting_value(spec.name) for spec in knobs_of(policy)}
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


#: Parameters of an address, or fields of a configuration, that are not settings.
_NOT_SETTINGS = ("run", "changes", "knobs", "data")
_CHOICE_SETTINGS = ("task", "model", "size", *POLICY_REGISTRIES, "device", "optimizer", "precision")
_NUMBER_SETTINGS = ("epochs", "batch_size", "learning_rate", "seed", "threads", "clip_norm")


def _config_from_address(params: Mapping[str, str]) -> tuple[RunConfig, list[str]]:
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
            if error.field in settings:
                del settings[error.field]
            else:
                settings = {}  # the faulty setting is unknown: use the defaults


def _set_setting_fields(config: RunConfig) -> None:
    for name in (*_NUMBER_SETTINGS, *_CHOICE_SETTINGS):
        _set_setting(name, getattr(config, name))
    for name, value in config.data.items():
        _set_setting(name, value)
    _set_setting("end", "passes" if config.budget is None else "budget")
    _set_setting("budget", 0.6 if config.budget is None else config.budget)
    for kind in POLICY_REGISTRIES:
        _set_policy_knobs(kind, getattr(config, kind), config.knobs)


def _on_task_change() -> None:
    task = TASKS.get(_setting_value("task"))
    _set_setting("model", task.models[0].id)
    for name, value in values_of(task.settings()).items():
        _set_setting(name, value)
    _on_model_change()


def _on_model_change() -> None:
    defaults = TASKS.get(_setting_value("task")).model_choice(_setting_value("model")).defaults
    for name in ("epochs", "batch_size", "learning_rate"):
        _set_setting(name, getattr(defaults, name))
    _replace_incompatible_policies()
    _reset_knobs_to_defaults(*POLICY_REGISTRIES)


def choose_run_settings(shown_run_id: str | None = None) -> tuple[RunConfig | None, str]:
    """Draw the widgets; return the configuration, or ``None`` and the reason if it is invalid.

    Args:
        shown_run_id: The run on the page. Its settings are the defaults of a first visit whose
            address has no settings.
    """
    _restore_settings(shown_run_id)
    _choose_task_and_model()
    _choose_policies()
    _choose_length_and_seed()
    with st.expander("Machine and optimizer"):
        _choose_machine_and_optimizer()
    st.session_state["settings"] = {
        name: value for name, value in st.session_state.items() if str(name).startswith(_KEY_PREFIX)
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
        config, problems = _config_from_address(params)
        _set_setting_fields(config)
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
    titles = {name: task.title for name, task in tasks.items()}
    _draw_choice("task", "Task", titles, "What the model learns.", _on_task_change)
    task = tasks[_setting_value("task")]
    st.caption(task.summary)
    models = [choice.id for choice in task.models]
    _draw_choice("model", "Model", models, "The model that learns the task.", _on_model_change)
    st.caption(task.model_choice(_setting_value("model")).summary)
    _draw_choice(
        "size", "Size", SIZES,
        "Size of the model. The other defaults were chosen for the medium size.",
        _replace_incompatible_policies,
    )  # fmt: skip
    if data_settings := knobs_of(task.settings):
        with st.expander("Training data: noise and imbalance"):
            st.caption("Only the training data is changed; validation and test data are not.")
            for spec in data_settings:
                _draw_knob_field(spec)


def _choose_length_and_seed() -> None:
    _draw_setting_field("epochs", "Epochs")
    st.radio(
        "Stop after",
        ["passes", "budget"],
        format_func={"passes": "the epochs", "budget": "a compute budget"}.__getitem__,
        key=_setting_key("end"),
        horizontal=True,
        help="After the epochs: skipping shortens the run. After a budget: skipping allows more "
        "epochs.",
    )
    if _setting_value("end") == "budget":
        budget = NUMBER_RANGES["budget"]
        st.slider(
            "Budget, share of full training", budget.lo, budget.hi, step=0.01,
            key=_setting_key("budget"), help=budget.help,
        )  # fmt: skip
    _draw_setting_field("batch_size", "Batch size")
    _draw_setting_field("learning_rate", "Learning rate", 1e-3, integer=False)
    _draw_setting_field("seed", "Seed")


def _choose_machine_and_optimizer() -> None:
    _draw_choice("device", "Device", available_devices(), "Device that trains the run.")
    _draw_setting_field("threads", "CPU threads")
    _draw_choice("optimizer", "Optimizer", OPTIMIZERS, "AdamW or SGD with momentum.")
    _draw_choice("precision", "Precision", PRECISIONS, "bf16 halves memory and may be faster.")
    _draw_setting_field("clip_norm", "Clip gradients at", 0.5, integer=False)


def _draw_choice(
    name: str,
    label: str,
    options: Iterable[str],
    help: str,
    on_change: Callable[[], None] | None = None,
) -> None:
    """Draw a selection; ``options`` may map each value to its title."""
    titles = options if isinstance(options, Mapping) else {option: option for option in options}
    st.selectbox(
        label, list(titles), format_func=titles.__getitem__, key=_setting_key(name),
        on_change=on_change, help=help,
    )  # fmt: skip


def _draw_setting_field(name: str, label: str, step: float = 1, integer: bool = True) -> None:
    allowed = NUMBER_RANGES[name]
    _draw_number_field(name, label, allowed.lo, allowed.hi, step, integer, allowed.help)


def _raw_settings() -> Settings:
    raw: dict[str, SettingValue] = {
        name: _setting_value(name) for name in (*_CHOICE_SETTINGS, *_NUMBER_SETTINGS)
    }
    raw |= {
        spec.name: _setting_value(spec.name)
        for spec in knobs_of(TASKS.get(_setting_value("task")).settings)
    }
    raw["budget"] = _setting_value("budget") if _setting_value("end") == "budget" else None
    raw |= {spec.name: _setting_value(spec.name) for spec in _active_knobs(_chosen_policies())}
    return raw


def _write_address(config: RunConfig) -> None:
    wanted = config_to_settings(config)
    run = st.query_params.get("run")
    if run is not None:
        wanted["run"] = run
    if st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)
