"""Projection of a saving to the reader's cluster: choice of saving, cluster, and result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import streamlit as st

from effcore.impact.grid_factors import RECURRING_USE_SPREAD
from effcore.impact.projection import POWER_LIMITS_W, Cluster, Projection, project_saving
from effcore.impact.ranges import ImpactError, Range, exact_range
from effcore.impact.reference_comparison import ComputationNotSpent, ProjectableShare
from effcore.impact.saving import SAVING_LIMITS, Saving, SavingBasis
from pages.ui.common import escape_markdown
from pages.ui.energy.assumptions import (
    chosen_grid_factor,
    chosen_hourly_spread,
    chosen_price,
    chosen_pue,
    show_impact_error,
)
from pages.ui.energy.inputs import input_key, input_value
from pages.ui.tables import table_with_notes

_BASIS_NAMES: Final = {
    SavingBasis.JOULES: "Joules, against full training",
    SavingBasis.FLOPS: "FLOPs",
    SavingBasis.SECONDS: "Seconds",
    SavingBasis.STATED: "One that I state",
}


def choose_saving(savings: Mapping[SavingBasis, ProjectableShare]) -> ProjectableShare | None:
    """Draw the choice of the saving to project; return ``None`` until one is stated."""
    if not savings:
        return _choose_stated_saving()
    offered = [*savings, SavingBasis.STATED]
    if input_value("saving") not in offered:
        st.session_state[input_key("saving")] = str(offered[0])
    are_savings = all(isinstance(saving, Saving) for saving in savings.values())
    st.radio(
        "Saving to project" if are_savings else "Share to project",
        [str(basis) for basis in offered],
        format_func=lambda basis: _basis_name(SavingBasis(basis), savings),
        key=input_key("saving"),
        horizontal=True,
        help="Only joules on both sides are a measured saving of energy.",
    )
    basis = SavingBasis(input_value("saving"))
    if basis is SavingBasis.STATED:
        return _choose_stated_saving()
    st.markdown(escape_markdown(savings[basis]))
    return savings[basis]


def _basis_name(basis: SavingBasis, savings: Mapping[SavingBasis, ProjectableShare]) -> str:
    if isinstance(savings.get(basis), ComputationNotSpent):
        return "Computation not spent"
    return _BASIS_NAMES[basis]


def _choose_stated_saving() -> Saving | None:
    lo, hi = st.columns(2)
    for column, name, label in (
        (lo, "saved_lo", "Saving in %, lowest"),
        (hi, "saved_hi", "Saving in %, highest"),
    ):
        column.number_input(
            label,
            value=None,
            step=1.0,
            format="%.6g",
            key=input_key(name),
            placeholder="Not stated",
            help="Share of full training's joules; negative if more energy is used.",
        )
    ends = input_value("saved_lo"), input_value("saved_hi")
    if None in ends:
        return None
    least, most = (100 * limit for limit in SAVING_LIMITS)
    try:
        Range(*ends).require_within("saving in %", least, most, "enter per cent, such as 10 and 30")
        return Saving(
            Range(ends[0] / 100, ends[1] / 100), SavingBasis.STATED, "no run of this store"
        )
    except ImpactError as error:
        show_impact_error(error)
        return None


def choose_cluster_and_project(saving: ProjectableShare | None) -> None:
    """Draw the fields of the cluster and, when they are filled in, the projection."""
    columns = st.columns(4)
    fields = (
        ("gpus", "GPUs that train", 1, "%d", "Number of GPUs."),
        ("hours", "Hours per year", 100.0, "%.6g", "Training hours of each; a year has 8,760."),
        ("watts_lo", "Watts per GPU, lowest", 10.0, "%.6g", "Mean while training, as metered."),
        ("watts_hi", "Watts per GPU, highest", 10.0, "%.6g", "Upper end, if you are not sure."),
    )
    for column, (name, label, step, form, help) in zip(columns, fields, strict=True):
        column.number_input(
            label,
            value=None,
            step=step,
            format=form,
            key=input_key(name),
            placeholder="Not stated",
            help=help,
        )
    is_incomplete = any(input_value(name) is None for name, *_ in fields)
    try:
        cluster = _cluster_from_inputs()  # refuses invalid numbers even while others are missing
        if saving is None or is_incomplete:
            st.caption("Fill in the cluster and a saving. There are no default values.")
            return
        result = project_saving(saving, cluster)
    except ImpactError as error:
        show_impact_error(error)
        return
    _show_projection_table(result)


def _cluster_from_inputs() -> Cluster:
    """Return the stated cluster, with a valid placeholder for each missing number.

    Raises:
        ImpactError: A stated number is invalid.
    """
    gpus, hours, lo, hi = (input_value(name) for name in ("gpus", "hours", "watts_lo", "watts_hi"))
    lo, hi = (hi if lo is None else lo), (lo if hi is None else hi)
    return Cluster(
        gpus=1 if gpus is None else gpus,
        hours=exact_range(0.0 if hours is None else hours),
        power_w=exact_range(POWER_LIMITS_W[0]) if lo is None or hi is None else Range(lo, hi),
        pue=chosen_pue(),
        price=chosen_price(),
        factor=chosen_grid_factor(),
        spread=chosen_hourly_spread("use", RECURRING_USE_SPREAD),
    )


def _show_projection_table(result: Projection) -> None:
    rows = [
        {
            "Per year": row.name,
            "Full training takes": row.spent_text(),
            f"{result.name}. {result.claim}": row.saved_text(),
        }
        for row in result.rows()
    ]
    table_with_notes(rows, result.assumption_sentences, show_header=True)
