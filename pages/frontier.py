"""Frontier: which thresholds should I use? A sweep, its front, and the point to recommend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from effcore.figures.frontier import frontier_figure, hypervolume_figure, importance_figure
from effcore.repeat import loop_of, to_settings
from effcore.report import sweep_report, sweep_table
from effcore.runs.manager import shared_runs
from effcore.store import StoreError
from effcore.store.labels import LabelBook
from effcore.store.studies import StoredStudy, Studies
from effcore.studies.active_runs import active_steps
from effcore.studies.comparison import difference_formatter
from effcore.studies.frontier import (
    CONFIRMATION_SEEDS,
    confirmation_plan,
    replication_text,
)
from effcore.studies.study_job import StudyJob, current_study_job
from effcore.studies.sweep import SweepPlan, sweep_to_command
from effcore.studies.trials import SweepPoint
from effcore.summary import metric_text
from effcore.tasks.base import TASKS
from effcore.words import time_left
from pages.ui.amounts import percent, percents
from pages.ui.frame import keep_in_sight, plain, shown
from pages.ui.naming import study_name
from pages.ui.present.screen import offer_to_present
from pages.ui.studies.progress import (
    LOOK_S,
    bar,
    draw_anew,
    elsewhere,
    now_words,
    offer_to_cancel,
    training,
    under_way_elsewhere,
)
from pages.ui.studies.starting import begin
from pages.ui.studies.sweeping import choose_sweep
from pages.ui.studies.sweeps import Sweep, lacking_words, read_sweep
from pages.ui.taking import offer_study

_COMPARING = 6
#: Where it is told why something could not begin.
_TOLD = "sweep_problem"


def _begin(plan: SweepPlan | None, jobs: int) -> None:
    if (sweep_id := begin(plan, jobs, _TOLD)) is not None:
        st.query_params["sweep"] = sweep_id
    st.rerun()


def _compare(plan: SweepPlan, point: SweepPoint, seeds: int) -> None:
    """Start the study of a point on fresh seeds and open it."""
    try:
        study_id = begin(confirmation_plan(plan, point, seeds), jobs, _TOLD)
    except ValueError as error:
        st.session_state[_TOLD], study_id = str(error), None
    if study_id is None:
        st.rerun()
    st.switch_page("compare.py", query_params={"study": study_id or ""})


@st.fragment(run_every=LOOK_S)
def _progress(study: StudyJob, plan: SweepPlan) -> None:
    """Show how far the sweep has got; the page is drawn anew with each trial that ends."""
    told, now = study.progress, training(plan)
    running = active_steps(plan, now)
    left = time_left(study.seconds_left(running))
    words = f"{told.done} of at most {told.total} runs and trials{left}"
    bar(told.done + running, told.total, words, now)
    offer_to_cancel(study.study_id, "cancel-sweep")
    draw_anew("sweep_seen", (study.study_id, told.done, study.ended.is_set()))


@st.fragment(run_every=LOOK_S)
def _elsewhere(sweep_id: str, plan: SweepPlan) -> None:
    """Show what a sweep trains that another process carries out."""
    now = elsewhere(sweep_id)
    st.info("Another process carries this sweep out.", icon=":material/sync:")
    st.caption(now_words(training(plan)))
    offer_to_cancel(sweep_id, "cancel-sweep")
    draw_anew("sweep_seen", now)


def _show(stored: StoredStudy) -> None:
    if (sweep := read_sweep(stored)) is None:
        return
    plan, points, _, told = sweep
    task = TASKS.get(told["task"])
    st.header(f"{task.title}: {plan.policy}")
    _conclude(plan, points, told)
    offer_to_present(sweep=stored.study_id)
    _follow(stored.study_id, sweep)
    picked = _draw(told, task)
    _second_look(told, task)
    shown = next((p for p in points if p.name == (picked or told["candidate"])), None)
    if shown is not None:
        _point(plan, shown, told)
    _more(told)
    _table(told, task)
    command = sweep_to_command(plan)
    st.code(command, language="shell", wrap_lines=True)
    offer_study(
        f"sweep-{told['sweep_id']}", lambda: sweep_report(told, command),
        lambda: sweep_table(told), told, key="download-sweep",
    )  # fmt: skip


def _conclude(plan: SweepPlan, points: Sequence[SweepPoint], told: Mapping[str, Any]) -> None:
    """Say what the sweep shows, and offer to confirm a candidate that is not."""
    words = plain(told["conclusion"])
    best = next((point for point in points if point.name == told["candidate"]), None)
    if told["recommended"]:
        st.success(words, icon=":material/check_circle:")
    elif words.startswith("Nothing wins"):
        st.warning(words, icon=":material/block:")
    else:
        st.info(words, icon=":material/hourglass_empty:")
    if best is not None and not under_way and told["confirmed"] is None and st.button(
        f"Confirm {best.name} on {CONFIRMATION_SEEDS} fresh seeds", icon=":material/verified:",
        key="confirm", type="primary",
    ):  # fmt: skip
        _compare(plan, best, CONFIRMATION_SEEDS)
    for name, tried in told["tried"].items():
        st.page_link(
            "compare.py", label=f"The study of {name}", icon=":material/balance:",
            query_params={"study": tried["study_id"]},
        )  # fmt: skip


def _follow(sweep_id: str, sweep: Sweep) -> None:
    """Show progress while it goes on; offer to go on where it was cut short."""
    if under_way and study is not None and study.study_id == sweep_id:
        _progress(study, sweep.plan)
        return
    if study is not None and study.study_id == sweep_id and study.problem:
        st.error(f"The sweep ended early. {plain(study.problem)}", icon=":material/error:")
    words = lacking_words(sweep_id, sweep)
    if words and under_way_elsewhere(sweep_id):
        _elsewhere(sweep_id, sweep.plan)
    elif words:
        st.info(words)
        if st.button("Go on", icon=":material/play_arrow:", key="go-on", disabled=under_way):
            _begin(sweep.plan, jobs)


def _draw(told: Mapping[str, Any], task: Any) -> str | None:
    """Draw metric against cost; returns the name of the point that is clicked."""
    if not any(point["metric"] is not None for point in told["points"]):
        st.caption("The first point appears once full dense training has ended.")
        return None
    metric = task.metric
    figure = frontier_figure(told, metric.label, metric.factor, metric.unit)
    event = st.plotly_chart(figure, key="frontier", on_select="rerun", selection_mode="points")
    st.caption(
        "Click a point for its thresholds. What must be beaten is the dotted line: dense training "
        "that is simply given less. Stopped as hopeless are trials that, in the second half of "
        "their way, are worse by ten margins than the dense run of the next smaller budget was."
    )
    chosen = event["selection"]["points"]
    name = chosen[0].get("customdata") if chosen else None
    return str(name[0] if isinstance(name, list) else name) if name else None


def _second_look(told: Mapping[str, Any], task: Any) -> None:
    """Say by what rule a point becomes the candidate, and what became of those tried."""
    write, unit = difference_formatter(task.metric)
    looks = [
        f"- {plain(replication_text(each, write, unit))}" for each in told["second_look"]["trials"]
    ]
    margin = plain(f"{write(told['margin'])[1:]} {unit}".rstrip())
    words = f"**Second look**, the margin being {margin}: {plain(told['rule'])}."
    st.markdown("\n".join([words, "", *looks]))


def _point(plan: SweepPlan, point: SweepPoint, told: Mapping[str, Any]) -> None:
    """Show a point's thresholds and runs, and what can be done with it."""
    row = next(each for each in told["points"] if each["name"] == point.name)
    metric = TASKS.get(told["task"]).metric
    with st.container(border=True):
        role = " · candidate" if point.name == told["candidate"] else ""
        st.subheader(f"{point.name.capitalize()}{role}")
        known = {"Share of the dense compute": f"{point.budget:.4g}"}
        known |= {name: f"{value:.4g}" for name, value in point.knobs.items()}
        known["Skipped"] = "–" if row["cost"] is None else f"{1 - row['cost']:.1%}"
        if row["metric"] is not None:
            known[metric.label] = metric_text(metric, row["metric"])
        for column, (name, value) in zip(st.columns(len(known)), known.items(), strict=True):
            column.metric(name, value)
        _actions(plan, point)


def _actions(plan: SweepPlan, point: SweepPoint) -> None:
    looks = list(point.snapshots.values())
    with st.container(horizontal=True):
        if looks:
            st.page_link(
                "live.py", label="Open in Live", icon=":material/monitoring:",
                query_params=to_settings(looks[0].config),
            )  # fmt: skip
        for look in looks:
            st.page_link(
                "live.py", label=f"Run of seed {look.config.seed}", icon=":material/history:",
                query_params={"run": look.run_id},
            )  # fmt: skip
    if not point.is_dense and st.button(
        f"Compare with {_COMPARING} seeds", icon=":material/balance:", key="compare-point",
        disabled=under_way,
    ):  # fmt: skip
        _compare(plan, point, _COMPARING)
    if looks and (code := loop_of(looks[0])):
        with st.expander("Use these thresholds in your own training"):
            st.code(code, language="python")


def _more(told: Mapping[str, Any]) -> None:
    """Draw how the front grew, and which knob matters."""
    left, right = st.columns(2)
    if told["hypervolume"]:
        left.markdown("**How the front grew**")
        left.plotly_chart(hypervolume_figure(told["hypervolume"]), key="hypervolume")
        left.caption("The area behind the front, up to full cost and the least dense metric.")
    if told["importance"]:
        right.markdown("**Which knob matters**")
        right.plotly_chart(importance_figure(told["importance"]), key="importance")
        right.caption("By a functional analysis of variance over the trials that ended.")


def _table(told: Mapping[str, Any], task: Any) -> None:
    if not told["points"]:
        return
    rows = [
        {
            "Point": point["name"],
            "State": point["state"],
            **point["knobs"],
            "Budget": percent(point["budget"]),
            "Cost": percent(point["cost"]),
            task.metric.label: metric_text(task.metric, point["metric"])
            if point["metric"] is not None
            else None,
            "Front": point["front"],
            "Why": point["why"] or None,
        }
        for point in told["points"]
    ]
    st.dataframe(
        pd.DataFrame(rows).dropna(axis="columns", how="all"),
        hide_index=True,
        placeholder="–",
        column_config={"Budget": percents(), "Cost": percents()},
    )


def _choose(sweeps: list[StoredStudy]) -> StoredStudy | None:
    """Return the sweep in the address, the newest without one; the picker leads to others."""
    by_id = {sweep.study_id: sweep for sweep in sweeps}
    wanted = st.query_params.get("sweep")
    if wanted is not None and wanted not in by_id:
        st.warning(f"There is no sweep {shown(wanted)} in this store.", icon=":material/link_off:")
    if not by_id:
        return None
    names, ids = {s.study_id: study_name(s, labels.get(s.study_id)) for s in sweeps}, list(by_id)
    picked = st.selectbox(
        "Sweep", ids, index=ids.index(wanted) if wanted in by_id else 0,
        format_func=names.__getitem__, key=f"sweep-picker-{wanted}",
    )  # fmt: skip
    if picked != wanted:
        st.query_params["sweep"] = picked
    return by_id[picked]


def _empty() -> None:
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
        _begin(plan, jobs)


st.title("Which thresholds should I use?")
with st.sidebar:
    top = st.container(key="sweep-bar")  # above the choices it starts
    keep_in_sight("sweep-bar")
    plan, jobs, unusable = choose_sweep()
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
        _begin(plan, jobs)
    if unusable:
        st.error(plain(unusable), icon=":material/error:")
if problem := st.session_state.pop(_TOLD, None):
    st.error(f"It could not start. {plain(problem)}", icon=":material/error:")
try:
    known = Studies(shared_runs().store).all(sweeps=True)
    labels = LabelBook(shared_runs().store).all()
except StoreError as error:
    st.error(f"The sweeps could not be listed. {plain(error)}", icon=":material/error:")
    st.stop()
stored = _choose(known)
if stored is None:
    _empty()
else:
    _show(stored)
if under_way and study is not None and study.ended.is_set():
    st.rerun()  # it ended while this was drawn, and what is above does not know yet
