"""Settings of a study or a sweep, as widgets in the sidebar."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TypeVar

import streamlit as st

from effcore.config import NUMBER_RANGES, ConfigError, available_devices, incompatibility
from effcore.policies.combination import POLICY_REGISTRIES, PolicyCombination
from effcore.records.settings import Settings
from effcore.studies.executor import measures_joules
from effcore.studies.plan import StudyPlan, plan_study
from effcore.studies.sweep import SweepPlan, plan_sweep
from effcore.studies.verdict import too_few_seeds_text
from effcore.tasks.base import SIZES, TASKS, ModelChoice, Task

_FIRST_SEED = 100
#: Intensity policies that are offered in combination with a selection policy.
_STACKED_GROWTHS = ("resolution", "depth-growth", "sequence-growth")

PlanT = TypeVar("PlanT", StudyPlan, SweepPlan)


def choose_study_plan() -> tuple[StudyPlan | None, int, str]:
    """Draw the widgets; return the plan, the runs at a time, and why there is no plan."""
    prefix = "study_of_"
    _restore_choices(prefix)
    task, model, size = _choose_task_and_model(prefix)
    policies = st.multiselect(
        "Policies to judge",
        _judgeable_policies(task.id, model.id, size),
        default=["auto"],
        key=f"{prefix}policies_{task.id}_{model.id}_{size}",
        help="With the task's default thresholds. Several policies need ten seeds or more.",
    )
    budget = st.number_input(
        "Budget, share of full training", 0.1, 0.95, 0.6, 0.05, key=f"{prefix}budget",
        help="Every variant except full training spends exactly this much computation.",
    )  # fmt: skip
    seeds = int(st.number_input("Paired seeds", 2, 100, 6, key=f"{prefix}seeds"))
    if warning := too_few_seeds_text(len(policies), seeds):
        st.caption(f":material/warning: {warning}")
    margin = _choose_margin(task, prefix)
    settings, jobs = _choose_length_and_machine(task, model, size, prefix)
    _save_choices(prefix)
    seed_values = range(_FIRST_SEED, _FIRST_SEED + seeds)
    return _plan_or_reason(
        lambda: plan_study(settings, policies, budget, seed_values, margin), jobs
    )


def choose_sweep_plan() -> tuple[SweepPlan | None, int, str]:
    """Draw the widgets; return the plan, the runs at a time, and why there is no plan."""
    prefix = "sweep_of_"
    _restore_choices(prefix)
    task, model, size = _choose_task_and_model(prefix)
    offered = _judgeable_policies(task.id, model.id, size)
    policy = st.selectbox(
        "Policy",
        offered,
        index=offered.index("confident-skip"),
        key=f"{prefix}policy_{task.id}_{model.id}_{size}",
        help="The sweep searches its knobs and its budget.",
    )
    trials = int(
        st.number_input(
            "Trials", 1, 1000, 16, key=f"{prefix}trials",
            help="The first three use the policy's default thresholds at three budgets.",
        )
    )  # fmt: skip
    seeds = int(
        st.number_input(
            "Seeds per trial", 1, 20, 2, key=f"{prefix}seeds",
            help="A trial is judged by the mean of its seeds on the validation split.",
        )
    )  # fmt: skip
    margin = _choose_margin(task, prefix)
    settings, jobs = _choose_length_and_machine(task, model, size, prefix)
    _save_choices(prefix)
    unit = _cost_unit(str(settings["device"]))
    return _plan_or_reason(
        lambda: plan_sweep(settings, policy, trials, range(seeds), margin, unit), jobs
    )


def _plan_or_reason(make_plan: Callable[[], PlanT], jobs: int) -> tuple[PlanT | None, int, str]:
    try:
        return make_plan(), jobs, ""
    except (ConfigError, ValueError) as error:
        return None, jobs, str(error)


@functools.cache
def _cost_unit(device: str) -> str:
    """Return the unit of cost on a device; cached, since measuring opens the energy source."""
    return "joules" if measures_joules(device) else "flops"


def _restore_choices(prefix: str) -> None:
    """Restore a page's settings, which Streamlit forgets while another page is open."""
    for name, value in st.session_state.setdefault(f"kept-{prefix}", {}).items():
        st.session_state.setdefault(name, value)


def _save_choices(prefix: str) -> None:
    st.session_state[f"kept-{prefix}"] = {
        name: value for name, value in st.session_state.items() if str(name).startswith(prefix)
    }


def _judgeable_policies(task: str, model: str, size: str) -> list[str]:
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


def _choose_task_and_model(prefix: str) -> tuple[type[Task], ModelChoice, str]:
    """Draw the widgets for task, model and size; return their values."""
    tasks = {task.id: task for task in TASKS}
    task = st.selectbox(
        "Task", list(tasks), format_func=lambda i: tasks[i].title, key=f"{prefix}task",
        index=list(tasks).index("digits"),
    )  # fmt: skip
    models = {choice.id: choice for choice in tasks[task].models}
    model = st.selectbox("Model", list(models), key=f"{prefix}model_{task}")
    size = st.selectbox("Size", SIZES, index=1, key=f"{prefix}size")
    return tasks[task], models[model], size


def _choose_margin(task: type[Task], prefix: str) -> float:
    """Draw the field for the margin in display units; return it in the metric's own scale."""
    metric = task.metric
    default = metric.factor * metric.margin
    entered = st.number_input(
        f"Margin, {metric.difference_unit}".rstrip(", "), 0.0, 1000.0, default, default / 5,
        format="%.4g",
        key=f"{prefix}margin_{task.id}",
        help="The largest difference that does not matter to you. Choose it before the study: a "
        "later change is marked as exploratory.",
    )  # fmt: skip
    return float(entered) / metric.factor


def _choose_length_and_machine(
    task: type[Task], model: ModelChoice, size: str, prefix: str
) -> tuple[Settings, int]:
    """Draw the widgets for length and machine; return the shared settings, and runs at a time."""
    cores = os.cpu_count() or 1
    with st.expander("Machine and length"):
        epochs = st.number_input(
            "Epochs", 1, int(NUMBER_RANGES["epochs"].hi), model.defaults.epochs,
            key=f"{prefix}epochs_{task.id}_{model.id}",
        )  # fmt: skip
        device = st.selectbox("Device", available_devices(), key=f"{prefix}device")
        jobs = st.number_input(
            "Runs at a time", 1, cores, max(1, cores - 1), key=f"{prefix}jobs",
            help="Always one where energy is measured.",
        )  # fmt: skip
    settings: Settings = {
        "task": task.id,
        "model": model.id,
        "size": size,
        "epochs": int(epochs),
        "device": device,
        "threads": 1,
    }
    return settings, int(jobs)
