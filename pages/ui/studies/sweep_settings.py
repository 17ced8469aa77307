"""Settings of a sweep, as widgets in the sidebar."""

from __future__ import annotations

import functools

import streamlit as st

from effcore.config import ConfigError
from effcore.records.settings import Settings
from effcore.studies.executor import measures_joules
from effcore.studies.sweep import SweepPlan, plan_sweep
from pages.ui.studies.study_settings import (
    choose_length_and_machine,
    choose_margin,
    choose_task_and_model,
    judgeable_policies,
    restore_choices,
    save_choices,
)

_KEY_PREFIX = "sweep_of_"


@functools.cache
def _cost_unit(device: str) -> str:
    """Return the unit of cost on a device; cached, since measuring opens the energy source."""
    return "joules" if measures_joules(device) else "flops"


def choose_sweep_plan() -> tuple[SweepPlan | None, int, str]:
    """Draw the widgets; return the plan, the runs at a time, and why there is no plan."""
    restore_choices(_KEY_PREFIX)
    task, model, size = choose_task_and_model(_KEY_PREFIX)
    offered = judgeable_policies(task.id, model.id, size)
    policy = st.selectbox(
        "Policy",
        offered,
        index=offered.index("confident-skip"),
        key=f"{_KEY_PREFIX}policy_{task.id}_{model.id}_{size}",
        help="The sweep searches its knobs and its budget.",
    )
    trials = st.number_input(
        "Trials", 1, 1000, 16, key=_KEY_PREFIX + "trials",
        help="The first three use the policy's default thresholds at three budgets.",
    )  # fmt: skip
    seeds = st.number_input(
        "Seeds per trial", 1, 20, 2, key=_KEY_PREFIX + "seeds",
        help="A trial is judged by the mean of its seeds on the validation split.",
    )  # fmt: skip
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
    try:
        seed_values = range(int(seeds))
        plan = plan_sweep(settings, policy, int(trials), seed_values, margin, _cost_unit(device))
    except (ConfigError, ValueError) as error:
        return None, jobs, str(error)
    return plan, jobs, ""
