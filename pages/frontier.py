"""Frontier: which thresholds should I use? A sweep, its front, and the point to recommend."""

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
from effcore.store.label_table import LabelTable
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
#: Where it is told why something could not begin.
_PROBLEM_KEY = "sweep_problem"


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
    """Show how far the sweep has got; the page is drawn anew with each trial that ends."""
    told, now = study.progress, list_running(plan)
    running = active_steps(plan, now)
    left = time_left_text(study.seconds_left(running))
    words = f"{told.done} of at most {told.total} runs and trials{left}"
    draw_progress_bar(told.done + running, told.total, words, now)
    offer_cancel(study.study_id, "cancel-sweep")
    rerun_on_progress("sweep_seen", (study.study_id, told.done, study.ended.is_set()))


@st.fragment(run_every=REFRESH_S)
def _refresh_progress_elsewhere(sweep_id: str, plan: SweepPlan) -> None:
    """Show what a sweep trains that another process carries out."""
    now = progress_elsewhere(sweep_id)
    st.info("Another process carries this sweep out.", icon=":material/sync:")
    st.caption(running_text(list_running(plan)))
    offer_cancel(sweep_id, "cancel-sweep")
    rerun_on_progress("sweep_seen", now)


def _show_sweep(stored: StoredStudy) -> None:
    if (sweep := read_sweep(stored)) is None:
        return
    st.header(f"{sweep.task.title}: {sweep.plan.policy}")
    _show_conclusion(sweep)
    link_to_present(sweep=stored.study_id)
    _show_progress_or_continue(sweep)
    picked = _draw_front(sweep)
    _show_replications(sweep)
    shown = next((each for each in sweep.points if each.name == picked), sweep.candidate)
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
    """Say what the sweep shows, and offer to confirm a candidate that is not."""
    words = escape_markdown(conclusion_text(sweep))
    if sweep.outcome is SweepOutcome.RECOMMENDED:
        st.success(words, icon=":material/check_circle:")
    elif sweep.outcome.nothing_wins:
        st.warning(words, icon=":material/block:")
    else:
        st.info(words, icon=":material/hourglass_empty:")
    best = sweep.candidate
    if best is not None and not under_way and sweep.confirmation is None and st.button(
        f"Confirm {best.name} on {CONFIRMATION_SEEDS} fresh seeds", icon=":material/verified:",
        key="confirm", type="primary",
    ):  # fmt: skip
        _start_comparison(sweep.plan, best.point, CONFIRMATION_SEEDS)
    for name, confirmation in sweep.confirmations.items():
        st.page_link(
            "compare.py", label=f"The study of {name}", icon=":material/balance:",
            query_params={"study": confirmation.study_id},
        )  # fmt: skip


def _show_progress_or_continue(sweep: SweepResult) -> None:
    """Show progress while it goes on; offer to go on where it was cut short."""
    if under_way and study is not None and study.study_id == sweep.sweep_id:
        _refresh_progress(study, sweep.plan)
        return
    if study is not None and study.study_id == sweep.sweep_id and study.problem:
        st.error(
            f"The sweep ended early. {escape_markdown(study.problem)}", icon=":material/error:"
        )
    words = missing_trials_text(sweep)
    if words and is_running_elsewhere(sweep.sweep_id):
        _refresh_progress_elsewhere(sweep.sweep_id, sweep.plan)
    elif words:
        st.info(words)
        if st.button("Go on", icon=":material/play_arrow:", key="go-on", disabled=under_way):
            _start_sweep(sweep.plan, jobs)


def _draw_front(sweep: SweepResult) -> str | None:
    """Draw metric against cost; returns the name of the point that is clicked."""
    if not sweep.measured_points:
        st.caption("The first point appears once full dense training has ended.")
        return None
    event = st.plotly_chart(
        frontier_figure(sweep), key="frontier", on_select="rerun", selection_mode="points"
    )
    st.caption(
        "Click a point for its thresholds. What must be beaten is the dotted line: dense training "
        "that is simply given less. Stopped as hopeless are trials that, in the second half of "
        "their way, are worse by ten margins than the dense run of the next smaller budget was."
    )
    chosen = event["selection"]["points"]
    name = chosen[0].get("customdata") if chosen else None
    return str(name[0] if isinstance(name, list) else name) if name else None


def _show_replications(sweep: SweepResult) -> None:
    """Say by what rule a point becomes the candidate, and what became of those tried."""
    write, unit = difference_formatter(sweep.metric)
    looks = [
        f"- {escape_markdown(replication_text(each, write, unit))}" for each in sweep.replications
    ]
    margin = escape_markdown(f"{write(sweep.plan.margin)[1:]} {unit}".rstrip())
    rule = escape_markdown(candidate_rule_text(sweep.plan))
    words = f"**Second look**, the margin being {margin}: {rule}."
    st.markdown("\n".join([words, "", *looks]))


def _show_point(sweep: SweepResult, result: PointResult) -> None:
    """Show a point's thresholds and runs, and what can be done with it."""
    point, metric = result.point, sweep.metric
    with st.container(border=True):
        role = " · candidate" if result is sweep.candidate else ""
        st.subheader(f"{point.name.capitalize()}{role}")
        known = {"Share of the dense compute": f"{point.budget:.4g}"}
        known |= {name: f"{value:.4g}" for name, value in point.knobs.items()}
        known["Skipped"] = "–" if result.cost is None else f"{1 - result.cost:.1%}"
        if result.metric is not None:
            known[metric.label] = metric_text(metric, result.metric)
        for column, (name, value) in zip(st.columns(len(known)), known.items(), strict=True):
            column.metric(name, value)
        _draw_point_actions(sweep.plan, point)


def _draw_point_actions(plan: SweepPlan, point: SweepPoint) -> None:
    looks = list(point.snapshots.values())
    with st.container(horizontal=True):
        if looks:
            st.page_link(
                "live.py", label="Open in Live", icon=":material/monitoring:",
                query_params=config_to_settings(looks[0].config),
            )  # fmt: skip
        for look in looks:
            st.page_link(
                "live.py", label=f"Run of seed {look.config.seed}", icon=":material/history:",
                query_params={"run": look.run_id},
            )  # fmt: skip
    if not point.is_dense and st.button(
        f"Compare with {_COMPARISON_SEEDS} seeds", icon=":material/balance:", key="compare-point",
        disabled=under_way,
    ):  # fmt: skip
        _start_comparison(plan, point, _COMPARISON_SEEDS)
    if looks and (code := training_loop_code(looks[0])):
        with st.expander("Use these thresholds in your own training"):
            st.code(code, language="python")


def _draw_front_growth_and_importance(sweep: SweepResult) -> None:
    """Draw how the front grew, and which knob matters."""
    left, right = st.columns(2)
    if sweep.hypervolume:
        left.markdown("**How the front grew**")
        left.plotly_chart(hypervolume_figure(sweep.hypervolume), key="hypervolume")
        left.caption("The area behind the front, up to full cost and the least dense metric.")
    if sweep.importance:
        right.markdown("**Which knob matters**")
        right.plotly_chart(importance_figure(sweep.importance), key="importance")
        right.caption("By a functional analysis of variance over the trials that ended.")


def _show_point_table(sweep: SweepResult) -> None:
    if not sweep.points:
        return
    metric = sweep.metric
    rows = [
        {
            "Point": each.name,
            "State": each.state.value,
            **each.point.knobs,
            "Budget": percent_cell(each.point.budget),
            "Cost": percent_cell(each.cost),
            metric.label: None if each.metric is None else metric_text(metric, each.metric),
            "Front": each.is_on_front,
            "Why": each.point.failure_reason or None,
        }
        for each in sweep.points
    ]
    st.dataframe(
        pd.DataFrame(rows).dropna(axis="columns", how="all"),
        hide_index=True,
        placeholder="–",
        column_config={"Budget": percent_column(), "Cost": percent_column()},
    )


def _choose_sweep(sweeps: list[StoredStudy]) -> StoredStudy | None:
    """Return the sweep in the address, the newest without one; the picker leads to others."""
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
        "Choose a task and a policy in the sidebar and press *Start sweep*. The policy's knobs and "
        "its budget are searched for the best metric at each cost, beside dense training that is "
        "simply given less. What looks as good as full training is looked at again on fresh "
        "seeds, and the cheapest that still is can be confirmed on the test split. The small "
        "tables take seconds."
    )
    # On a phone the choices, and the button above them, are folded away.
    if st.button(
        "Start this sweep", icon=":material/play_arrow:", disabled=plan is None or under_way,
        key="start-sweep-here",
    ):  # fmt: skip
        _start_sweep(plan, jobs)


st.title("Which thresholds should I use?")
with st.sidebar:
    top = st.container(key="sweep-bar")  # above the choices it starts
    pin_sidebar_bar("sweep-bar")
    plan, jobs, unusable = choose_sweep_plan()
with top:
    under_way = (study := current_study_job()) is not None and not study.ended.is_set()
    # Not by a callback: it would have the choices of the last time the page was drawn.
    if st.button(
        "Start sweep",
        type="primary",
        width="stretch",
        icon=":material/play_arrow:",
        disabled=plan is None or under_way,
        key="start-sweep",
        help="A sweep of the same choices goes on where it was.",
    ):
        _start_sweep(plan, jobs)
    if unusable:
        st.error(escape_markdown(unusable), icon=":material/error:")
if problem := st.session_state.pop(_PROBLEM_KEY, None):
    st.error(f"It could not start. {escape_markdown(problem)}", icon=":material/error:")
try:
    known = StudyTable(shared_run_manager().store).list_studies(sweeps=True)
    labels = LabelTable(shared_run_manager().store).all_labels()
except StoreError as error:
    st.error(f"The sweeps could not be listed. {escape_markdown(error)}", icon=":material/error:")
    st.stop()
stored = _choose_sweep(known)
if stored is None:
    _show_introduction()
else:
    _show_sweep(stored)
if under_way and study is not None and study.ended.is_set():
    st.rerun()  # it ended while this was drawn, and what is above does not know yet
