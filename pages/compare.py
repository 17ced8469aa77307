"""Compare: policies against dense training over paired seeds, and a verdict."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from effcore.figures.verdicts import curves, curves_figure, forest_figure
from effcore.report import study_report, study_table
from effcore.runs.manager import shared_runs
from effcore.store import StoreError
from effcore.store.labels import LabelBook
from effcore.store.studies import StoredStudy, Studies
from effcore.studies.comparison import difference_formatter, missing_runs
from effcore.studies.difference_table import difference_table_row
from effcore.studies.executor import StudyRun
from effcore.studies.plan import StudyPlan, plan_to_command, variants_of
from effcore.studies.savings import savings_sentence
from effcore.studies.study_job import StudyJob, current_study_job
from effcore.tasks.base import TASKS, Metric
from effcore.words import time_left
from pages.ui.amounts import sideways_note
from pages.ui.frame import keep_in_sight, plain, shown
from pages.ui.naming import study_name
from pages.ui.present.screen import offer_to_present
from pages.ui.studies.comparing import choose_plan
from pages.ui.studies.grid import draw_grid
from pages.ui.studies.progress import (
    LOOK_S,
    bar,
    draw_anew,
    elsewhere,
    offer_to_cancel,
    training,
    under_way_elsewhere,
)
from pages.ui.studies.starting import begin
from pages.ui.studies.verdicts import headline, lacking_words, read_study
from pages.ui.taking import offer_study


def _start(plan: StudyPlan | None, jobs: int) -> None:
    """Start the study, or go on with it, and open it."""
    if (study_id := begin(plan, jobs, "study_problem")) is not None:
        st.query_params["study"] = study_id


def _under_way(study_id: str) -> StudyJob | None:
    study = current_study_job()
    return study if study is not None and study.study_id == study_id else None


@st.fragment(run_every=LOOK_S)
def _progress(study: StudyJob, left: list[StudyRun]) -> None:
    """Show how far the study has got; the page is drawn anew with each run that ends."""
    told, now = study.progress, training(left)
    running = sum(each.progress for each in now)
    words = f"{told.done} of {told.total} runs{time_left(study.seconds_left(running))}"
    bar(told.done + running, told.total, words, now)
    offer_to_cancel(study.study_id, "cancel-study")
    draw_anew("study_seen", (study.study_id, told.done, study.ended.is_set()))


@st.fragment(run_every=LOOK_S)
def _elsewhere(study_id: str, left: list[StudyRun], total: int) -> None:
    """Show how far a study has got that another process carries out."""
    now, done = training(left), total - len(left)
    words = f"Carried out by another process: {done} of {total} runs"
    bar(done + sum(each.progress for each in now), total, words, now)
    offer_to_cancel(study_id, "cancel-study")
    draw_anew("study_seen", elsewhere(study_id))


def _show(stored: StoredStudy) -> None:
    if (read := read_study(stored)) is None:
        return
    plan, found, told = read
    task = TASKS.get(told["task"])
    st.header(f"{task.title}: {', '.join(plan.arms)} at {plan.budget:.0%} of the compute")
    _verdicts(told)
    offer_to_present(study=stored.study_id)
    left = missing_runs(shared_runs().store, stored.study_id, plan)
    live = _progress_of(stored.study_id, plan, left)
    if told["diffs"]:
        figure = forest_figure(
            told["diffs"], plan.margin, task.metric.factor, task.metric.difference_unit
        )
        st.plotly_chart(figure, key="forest")
        st.caption(_how_judged(told, task.metric))
        _differences(told, task.metric)
    drawn = curves(found.snapshots)
    if drawn:
        st.plotly_chart(
            curves_figure(drawn, task.metric.label, task.metric.unit == "%"), key="curves"
        )
        st.caption(
            "Mean over seeds; the band reaches from the least to the largest. D100 is full dense "
            "training, D-B dense training of the same compute."
        )
    draw_grid(plan, told, left, live)
    st.code(plan_to_command(plan), language="shell", wrap_lines=True)
    offer_study(
        f"study-{stored.study_id}",
        lambda: study_report(stored.study_id, plan, found, plan_to_command(plan)),
        lambda: study_table(told),
        told,
    )


def _differences(told: dict[str, Any], metric: Metric) -> None:
    """List every difference: what decides, and what is shown beside it."""
    write, unit = difference_formatter(metric)
    with st.expander("All differences, bootstrap and sign-flip test beside them"):
        rows = [difference_table_row(row, write) for row in told["diffs"]]
        table = pd.DataFrame(rows).rename(columns=lambda name: name[0].upper() + name[1:])
        st.dataframe(table, hide_index=True)
        sideways_note("differences")
        st.caption(
            f"Differences are in {unit or 'the metric'}. Against D100 the one-sided bound decides, "
            "against D-B the t interval; bootstrap and sign-flip test decide nothing."
        )


def _progress_of(study_id: str, plan: StudyPlan, left: list[StudyRun]) -> bool:
    """Show how far a study is, or offer the rest of it; returns whether it is under way."""
    study = _under_way(study_id)
    if study is not None and study.problem:
        st.error(f"The study ended early. {plain(study.problem)}", icon=":material/error:")
    if study is not None and not study.ended.is_set():
        _progress(study, left)
        return True
    if left and under_way_elsewhere(study_id):
        _elsewhere(study_id, left, len(plan.seeds) * len(variants_of(plan)))
        return True
    if left:
        _offer_to_go_on(study_id, plan, len(left))
    return False


def _offer_to_go_on(study_id: str, plan: StudyPlan, left: int) -> None:
    """Say what a study that was cancelled or cut short lacks, and offer the rest of it."""
    st.info(lacking_words(study_id, plan, left))
    if st.button("Go on", icon=":material/play_arrow:", key="go-on", disabled=under_way):
        _start(plan, jobs)
        st.rerun()


@st.fragment(run_every=LOOK_S)
def _watch(study: StudyJob) -> None:
    """Say that another study is under way than the one on the page, until it is over."""
    if study.ended.is_set():
        st.rerun()
    told = study.progress
    st.caption(f"Another study or sweep is under way: {told.done} of {told.total} runs.")


def _verdicts(told: dict[str, Any]) -> None:
    """Say each verdict in a sentence; or what is missing for one."""
    for arm, words in told["sentences"].items():
        st.markdown(f"### {headline(arm, told)}")
        st.write(plain(words))
        st.caption(plain(savings_sentence(told["saved"][arm])))
    if not told["sentences"]:
        st.info("A verdict needs at least two seeds that every arm has ended.")
    if told["exploratory"]:
        st.warning("Exploratory. " + plain(" ".join(told["exploratory"])))


def _how_judged(told: dict[str, Any], metric: Metric) -> str:
    several, (write, unit) = len(told["verdict"]) > 1, difference_formatter(metric)
    margin = f"{write(-told['margin'])} {unit}".rstrip()
    words = (
        "95% t intervals of paired differences, the better to the right. As good as full training: "
        f"the lower one-sided 95% bound lies above the margin ({margin}). Better than the same "
        "compute spent densely: the interval lies above zero."
    )
    return words + (" Several policies: p-values by Holm's method." if several else "")


def _choose_study(studies: list[StoredStudy]) -> StoredStudy | None:
    """Return the study in the address, the newest without one; the picker leads to others."""
    by_id = {study.study_id: study for study in studies}
    wanted = st.query_params.get("study")
    if wanted is not None and wanted not in by_id:
        st.warning(f"There is no study {shown(wanted)} in this store.", icon=":material/link_off:")
    if not by_id:
        return None
    names = {study.study_id: study_name(study, labels.get(study.study_id)) for study in studies}
    ids = list(by_id)
    picked = st.selectbox(
        "Study", ids, index=ids.index(wanted) if wanted in by_id else 0,
        format_func=names.__getitem__, key=f"study-picker-{wanted}",
    )  # fmt: skip
    if picked != wanted:
        st.query_params["study"] = picked
    return by_id[picked]


_PROMISES = (
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


def _empty() -> None:
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
        _start(plan, jobs)
        st.rerun()
    for column, (title, text) in zip(st.columns(3), _PROMISES, strict=True):
        with column.container(border=True, height="stretch"):
            st.markdown(f"**{title}**")
            st.caption(text)


st.title("Is it really better?")
with st.sidebar:
    top = st.container(key="study-bar")  # above the choices it starts
    keep_in_sight("study-bar")
    plan, jobs, unusable = choose_plan()
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
        _start(plan, jobs)
        st.rerun()
    if unusable:
        st.error(plain(unusable), icon=":material/error:")
if problem := st.session_state.pop("study_problem", None):
    st.error(f"The study could not start. {plain(problem)}", icon=":material/error:")
try:
    known = Studies(shared_runs().store).all()
    labels = LabelBook(shared_runs().store).all()
except StoreError as error:
    st.error(f"The studies could not be listed. {plain(error)}", icon=":material/error:")
    st.stop()
stored = _choose_study(known)
if stored is None:
    _empty()
else:
    _show(stored)
    if under_way and study is not None and stored.study_id != study.study_id:
        _watch(study)
if under_way and study is not None and study.ended.is_set():
    st.rerun()  # it ended while this was drawn, and what is above does not know yet
