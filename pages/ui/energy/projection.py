"""Projections: of a saving to the reader's cluster, and of the scale ladder to larger sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import streamlit as st

from effcore.figures.study_charts import has_clipped_interval, ladder_chart_data, ladder_figure
from effcore.impact.costs import POWER_LIMITS_W, Cluster, Projection, project_saving
from effcore.impact.grid_factors import RECURRING_USE_SPREAD
from effcore.impact.ranges import ImpactError, Range, exact_range, number_text
from effcore.impact.reference_comparison import ComputationNotSpent, ProjectableShare
from effcore.impact.saving import SAVING_LIMITS, Saving, SavingBasis, percent_text
from effcore.impact.scale_ladder import Ladder, fit_ladder, ladder_path, load_ladder
from effcore.runs.manager import shared_run_manager
from pages.ui.common import escape_markdown, show_error
from pages.ui.energy.assumptions import (
    chosen_grid_factor,
    chosen_hourly_spread,
    chosen_price,
    chosen_pue,
    draw_optional_number,
    input_key,
    input_value,
)
from pages.ui.tables import table_with_notes, text_table

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
    for column, end, name in zip(st.columns(2), ("lo", "hi"), ("lowest", "highest"), strict=True):
        with column:
            draw_optional_number(
                f"Saving in %, {name}", f"saved_{end}",
                "Share of full training's joules; negative if more energy is used.", 1.0,
            )  # fmt: skip
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
        show_error(error)
        return None


def choose_cluster_and_project(saving: ProjectableShare | None) -> None:
    """Draw the fields of the cluster and, when they are filled in, the projection."""
    fields: tuple[tuple[str, str, float, str], ...] = (
        ("gpus", "GPUs that train", 1, "Number of GPUs."),
        ("hours", "Hours per year", 100.0, "Training hours of each; a year has 8,760."),
        ("watts_lo", "Watts per GPU, lowest", 10.0, "Mean while training, as metered."),
        ("watts_hi", "Watts per GPU, highest", 10.0, "Upper end, if you are not sure."),
    )
    for column, (name, label, step, help) in zip(st.columns(4), fields, strict=True):
        with column:
            draw_optional_number(label, name, help, step)
    is_incomplete = any(input_value(name) is None for name, *_ in fields)
    try:
        cluster = _cluster_from_inputs()  # refuses invalid numbers even while others are missing
        if saving is None or is_incomplete:
            st.caption("Fill in the cluster and a saving. There are no default values.")
            return
        result = project_saving(saving, cluster)
    except ImpactError as error:
        show_error(error)
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


_LADDER_COMMAND = "python -m effcore bench ladder"


def show_scale_ladder() -> None:
    """Draw the ladder, or show the command that makes one."""
    try:
        ladder = load_ladder(ladder_path(shared_run_manager().store.home))
    except (ImpactError, OSError) as error:
        show_error(error, "The ladder cannot be read.")
        return
    if ladder is None:
        st.caption(
            "No scale ladder has been run on this machine. This command trains three sizes of a "
            "model:"
        )
        st.code(_LADDER_COMMAND, language=None)
        return
    _show_ladder_chart(ladder)


def _show_ladder_chart(ladder: Ladder) -> None:
    bases = {str(basis): basis for basis in ladder.bases()}
    if not bases:
        st.caption("The stored ladder has no saving that is known for all of its sizes.")
        return
    st.markdown(
        f"**{escape_markdown(ladder.task)}, {escape_markdown(ladder.model)}: "
        f"{escape_markdown(ladder.policy)} against full training**"
    )
    name = st.radio(
        "Saving of", list(bases), key="energy_ladder_basis", horizontal=True,
        format_func=lambda name: ladder.basis_text(bases[name]),
        help="The quantity that the band is fitted to.",
    )  # fmt: skip
    basis = bases[name]
    rungs = ladder.rungs(basis)
    rows = ladder_chart_data(rungs, fit_ladder(rungs))
    sizes = ", ".join(f"{step.size:,}" for step in ladder.steps)
    st.plotly_chart(
        ladder_figure(rows, _basis_heading(ladder, basis)),
        config={"displayModeBar": False},
        key="energy-ladder",
        alt=f"{_basis_heading(ladder, basis)} saved at {sizes} parameters; larger sizes were not "
        "measured.",
    )
    clipped_note = (
        " Intervals that leave the chart are in the table." if has_clipped_interval(rows) else ""
    )
    st.caption(
        "The band is a 95% prediction interval for one more size, if the saving is linear in the "
        "logarithm of the size. Beyond the largest size this was not measured." + clipped_note
    )
    text_table(_ladder_table_rows(ladder, basis))
    where = ", ".join(
        f"{escape_markdown(k)} {escape_markdown(v)}" for k, v in ladder.circumstances.items()
    )
    st.caption(f"Run on: {where or 'not stated'}.")


def _basis_heading(ladder: Ladder, basis: SavingBasis) -> str:
    text = ladder.basis_text(basis)
    return text[0].upper() + text[1:]


def _ladder_table_rows(ladder: Ladder, basis: SavingBasis) -> list[dict[str, str]]:
    return [
        {
            "Size": step.name,
            "Parameters": f"{step.size:,}",
            f"{_basis_heading(ladder, basis)} saved": percent_text(rung.interval),
            ladder.metric.capitalize(): number_text(sum(step.metrics) / len(step.metrics)),
            "Full training": number_text(sum(step.dense_metrics) / len(step.dense_metrics)),
        }
        for step, rung in zip(ladder.steps, ladder.rungs(basis), strict=True)
    ]
