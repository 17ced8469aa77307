"""Frontier page: a sweep over thresholds, its front, and the recommended point."""

from __future__ import annotations

from typing import Final

import pandas as pd
import streamlit as st

from effcore.figures.study_charts import frontier_figure, hypervolume_figure, importance_figure
from effcore.report import sweep_report, sweep_table
from effcore.runs.reproduce import config_to_settings, training_loop_code
from effcore.runs.summary import metric_text
from effcore.store.study_table import StoredStudy
from effcore.studies.candidates import candidate_rule_text, full_training_point
from effcore.studies.comparison import difference_formatter
from effcore.studies.frontier import (
    CONFIRMATION_SEEDS,
    PointResult,
    SweepOutcome,
    SweepResult,
    conclusion_sentences,
    conclusion_text,
    confirmation_plan,
    replication_text,
    sweep_record,
)
from effcore.studies.sweep import SweepPlan, sweep_to_command
from effcore.studies.trials import SweepPoint
from pages.ui.common import escape_markdown, link_to_run
from pages.ui.presenting import NUMBER_KEY_PREFIX, SENTENCE_KEY, draw_large_chart
from pages.ui.studies.stored_study import load_sweep, missing_trials_text
from pages.ui.studies.study_page import StudyKind, StudyPage
from pages.ui.studies.study_settings import choose_sweep_plan
from pages.ui.tables import percent_cell, percent_column

_KIND: Final = StudyKind[SweepPlan, SweepResult](
    name="sweep",
    plural="sweeps",
    page="frontier.py",
    page_name="Frontier",
    key_infix="-sweep",
    title="Which thresholds should I use?",
    introduction=(
        "Choose a task and a policy in the sidebar and press *Start sweep*. The sweep searches the "
        "policy's knobs and budget for the best metric at each cost, and compares them with "
        "same-budget training. The best trials are rerun on fresh seeds. The cheapest one that "
        "still matches full training can then be confirmed on the test split. The small tables "
        "take seconds."
    ),
    cards=(),
    choose_plan=choose_sweep_plan,
    load=load_sweep,
)
_COMPARISON_SEEDS = 6
_SAVED_HELP = {
    "flops": "Share of full training's computation that was not spent.",
    "joules": "Share of full training's energy that was not spent.",
}


def _start_comparison(plan: SweepPlan, point: SweepPoint, seeds: int) -> None:
    """Start the study of a point on fresh seeds and open it."""
    try:
        study_id = page.start_job(confirmation_plan(plan, point, seeds))
    except ValueError as error:
        st.session_state[page.problem_key], study_id = str(error), None
    if study_id is None:
        st.rerun()
    st.switch_page("compare.py", query_params={"study": study_id or ""})


def _show_sweep(stored: StoredStudy, sweep: SweepResult) -> None:
    st.header(f"{sweep.task.title} · {sweep.plan.policy}")
    _show_conclusion(sweep)
    page.link_to_present(stored)
    page.show_progress(stored, sweep.plan, missing_trials_text(sweep))
    clicked_name = _draw_front(sweep)
    _show_replications(sweep)
    shown = next((point for point in sweep.points if point.name == clicked_name), sweep.candidate)
    if shown is not None:
        _show_point(sweep, shown)
    _draw_front_growth_and_importance(sweep)
    _show_point_table(sweep)
    command = sweep_to_command(sweep.plan)
    page.offer_command_and_downloads(
        stored,
        command,
        lambda: sweep_report(sweep, command),
        lambda: sweep_table(sweep),
        sweep_record(sweep),
    )


def _show_conclusion(sweep: SweepResult) -> None:
    """Show the conclusion, and offer to confirm an unconfirmed candidate."""
    text = escape_markdown(conclusion_text(sweep))
    if sweep.outcome is SweepOutcome.RECOMMENDED:
        st.success(text, icon=":material/check_circle:")
    elif sweep.outcome.nothing_wins:
        st.warning(text, icon=":material/block:")
    else:
        st.info(text, icon=":material/hourglass_empty:")
    best = sweep.candidate
    if best is not None and not page.is_running and sweep.confirmation is None and st.button(
        f"Confirm {best.name} on {CONFIRMATION_SEEDS} fresh seeds", icon=":material/verified:",
        key="confirm", type="primary",
    ):  # fmt: skip
        _start_comparison(sweep.plan, best.point, CONFIRMATION_SEEDS)
    for name, confirmation in sweep.confirmations.items():
        st.page_link(
            "compare.py", label=f"Study of {name}", icon=":material/balance:",
            query_params={"study": confirmation.study_id},
        )  # fmt: skip


def _draw_front(sweep: SweepResult) -> str | None:
    """Draw metric against cost; return the name of the clicked point."""
    if not sweep.measured_points:
        st.caption("The first point appears when full training has ended.")
        return None
    event = st.plotly_chart(
        frontier_figure(sweep), key="frontier", on_select="rerun", selection_mode="points"
    )
    st.caption(
        "Click a point to see its thresholds. The dotted line is same-budget training: only a "
        "point on its better side is worth using. The dashed line is full training, less the "
        "margin. A trial is stopped early if, in its second half, it is more than ten margins "
        "worse than same-budget training at the next smaller budget."
    )
    selected = event["selection"]["points"]
    name = selected[0].get("customdata") if selected else None
    return str(name[0] if isinstance(name, list) else name) if name else None


def _show_replications(sweep: SweepResult) -> None:
    """Show the rule that chooses the candidate, and the result of each replicated point."""
    write, unit = difference_formatter(sweep.metric)
    results = [
        f"- {escape_markdown(replication_text(point, write, unit))}" for point in sweep.replications
    ]
    margin = escape_markdown(f"{write(sweep.plan.margin)[1:]} {unit}".rstrip())
    rule = escape_markdown(candidate_rule_text(sweep.plan))
    st.markdown("\n".join([f"**Second look** (margin {margin}): {rule}.", "", *results]))


def _show_point(sweep: SweepResult, result: PointResult) -> None:
    """Show a point's thresholds and runs, with its actions."""
    point, metric = result.point, sweep.metric
    with st.container(border=True):
        role = " · candidate" if result is sweep.candidate else ""
        st.subheader(f"{point.name.capitalize()}{role}")
        tiles = {"Budget, share of full training": f"{point.budget:.4g}"}
        tiles |= {name: f"{value:.4g}" for name, value in point.knobs.items()}
        # Without finished full training nothing shows what the saving costs in quality.
        saved = "Saved" if full_training_point(sweep.sweep_points) is not None else "Not spent"
        tiles[saved] = "–" if result.cost is None else f"{1 - result.cost:.1%}"
        if result.metric is not None:
            tiles[metric.label] = metric_text(metric, result.metric)
        for column, (name, value) in zip(st.columns(len(tiles)), tiles.items(), strict=True):
            column.metric(name, value, help=_SAVED_HELP[sweep.plan.by] if name == saved else None)
        _draw_point_actions(sweep.plan, point)


def _draw_point_actions(plan: SweepPlan, point: SweepPoint) -> None:
    snapshots = list(point.snapshots.values())
    with st.container(horizontal=True):
        if snapshots:
            st.page_link(
                "live.py", label="Open in Live", icon=":material/monitoring:",
                query_params=config_to_settings(snapshots[0].config),
            )  # fmt: skip
        for snapshot in snapshots:
            seed = snapshot.config.seed
            link_to_run(snapshot.run_id, f"Run of seed {seed}", ":material/history:")
    if not point.is_dense and st.button(
        f"Compare with {_COMPARISON_SEEDS} seeds", icon=":material/balance:", key="compare-point",
        disabled=page.is_running,
    ):  # fmt: skip
        _start_comparison(plan, point, _COMPARISON_SEEDS)
    if snapshots and (code := training_loop_code(snapshots[0])):
        with st.expander("Use these thresholds in your own training"):
            st.code(code, language="python")


def _draw_front_growth_and_importance(sweep: SweepResult) -> None:
    """Draw the hypervolume over the trials, and the importance of each knob."""
    left, right = st.columns(2)
    if sweep.hypervolume:
        left.markdown("**How the front grew**")
        left.plotly_chart(hypervolume_figure(sweep.hypervolume), key="hypervolume")
        left.caption("Hypervolume: higher is a better trade-off.")
    if sweep.importance:
        right.markdown("**Which knob matters**")
        right.plotly_chart(importance_figure(sweep.importance), key="importance")
        right.caption("fANOVA over finished trials.")


def _show_point_table(sweep: SweepResult) -> None:
    if not sweep.points:
        return
    metric = sweep.metric
    rows = [
        {
            "Point": result.name,
            "State": result.state.text,
            **result.point.knobs,
            "Budget": percent_cell(result.point.budget),
            "Cost": percent_cell(result.cost),
            metric.label: None if result.metric is None else metric_text(metric, result.metric),
            "Front": result.is_on_front,
            "Why": result.point.failure_reason or None,
        }
        for result in sweep.points
    ]
    st.dataframe(
        pd.DataFrame(rows).dropna(axis="columns", how="all"),
        hide_index=True,
        placeholder="–",
        column_config={"Budget": percent_column(), "Cost": percent_column()},
    )


# Presenter mode ---------------------------------------------------------------------------


def _present_sweep(stored: StoredStudy, sweep: SweepResult) -> None:
    """Draw the conclusion, what its candidate saves, and the front."""
    st.markdown(
        f"# {escape_markdown(sweep.task.title)} · which thresholds for "
        f"{escape_markdown(sweep.plan.policy)}?"
    )
    page.show_progress(stored, sweep.plan, missing_trials_text(sweep))
    headline, *evidence = conclusion_sentences(sweep)
    st.markdown(f"## {_conclusion_badge(sweep.outcome)}")
    with st.container(key=SENTENCE_KEY):
        st.markdown(escape_markdown(headline))
    if evidence:
        st.write(escape_markdown(" ".join(evidence)))
    if sweep.candidate is not None:
        _present_candidate(sweep, sweep.candidate)
    if sweep.measured_points:
        figure = frontier_figure(sweep)
        # This shorter title fits a phone.
        figure.update_xaxes(title=f"share of full training's {sweep.cost_unit}")
        for trace in figure.data:
            trace.marker.size = round(1.5 * trace.marker.size)
            trace.line.width = 3
        draw_large_chart(figure, "front")
        st.caption(
            "Each point is one setting. The dotted line is same-budget training, to be beaten; the "
            "dashed one is full training, less the margin."
        )


def _conclusion_badge(outcome: SweepOutcome) -> str:
    if outcome is SweepOutcome.RECOMMENDED:
        return ":green-badge[:material/check_circle: recommended]"
    if outcome.nothing_wins:
        return ":orange-badge[:material/block: nothing wins]"
    if outcome is SweepOutcome.UNCONFIRMED:
        return ":blue-badge[:material/star: a candidate, not confirmed yet]"
    return ":gray-badge[:material/hourglass_empty: not decided yet]"


def _present_candidate(sweep: SweepResult, candidate: PointResult) -> None:
    """Draw the candidate's saving, its metric beside full training's, and its thresholds."""
    metric, point = sweep.metric, candidate.point
    left, right = st.columns(2)
    with left.container(key=f"{NUMBER_KEY_PREFIX}-cost"):
        st.markdown("–" if candidate.cost is None else f"**{1 - candidate.cost:.0%}**")
        st.caption(f"less {sweep.cost_unit} than full training · {point.name}, on validation")
    with right.container(key=f"{NUMBER_KEY_PREFIX}-metric"):
        st.markdown(f"**{metric_text(metric, candidate.metric)}**")
        dense = [result for result in sweep.measured_points if result.point.is_dense]
        full = next((result for result in dense if result.point.budget == 1.0), None)
        beside = f"; full training {metric_text(metric, full.metric)}" if full else ""
        st.caption(escape_markdown(f"{metric.label} on validation{beside}"))
    settings = {"budget": point.budget, **point.knobs}
    listed = " · ".join(
        f"{escape_markdown(name)} **{value:.4g}**" for name, value in settings.items()
    )
    st.markdown(f"Settings: {listed}")


page = StudyPage(_KIND)
page.draw(_show_sweep, _present_sweep)
