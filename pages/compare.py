"""Compare: policies against dense training over paired seeds, and a verdict."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from effcore.figures.study_charts import forest_figure, variant_curves, variant_curves_figure
from effcore.report import study_report, study_table
from effcore.runs.descriptions import time_left_text
from effcore.runs.manager import shared_run_manager
from effcore.store import StoreError
from effcore.store.label_table import LabelTable
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
    """Start the study, or go on with it, and open it."""
    if (study_id := start_or_continue(plan, jobs, "study_problem")) is not None:
        st.query_params["study"] = study_id


def _running_study(study_id: str) -> StudyJob | None:
    study = current_study_job()
    return study if study is not None and study.study_id == study_id else None


@st.fragment(run_every=REFRESH_S)
def _refresh_progress(study: StudyJob, missing_cells: list[StudyRun]) -> None:
    """Show how far the study has got; the page is drawn anew with each run that ends."""
    told, now = study.progress, list_running(missing_cells)
    running = sum(each.progress for each in now)
    words = f"{told.done} of {told.total} runs{time_left_text(study.seconds_left(running))}"
    draw_progress_bar(told.done + running, told.total, words, now)
    offer_cancel(study.study_id, "cancel-study")
    rerun_on_progress("study_seen", (study.study_id, told.done, study.ended.is_set()))


@st.fragment(run_every=REFRESH_S)
def _refresh_progress_elsewhere(study_id: str, missing_cells: list[StudyRun], total: int) -> None:
    """Show how far a study has got that another process carries out."""
    now, done = list_running(missing_cells), total - len(missing_cells)
    words = f"Carried out by another process: {done} of {total} runs"
    draw_progress_bar(done + sum(each.progress for each in now), total, words, now)
    offer_cancel(study_id, "cancel-study")
    rerun_on_progress("study_seen", progress_elsewhere(study_id))


def _show_study(stored: StoredStudy) -> None:
    if (result := read_study(stored)) is None:
        return
    plan, found, record = result.plan, result.completed, result_record(result)
    task = TASKS.get(str(plan.shared["task"]))
    st.header(f"{task.title}: {', '.join(plan.arms)} at {plan.budget:.0%} of the compute")
    _show_verdicts(result)
    link_to_present(study=stored.study_id)
    left = missing_runs(shared_run_manager().store, stored.study_id, plan)
    live = _show_progress_or_continue(stored.study_id, plan, left)
    if result.verdicts:
        figure = forest_figure(
            result.verdicts, plan.margin, task.metric.factor, task.metric.difference_unit
        )
        st.plotly_chart(figure, key="forest")
        st.caption(_judging_rule_text(result))
        _show_differences(result)
    drawn = variant_curves(found.snapshots)
    if drawn:
        st.plotly_chart(
            variant_curves_figure(drawn, task.metric.label, task.metric.unit == "%"), key="curves"
        )
        st.caption(
            "Mean over seeds; the band reaches from the least to the largest. D100 is full dense "
            "training, D-B dense training of the same compute."
        )
    draw_study_grid(result, left, live)
    st.code(plan_to_command(plan), language="shell", wrap_lines=True)
    draw_study_downloads(
        f"study-{stored.study_id}",
        lambda: study_report(stored.study_id, plan, found, plan_to_command(plan)),
        lambda: study_table(result),
        record,
    )


def _show_differences(result: StudyResult) -> None:
    """List every difference: what decides, and what is shown beside it."""
    write, unit = difference_formatter(result.metric)
    with st.expander("All differences, bootstrap and sign-flip test beside them"):
        rows = difference_table(result.verdicts, write)
        table = pd.DataFrame(rows).rename(columns=lambda name: name[0].upper() + name[1:])
        st.dataframe(table, hide_index=True)
        show_swipe_hint("differences")
        st.caption(
            f"Differences are in {unit or 'the metric'}. Against D100 the one-sided bound decides, "
            "against D-B the t interval; bootstrap and sign-flip test decide nothing."
        )


def _show_progress_or_continue(
    study_id: str, plan: StudyPlan, missing_cells: list[StudyRun]
) -> bool:
    """Show how far a study is, or offer the rest of it; returns whether it is under way."""
    study = _running_study(study_id)
    if study is not None and study.problem:
        st.error(
            f"The study ended early. {escape_markdown(study.problem)}", icon=":material/error:"
        )
    if study is not None and not study.ended.is_set():
        _refresh_progress(study, missing_cells)
        return True
    if missing_cells and is_running_elsewhere(study_id):
        _refresh_progress_elsewhere(
            study_id, missing_cells, len(plan.seeds) * len(variants_of(plan))
        )
        return True
    if missing_cells:
        _offer_to_continue(study_id, plan, len(missing_cells))
    return False


def _offer_to_continue(study_id: str, plan: StudyPlan, missing_run_count: int) -> None:
    """Say what a study that was cancelled or cut short lacks, and offer the rest of it."""
    st.info(missing_runs_text(study_id, plan, missing_run_count))
    if st.button("Go on", icon=":material/play_arrow:", key="go-on", disabled=under_way):
        _start_study(plan, jobs)
        st.rerun()


@st.fragment(run_every=REFRESH_S)
def _watch_other_study(study: StudyJob) -> None:
    """Say that another study is under way than the one on the page, until it is over."""
    if study.ended.is_set():
        st.rerun()
    told = study.progress
    st.caption(f"Another study or sweep is under way: {told.done} of {told.total} runs.")


def _show_verdicts(result: StudyResult) -> None:
    """Say each verdict in a sentence; or what is missing for one."""
    for policy in result.policies:
        st.markdown(f"### {verdict_badge(policy, is_over=not result.completed.runs_left)}")
        st.write(escape_markdown(policy_text(policy, result.metric)))
        saved = savings_sentence(variant_savings(result.completed, policy.arm))
        st.caption(escape_markdown(saved))
    if not result.policies:
        st.info("A verdict needs at least two seeds that every arm has ended.")
    if reasons := exploratory_texts(result):
        st.warning("Exploratory. " + escape_markdown(" ".join(reasons)))


def _judging_rule_text(result: StudyResult) -> str:
    several, (write, unit) = len(result.policies) > 1, difference_formatter(result.metric)
    margin = f"{write(-result.plan.margin)} {unit}".rstrip()
    words = (
        "95% t intervals of paired differences; higher is better. It matches full training where "
        f"the lower one-sided 95% bound lies above the margin ({margin}). It beats same-budget "
        "training where the interval lies above zero."
    )
    return words + (" Several policies: p-values by Holm's method." if several else "")


def _choose_study(studies: list[StoredStudy]) -> StoredStudy | None:
    """Return the study in the address, the newest without one; the picker leads to others."""
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
        "Is it as good as full training, by a margin fixed beforehand? And is it better than "
        "simply training for less?",
    ),
    (
        "Strong baselines",
        "Full dense training, dense training of the same compute with its own decayed learning "
        "rate, and leaving out examples at random.",
    ),
    (
        "Honest answers",
        "Paired seeds, intervals, final parameters on the test split; ties, losses and too few "
        "seeds are said as plainly as wins.",
    ),
)


def _show_introduction() -> None:
    st.write(
        "Choose a task and a policy in the sidebar and press *Start study*. Every seed is trained "
        "on everything, on everything for less, leaving out examples at random, and by each "
        "policy. A study that is cancelled or cut short goes on where it was, and more seeds can "
        "join it later. The small tables take seconds."
    )
    # On a phone the choices, and the button above them, are folded away.
    if st.button(
        "Start this study", icon=":material/play_arrow:", disabled=plan is None or under_way,
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
    top = st.container(key="study-bar")  # above the choices it starts
    pin_sidebar_bar("study-bar")
    plan, jobs, unusable = choose_study_plan()
with top:
    under_way = (study := current_study_job()) is not None and not study.ended.is_set()
    # Not by a callback: it would have the choices of the last time the page was drawn.
    if st.button(
        "Start study",
        type="primary",
        width="stretch",
        icon=":material/play_arrow:",
        disabled=plan is None or under_way,
        key="start-study",
        help="A study of the same choices goes on where it was.",
    ):
        _start_study(plan, jobs)
        st.rerun()
    if unusable:
        st.error(escape_markdown(unusable), icon=":material/error:")
if problem := st.session_state.pop("study_problem", None):
    st.error(f"The study could not start. {escape_markdown(problem)}", icon=":material/error:")
try:
    known = StudyTable(shared_run_manager().store).list_studies()
    labels = LabelTable(shared_run_manager().store).all_labels()
except StoreError as error:
    st.error(f"The studies could not be listed. {escape_markdown(error)}", icon=":material/error:")
    st.stop()
stored = _choose_study(known)
if stored is None:
    _show_introduction()
else:
    _show_study(stored)
    if under_way and study is not None and stored.study_id != study.study_id:
        _watch_other_study(study)
if under_way and study is not None and study.ended.is_set():
    st.rerun()  # it ended while this was drawn, and what is above does not know yet
