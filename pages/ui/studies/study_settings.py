"""Settings of a study, as widgets in the sidebar."""

from __future__ import annotations

import os

import streamlit as st

from effcore.config import NUMBER_RANGES, ConfigError, available_devices, incompatibility
from effcore.policies.combination import POLICY_REGISTRIES, PolicyCombination
from effcore.records.settings import Settings
from effcore.studies.plan import StudyPlan, plan_study
from effcore.studies.verdict import too_few_seeds_text
from effcore.tasks.base import SIZES, TASKS, ModelChoice, Task

_FIRST_SEED = 100
_KEY_PREFIX = "study_of_"
#: Intensity policies that are offered in combination with a selection policy.
_STACKED_GROWTHS = ("resolution", "depth-growth", "sequence-growth")


def default_parallel_runs() -> int:
    """Return how many runs train at a time by default."""
    return max(1, (os.cpu_count() or 2) - 1)


def restore_choices(prefix: str) -> None:
    """Restore a page's settings, which Streamlit forgets while another page is open."""
    kept = st.session_state.setdefault(f"kept-{prefix}", {})
    for name, value in kept.items():
        st.session_state.setdefault(name, value)


def save_choices(prefix: str) -> None:
    """Remember a page's settings for the next time it is opened."""
    st.session_state[f"kept-{prefix}"] = {
        name: value for name, value in st.session_state.items() if str(name).startswith(prefix)
    }


def judgeable_policies(task: str, model: str, size: str) -> list[str]:
    """Return the policies that a study can judge on a model, with a few combinations."""
    choice = TASKS.get(task).model_choice(model)
    names = []
    for kind, registry in POLICY_REGISTRIES.items():
        plain = PolicyCombination._field_defaults[kind]
        for name in registry.ids():
            alone = PolicyCombination("dense")._replace(**{kind: name})
            if (
                name not in (plain, "dense", "random")
                and incompatibility(alone, task, choice, size) is None
            ):
                names.append(name)
    if "confident-skip" not in names:
        names.insert(0, "confident-skip")
    return names + [f"auto+{growth}" for growth in _STACKED_GROWTHS if growth in names]


def choose_task_and_model(prefix: str) -> tuple[type[Task], ModelChoice, str]:
    """Draw the widgets for task, model and size; return their values."""
    tasks = {task.id: task for task in TASKS}
    task = st.selectbox(
        "Task", list(tasks), format_func=lambda i: tasks[i].title, key=prefix + "task",
        index=list(tasks).index("digits"),
    )  # fmt: skip
    models = {choice.id: choice for choice in tasks[task].models}
    model = st.selectbox("Model", list(models), key=prefix + "model_" + task)
    size = st.selectbox("Size", SIZES, index=1, key=prefix + "size")
    return tasks[task], models[model], size


def choose_margin(task: type[Task], prefix: str) -> float:
    """Draw the field for the margin in display units; return it in the metric's own scale."""
    metric = task.metric
    default = metric.factor * metric.margin
    entered = st.number_input(
        f"Margin, {metric.difference_unit}".rstrip(", "), 0.0, 1000.0, default, default / 5,
        format="%.4g",
        key=prefix + "margin_" + task.id,
        help="The largest difference that does not matter to you. Choose it before the study: a "
        "later change is marked as exploratory.",
    )  # fmt: skip
    return float(entered) / metric.factor


def choose_length_and_machine(
    task: type[Task], model: ModelChoice, prefix: str
) -> tuple[int, str, int]:
    """Draw the widgets for length and machine; return epochs, device and runs at a time."""
    with st.expander("Machine and length"):
        epochs = st.number_input(
            "Epochs",
            1,
            int(NUMBER_RANGES["epochs"].hi),
            model.defaults.epochs,
            key=f"{prefix}epochs_{task.id}_{model.id}",
        )
        device = st.selectbox("Device", available_devices(), key=prefix + "device")
        jobs = st.number_input(
            "Runs at a time", 1, os.cpu_count() or 1, default_parallel_runs(), key=prefix + "jobs",
            help="Always one where energy is measured.",
        )  # fmt: skip
    return int(epochs), device, int(jobs)


def choose_study_plan() -> tuple[StudyPlan | None, int, str]:
    """Draw the widgets; return the plan, the runs at a time, and why there is no plan."""
    restore_choices(_KEY_PREFIX)
    task, model, size = choose_task_and_model(_KEY_PREFIX)
    policies = st.multiselect(
        "Policies to judge",
        judgeable_policies(task.id, model.id, size),
        default=["auto"],
        key=f"{_KEY_PREFIX}policies_{task.id}_{model.id}_{size}",
        help="With the task's default thresholds. Several policies need ten seeds or more.",
    )
    budget = st.number_input(
        "Budget, share of full training",
        0.1,
        0.95,
        0.6,
        0.05,
        key=_KEY_PREFIX + "budget",
        help="Every variant except full training spends exactly this much computation.",
    )
    seeds = st.number_input("Paired seeds", 2, 100, 6, key=_KEY_PREFIX + "seeds")
    if warning := too_few_seeds_text(len(policies), int(seeds)):
        st.caption(f":material/warning: {warning}")
    margin = choose_margin(task, _KEY_PREFIX)
    epochs, device, jobs = choose_length_and_machine(task, model, _KEY_PREFIX)
    save_choices(_KEY_PREFIX)
    settings: Settings = {
        "task": task.id,
        "model": model.id,
        "size": size,
        "epochs": epochs,
        "device": device,
        "threads": 1,
    }
    seed_values = range(_FIRST_SEED, _FIRST_SEED + int(seeds))
    try:
        return plan_study(settings, policies, budget, seed_values, margin), jobs, ""
    except (ConfigError, ValueError) as error:
        return None, jobs, str(error)
