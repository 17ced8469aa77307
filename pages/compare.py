"""Compare page: policies against full and same-budget training over paired seeds."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from effcore.figures.study_charts import (
    forest_figure,
    variant_curves,
    variant_curves_figure,
    variant_title,
)
from effcore.report import study_report, study_table
from effcore.runs.descriptions import time_left_text
from effcore.runs.manager import shared_run_manager
from effcore.store import StoreError
from effcore.store.study_table import StoredStudy, StudyTable
from effcore.studies.comparison import (
    StudyResult,
    difference_formatter,
    exploratory_texts,
    missing_runs,
    policy_text,
    result_record,
    variant_savings,
)
from effcore.studies.difference_table import difference_table
from effcore.studies.executor import StudyRun
from effcore.studies.plan import StudyPlan, plan_to_command, variants_of
from effcore.studies.savings import savings_sentence
from effcore.studies.study_job import StudyJob, current_study_job
from effcore.tasks.base import TASKS
from pages.ui.common import escape_markdown, pin_sidebar_bar, shorten_untrusted_text
from pages.ui.display_names import study_picker_label
from pages.ui.downloads import draw_study_downloads
from pages.ui.present.screen import link_to_present
from pages.ui.studies.grid import draw_study_grid
from pages.ui.studies.progress import (
    REFRESH_S,
    draw_progress_bar,
    is_running_elsewhere,
    list_running,
    offer_cancel,
    progress_elsewhere,
    rerun_on_progress,
)
from pages.ui.studies.start import start_or_continue
from pages.ui.studies.stored_study import missing_runs_text, read_study, verdict_badge
from pages.ui.studies.study_settings import choose_study_plan
from pages.ui.tables import show_swipe_hint


def _start_study(plan: StudyPlan | None, jobs: int) -> None:
    """Start or continue the study, and open it."""
    if (study_id := start_or_continue(plan, jobs, "study_problem")) is not None:
        st.query_params["study"] = study_id


def _running_study(study_id: str) -> StudyJob | None:
    study = current_study_job()
    return study if study is not None and study.study_id == study_id else None


@st.fragment(run_every=REFRESH_S)
def _refresh_progress(study: StudyJob, remaining_runs: list[StudyRun]) -> None:
    """Show the study's progress, and redraw the page when a run ends."""
    progress, active_runs = study.progress, list_running(remaining_runs)
    running = sum(run.progress for run in active_runs)
    time_left = time_left_text(study.seconds_left(running))
    text = f"{progress.done} of {progress.total} runs{time_left}"
    draw_progress_bar(progress.done + running, progress.total, text, active_runs)
    offer_cancel(study.study_id, "cancel-study")
    rerun_on_progress("study_seen", (study.study_id, progress.done, study.ended.is_set()))


@st.fragment(run_every=REFRESH_S)
def _refresh_progress_elsewhere(study_id: str, remaining_runs: list[StudyRun], total: int) -> None:
    """Show the progress of a study that another process runs."""
    active_runs, done = list_running(remaining_runs), total - len(remaining_runs)
    text = f"Another process runs this study: {done} of {total} runs"
    running = sum(run.progress for run in active_runs)
    draw_progress_bar(done + running, total, text, active_runs)
    offer_cancel(study_id, "cancel-study")
    rerun_on_progress("study_seen", progress_elsewhere(study_id))


def _show_study(stored: StoredStudy) -> None:
    if (result := read_study(stored)) is None:
        return
    plan, completed, record = result.plan, result.completed, result_record(result)
    task = TASKS.get(str(plan.shared["task"]))
    st.header(f"{task.title}: {', '.join(plan.arms)} at {plan.budget:.0%} of the compute")
    _show_verdicts(result)
    link_to_present(study=stored.study_id)
    remaining_runs = missing_runs(shared_run_manager().store, stored.study_id, plan)
    is_under_way = _show_progress_or_continue(stored.study_id, plan, remaining_runs)
    if result.verdicts:
        figure = forest_figure(
            result.verdicts, plan.margin, task.metric.factor, task.metric.difference_unit
        )
        st.plotly_chart(figure, key="forest")
        st.caption(_judging_rule_text(result))
        _show_differences(result)
    curves = variant_curves(completed.snapshots)
    if curves:
        st.plotly_chart(
            variant_curves_figure(curves, task.metric.label, task.metric.unit == "%"), key="curves"
        )
        st.caption("Mean over seeds; the band spans the lowest to the highest seed.")
    draw_study_grid(result, remaining_runs, is_under_way)
    st.code(plan_to_command(plan), language="shell", wrap_lines=True)
    draw_study_downloads(
        f"study-{stored.study_id}",
        lambda: study_report(stored.study_id, plan, completed, plan_to_command(plan)),
        lambda: study_table(result),
        record,
    )


def _show_differences(result: StudyResult) -> None:
    """List every difference, with the bootstrap and the sign-flip test."""
    write, unit = difference_formatter(result.metric)
    with st.expander("All differences, with bootstrap and sign-flip test"):
        rows = [
            {**row, "against": variant_title(row["against"])}
            for row in difference_table(result.verdicts, write)
        ]
        table = pd.DataFrame(rows).rename(columns=lambda name: name[0].upper() + name[1:])
        st.dataframe(table, hide_index=True)
        show_swipe_hint("differences")
        st.caption(
            f"Differences are in {unit or 'the metric'}. The one-sided bound decides against full "
            "training, the t interval against same-budget training. The bootstrap and the "
            "sign-flip test decide nothing."
        )


def _show_progress_or_continue(
    study_id: str, plan: StudyPlan, remaining_runs: list[StudyRun]
) -> bool:
    """Show a running study's progress, or offer to continue; return whether it is under way."""
    study = _running_study(study_id)
    if study is not None and study.problem:
        st.error(
            f"The study ended early. {escape_markdown(study.problem)}", icon=":material/error:"
        )
    if study is not None and not study.ended.is_set():
        _refresh_progress(study, remaining_runs)
        return True
    if remaining_runs and is_running_elsewhere(study_id):
        _refresh_progress_elsewhere(
            study_id, remaining_runs, len(plan.seeds) * len(variants_of(plan))
        )
        return True
    if remaining_runs:
        _offer_to_continue(study_id, plan, len(remaining_runs))
    return False


def _offer_to_continue(study_id: str, plan: StudyPlan, missing_run_count: int) -> None:
    """Say how many runs an incomplete study lacks, and offer to train them."""
    st.info(missing_runs_text(study_id, plan, missing_run_count))
    if st.button("Continue", icon=":material/play_arrow:", key="go-on", disabled=is_running):
        _start_study(plan, jobs)
        st.rerun()


@st.fragment(run_every=REFRESH_S)
def _watch_other_study(study: StudyJob) -> None:
    """Show the progress of a running study that is not the one on the page."""
    if study.ended.is_set():
        st.rerun()
    progress = study.progress
    st.caption(f"Another study or sweep is running: {progress.done} of {progress.total} runs.")


def _show_verdicts(result: StudyResult) -> None:
    """Show each verdict in a sentence, or say what a verdict needs."""
    for policy in result.policies:
        st.markdown(f"### {verdict_badge(policy, is_over=not result.completed.runs_left)}")
        st.write(escape_markdown(policy_text(policy, result.metric)))
        saved = savings_sentence(variant_savings(result.completed, policy.arm))
        st.caption(escape_markdown(saved))
    if not result.policies:
        st.info("A verdict needs at least two seeds that every variant has finished.")
    if reasons := exploratory_texts(result):
        st.warning("Exploratory. " + escape_markdown(" ".join(reasons)))


def _judging_rule_text(result: StudyResult) -> str:
    several, (write, unit) = len(result.policies) > 1, difference_formatter(result.metric)
    margin = f"{write(-result.plan.margin)} {unit}".rstrip()
    text = (
        "95% t intervals of paired differences; better is to the right. A policy matches full "
        f"training if the lower one-sided 95% bound lies above the margin ({margin}). It beats "
        "same-budget training if the interval lies above zero."
    )
    return text + (
        " With several policies, p-values are corrected by Holm's method." if several else ""
    )


def _choose_study(studies: list[StoredStudy]) -> StoredStudy | None:
    """Draw the picker; return the study in the address, or the newest one."""
    by_id = {study.study_id: study for study in studies}
    wanted = st.query_params.get("study")
    if wanted is not None and wanted not in by_id:
        st.warning(
            f"There is no study {shorten_untrusted_text(wanted)} in this store.",
            icon=":material/link_off:",
        )
    if not by_id:
        return None
    names = {
        study.study_id: study_picker_label(study, labels.get(study.study_id)) for study in studies
    }
    ids = list(by_id)
    picked = st.selectbox(
        "Study", ids, index=ids.index(wanted) if wanted in by_id else 0,
        format_func=names.__getitem__, key=f"study-picker-{wanted}",
    )  # fmt: skip
    if picked != wanted:
        st.query_params["study"] = picked
    return by_id[picked]


_INTRODUCTION_CARDS = (
    (
        "Two questions",
        "Does the policy match full training, within a margin fixed beforehand? And does it beat "
        "normal training on the same budget?",
    ),
    (
        "Strong baselines",
        "Full training, same-budget training whose learning rate decays within the budget, and "
        "random skipping.",
    ),
    (
        "Honest answers",
        "Paired seeds, intervals, and the final parameters on the test split. Ties, losses and "
        "too few seeds are reported as plainly as wins.",
    ),
)


def _show_introduction() -> None:
    st.write(
        "Choose a task and policies in the sidebar and press *Start study*. Each seed is trained "
        "in full, in full on a smaller budget, with random skipping, and with each policy you "
        "picked. A cancelled or interrupted study can be continued, and more seeds can be added "
        "later. The small tables take seconds."
    )
    # A phone hides the sidebar, and with it the other start button.
    if st.button(
        "Start this study", icon=":material/play_arrow:", disabled=plan is None or is_running,
        key="start-here",
    ):  # fmt: skip
        _start_study(plan, jobs)
        st.rerun()
    for column, (title, text) in zip(st.columns(3), _INTRODUCTION_CARDS, strict=True):
        with column.container(border=True, height="stretch"):
            st.markdown(f"**{title}**")
            st.caption(text)


st.title("Is it really better?")
with st.sidebar:
    top = st.container(key="study-bar")  # holds the start button, above the settings
    pin_sidebar_bar("study-bar")
    plan, jobs, unusable = choose_study_plan()
with top:
    is_running = (study := current_study_job()) is not None and not study.ended.is_set()
    # A callback would use the settings from the previous script run.
    if st.button(
        "Start study",
        type="primary",
        width="stretch",
        icon=":material/play_arrow:",
        disabled=plan is None or is_running,
        key="start-study",
        help="An incomplete study with the same settings continues.",
    ):
        _start_study(plan, jobs)
        st.rerun()
    if unusable:
        st.error(escape_markdown(unusable), icon=":material/error:")
if problem := st.session_state.pop("study_problem", None):
    st.error(f"The study could not start. {escape_markdown(problem)}", icon=":material/error:")
try:
    known = StudyTable(shared_run_manager().store).list_studies()
    labels = shared_run_manager().store.all_labels()
except StoreError as error:
    st.error(f"The studies could not be listed. {escape_markdown(error)}", icon=":material/error:")
    st.stop()
stored = _choose_study(known)
if stored is None:
    _show_introduction()
else:
    _show_study(stored)
    if is_running and study is not None and stored.study_id != study.study_id:
        _watch_other_study(study)
if is_running and study is not None and study.ended.is_set():
    st.rerun()  # the study ended while the page was drawn
