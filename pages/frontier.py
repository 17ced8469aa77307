"""Frontier page: a sweep over thresholds, its front, and the recommended point."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from effcore.figures.sweep_charts import frontier_figure, hypervolume_figure, importance_figure
from effcore.report import sweep_report, sweep_table
from effcore.runs.descriptions import time_left_text
from effcore.runs.manager import shared_run_manager
from effcore.runs.reproduce import config_to_settings, training_loop_code
from effcore.runs.summary import metric_text
from effcore.store import StoreError
from effcore.store.study_table import StoredStudy, StudyTable
from effcore.studies.active_runs import active_steps
from effcore.studies.candidates import candidate_rule_text
from effcore.studies.comparison import difference_formatter
from effcore.studies.frontier import (
    CONFIRMATION_SEEDS,
    PointResult,
    SweepOutcome,
    SweepResult,
    conclusion_text,
    confirmation_plan,
    replication_text,
    sweep_record,
)
from effcore.studies.study_job import StudyJob, current_study_job
from effcore.studies.sweep import SweepPlan, sweep_to_command
from effcore.studies.trials import SweepPoint
from pages.ui.common import escape_markdown, pin_sidebar_bar, shorten_untrusted_text
from pages.ui.display_names import study_picker_label
from pages.ui.downloads import draw_study_downloads
from pages.ui.present.screen import link_to_present
from pages.ui.studies.progress import (
    REFRESH_S,
    draw_progress_bar,
    is_running_elsewhere,
    list_running,
    offer_cancel,
    progress_elsewhere,
    rerun_on_progress,
    running_text,
)
from pages.ui.studies.start import start_or_continue
from pages.ui.studies.stored_sweep import missing_trials_text, read_sweep
from pages.ui.studies.sweep_settings import choose_sweep_plan
from pages.ui.tables import percent_cell, percent_column

_COMPARISON_SEEDS = 6
#: Session key of the reason why a sweep or study could not start.
_PROBLEM_KEY = "sweep_problem"


_SAVED_HELP = {
    "flops": "Share of full training's computation that was not spent.",
    "joules": "Share of full training's energy that was not spent.",
}


def _start_sweep(plan: SweepPlan | None, jobs: int) -> None:
    if (sweep_id := start_or_continue(plan, jobs, _PROBLEM_KEY)) is not None:
        st.query_params["sweep"] = sweep_id
    st.rerun()


def _start_comparison(plan: SweepPlan, point: SweepPoint, seeds: int) -> None:
    """Start the study of a point on fresh seeds and open it."""
    try:
        study_id = start_or_continue(confirmation_plan(plan, point, seeds), jobs, _PROBLEM_KEY)
    except ValueError as error:
        st.session_state[_PROBLEM_KEY], study_id = str(error), None
    if study_id is None:
        st.rerun()
    st.switch_page("compare.py", query_params={"study": study_id or ""})


@st.fragment(run_every=REFRESH_S)
def _refresh_progress(study: StudyJob, plan: SweepPlan) -> None:
    """Show the sweep's progress, and redraw the page when a trial ends."""
    progress, active_runs = study.progress, list_running(plan)
    running = active_steps(plan, active_runs)
    time_left = time_left_text(study.seconds_left(running))
    text = f"{progress.done} of at most {progress.total} runs and trials{time_left}"
    draw_progress_bar(progress.done + running, progress.total, text, active_runs)
    offer_cancel(study.study_id, "cancel-sweep")
    rerun_on_progress("sweep_seen", (study.study_id, progress.done, study.ended.is_set()))


@st.fragment(run_every=REFRESH_S)
def _refresh_progress_elsewhere(sweep_id: str, plan: SweepPlan) -> None:
    """Show the active runs of a sweep that another process runs."""
    progress = progress_elsewhere(sweep_id)
    st.info("Another process runs this sweep.", icon=":material/sync:")
    st.caption(running_text(list_running(plan)))
    offer_cancel(sweep_id, "cancel-sweep")
    rerun_on_progress("sweep_seen", progress)


def _show_sweep(stored: StoredStudy) -> None:
    if (sweep := read_sweep(stored)) is None:
        return
    st.header(f"{sweep.task.title}: {sweep.plan.policy}")
    _show_conclusion(sweep)
    link_to_present(sweep=stored.study_id)
    _show_progress_or_continue(sweep)
    clicked_name = _draw_front(sweep)
    _show_replications(sweep)
    shown = next((point for point in sweep.points if point.name == clicked_name), sweep.candidate)
    if shown is not None:
        _show_point(sweep, shown)
    _draw_front_growth_and_importance(sweep)
    _show_point_table(sweep)
    command = sweep_to_command(sweep.plan)
    st.code(command, language="shell", wrap_lines=True)
    draw_study_downloads(
        f"sweep-{sweep.sweep_id}", lambda: sweep_report(sweep, command),
        lambda: sweep_table(sweep), sweep_record(sweep), key="download-sweep",
    )  # fmt: skip


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
    if best is not None and not is_running and sweep.confirmation is None and st.button(
        f"Confirm {best.name} on {CONFIRMATION_SEEDS} fresh seeds", icon=":material/verified:",
        key="confirm", type="primary",
    ):  # fmt: skip
        _start_comparison(sweep.plan, best.point, CONFIRMATION_SEEDS)
    for name, confirmation in sweep.confirmations.items():
        st.page_link(
            "compare.py", label=f"Study of {name}", icon=":material/balance:",
            query_params={"study": confirmation.study_id},
        )  # fmt: skip


def _show_progress_or_continue(sweep: SweepResult) -> None:
    """Show the progress of a running sweep, or offer to continue an incomplete one."""
    if is_running and study is not None and study.study_id == sweep.sweep_id:
        _refresh_progress(study, sweep.plan)
        return
    if study is not None and study.study_id == sweep.sweep_id and study.problem:
        st.error(
            f"The sweep ended early. {escape_markdown(study.problem)}", icon=":material/error:"
        )
    missing_text = missing_trials_text(sweep)
    if missing_text and is_running_elsewhere(sweep.sweep_id):
        _refresh_progress_elsewhere(sweep.sweep_id, sweep.plan)
    elif missing_text:
        st.info(missing_text)
        if st.button("Continue", icon=":material/play_arrow:", key="go-on", disabled=is_running):
            _start_sweep(sweep.plan, jobs)


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
        "point on its better side is worth using. A trial is stopped early if, in its second "
        "half, it is more than ten margins worse than same-budget training at the next smaller "
        "budget."
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
        tiles["Saved"] = "–" if result.cost is None else f"{1 - result.cost:.1%}"
        if result.metric is not None:
            tiles[metric.label] = metric_text(metric, result.metric)
        for column, (name, value) in zip(st.columns(len(tiles)), tiles.items(), strict=True):
            column.metric(name, value, help=_SAVED_HELP.get(sweep.cost_unit)
                          if name == "Saved" else None)  # fmt: skip
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
            st.page_link(
                "live.py", label=f"Run of seed {snapshot.config.seed}", icon=":material/history:",
                query_params={"run": snapshot.run_id},
            )  # fmt: skip
    if not point.is_dense and st.button(
        f"Compare with {_COMPARISON_SEEDS} seeds", icon=":material/balance:", key="compare-point",
        disabled=is_running,
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


def _choose_sweep(sweeps: list[StoredStudy]) -> StoredStudy | None:
    """Draw the picker; return the sweep in the address, or the newest one."""
    by_id = {sweep.study_id: sweep for sweep in sweeps}
    wanted = st.query_params.get("sweep")
    if wanted is not None and wanted not in by_id:
        st.warning(
            f"There is no sweep {shorten_untrusted_text(wanted)} in this store.",
            icon=":material/link_off:",
        )
    if not by_id:
        return None
    names, ids = (
        {s.study_id: study_picker_label(s, labels.get(s.study_id)) for s in sweeps},
        list(by_id),
    )
    picked = st.selectbox(
        "Sweep", ids, index=ids.index(wanted) if wanted in by_id else 0,
        format_func=names.__getitem__, key=f"sweep-picker-{wanted}",
    )  # fmt: skip
    if picked != wanted:
        st.query_params["sweep"] = picked
    return by_id[picked]


def _show_introduction() -> None:
    st.write(
        "Choose a task and a policy in the sidebar and press *Start sweep*. The sweep searches the "
        "policy's knobs and budget for the best metric at each cost, and compares them with "
        "same-budget training. The best trials are rerun on fresh seeds. The cheapest one that "
        "still matches full training can then be confirmed on the test split. The small tables "
        "take seconds."
    )
    # A phone hides the sidebar, and with it the other start button.
    if st.button(
        "Start this sweep", icon=":material/play_arrow:", disabled=plan is None or is_running,
        key="start-sweep-here",
    ):  # fmt: skip
        _start_sweep(plan, jobs)


st.title("Which thresholds should I use?")
with st.sidebar:
    top = st.container(key="sweep-bar")  # holds the start button, above the settings
    pin_sidebar_bar("sweep-bar")
    plan, jobs, unusable = choose_sweep_plan()
with top:
    is_running = (study := current_study_job()) is not None and not study.ended.is_set()
    # A callback would use the settings from the previous script run.
    if st.button(
        "Start sweep",
        type="primary",
        width="stretch",
        icon=":material/play_arrow:",
        disabled=plan is None or is_running,
        key="start-sweep",
        help="An incomplete sweep with the same settings continues.",
    ):
        _start_sweep(plan, jobs)
    if unusable:
        st.error(escape_markdown(unusable), icon=":material/error:")
if problem := st.session_state.pop(_PROBLEM_KEY, None):
    st.error(f"The sweep could not start. {escape_markdown(problem)}", icon=":material/error:")
try:
    known = StudyTable(shared_run_manager().store).list_studies(sweeps=True)
    labels = shared_run_manager().store.all_labels()
except StoreError as error:
    st.error(f"The sweeps could not be listed. {escape_markdown(error)}", icon=":material/error:")
    st.stop()
stored = _choose_sweep(known)
if stored is None:
    _show_introduction()
else:
    _show_sweep(stored)
if is_running and study is not None and study.ended.is_set():
    st.rerun()  # the sweep ended while the page was drawn
