"""The choices that make a sweep, as widgets in the sidebar."""

from __future__ import annotations

import functools

import streamlit as st

from effcore.config import ConfigError
from effcore.studies.executor import measures_joules
from effcore.studies.sweep import SweepPlan, plan_sweep
from pages.ui.studies.comparing import (
    choose_machine,
    choose_margin,
    choose_model,
    keep,
    kept,
    policies_for,
)

_PREFIX = "sweep_of_"


@functools.cache
def _by(device: str) -> str:
    """Return what cost is on a device; asked once, since it opens the instrument."""
    return "joules" if measures_joules(device) else "flops"


def choose_sweep() -> tuple[SweepPlan | None, int, str]:
    """Draw the widgets; returns the sweep they say, runs at a time, and why it cannot be."""
    keep(_PREFIX)
    task, model, size = choose_model(_PREFIX)
    offered = policies_for(task.id, model.id, size)
    policy = st.selectbox(
        "Policy",
        offered,
        index=offered.index("confident-skip"),
        key=f"{_PREFIX}policy_{task.id}_{model.id}_{size}",
        help="Its knobs and the share of the compute that it may spend are searched.",
    )
    trials = st.number_input(
        "Trials", 1, 1000, 16, key=_PREFIX + "trials",
        help="The first three are the policy's own defaults at three budgets.",
    )  # fmt: skip
    seeds = st.number_input(
        "Seeds of each", 1, 20, 2, key=_PREFIX + "seeds",
        help="Judged by their mean on the validation split.",
    )  # fmt: skip
    margin = choose_margin(task, _PREFIX)
    epochs, device, jobs = choose_machine(task, model, _PREFIX)
    kept(_PREFIX)
    settings = {"task": task.id, "model": model.id, "size": size, "epochs": epochs}
    settings |= {"device": device, "threads": 1}
    try:
        among = range(int(seeds))
        plan = plan_sweep(settings, policy, int(trials), among, margin, _by(device))
    except (ConfigError, ValueError) as error:
        return None, jobs, str(error)
    return plan, jobs, ""
