"""Live: choose a run, start it, move its thresholds, watch it respond."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from effcore.records import RunConfig
from effcore.runs.manager import DeviceBusyError, DeviceReservedError, shared_run_manager
from effcore.runs.run import Run
from effcore.store import StoreError
from pages.ui.common import escape_markdown, find_run_or_warn, find_run_summary, pin_sidebar_bar
from pages.ui.display_names import run_title
from pages.ui.live.panel import draw_live_panel, preload_charts
from pages.ui.live.resume_offer import offer_to_resume
from pages.ui.live.run_settings import choose_run_settings, current_config
from pages.ui.present.screen import link_to_present

_REFRESH_S = 1.0
#: Runs listed where none is shown.
_RECENT_RUNS = 4


def _start_chosen_run() -> None:
    """Start what the widgets say now, which the page may not have been drawn with yet."""
    if (config := current_config()) is not None:
        _start_run(config, "refuse")


def _start_run(config: RunConfig, when_busy: str) -> None:
    """Start the run and open whichever of it trains first."""
    try:
        runs = shared_run_manager().start(
            config, with_reference=bool(st.session_state.get("reference")), when_busy=when_busy
        )
    except DeviceBusyError as error:
        st.session_state["busy"] = error.active.run_id
        return
    except (StoreError, DeviceReservedError) as error:
        st.session_state["start_problem"] = str(error)
        return
    _open_run(runs[0].run_id)


def _open_run(run_id: str) -> None:
    if st.query_params.get("run") != run_id:
        st.query_params["run"] = run_id


@st.dialog("A run is training already")
def _busy_dialog(config: RunConfig, active_id: str) -> None:
    st.write("One run trains at a time, so that its power and speed are its own.")
    choices = st.columns(3)
    if choices[0].button("Open it", width="stretch", key="busy-open"):
        _open_run(active_id)
        st.rerun()
    if choices[1].button("Queue mine", width="stretch", key="busy-queue"):
        _start_run(config, "queue")
        st.rerun()
    if choices[2].button("Replace it", width="stretch", key="busy-replace"):
        _start_run(config, "replace")
        st.rerun()
    st.caption("Replacing stops the active run after its current step; what it has is kept.")


@st.fragment(run_every=_REFRESH_S)
def _follow_waiting_run(waiting: Run) -> None:
    """Move on to the run that waits for the one on screen, once it trains."""
    if waiting.started:
        _open_run(waiting.run_id)
        st.rerun()
    if waiting.done.is_set():
        st.caption("The run you chose was taken out of the queue.")
    else:
        st.caption("The run you chose follows by itself when this one is over.")


def _draw_start_controls(
    config: RunConfig | None, unusable_reason: str, place: DeltaGenerator
) -> None:
    """Draw the button to start with, and why it is greyed out, wherever the choices end."""
    with place:
        st.button(
            "Start run",
            type="primary",
            width="stretch",
            icon=":material/play_arrow:",
            disabled=config is None,
            key="start",
            on_click=_start_chosen_run,
        )
        _show_unusable_reason(unusable_reason)
        st.toggle(
            "Dense reference first",
            key="reference",
            help="Trains densely with the same seed before, unless that was done already, "
            "and draws it as a dashed curve.",
        )
    if problem := st.session_state.pop("start_problem", None):
        st.error(f"The run could not start. {escape_markdown(problem)}", icon=":material/error:")
    if (active := st.session_state.pop("busy", None)) and config is not None:
        _busy_dialog(config, active)


def _show_unusable_reason(reason: str) -> None:
    if reason:
        st.error(escape_markdown(reason), icon=":material/error:")


def _show_introduction() -> DeltaGenerator:
    """Say what there is to do; returns where another button to start belongs.

    On a phone the choices, and the button above them, are folded away.
    """
    st.title("Watch training skip what it no longer needs")
    st.write(
        "Pick a task and a policy in the sidebar, or start with what is chosen there. "
        "While it trains, move the thresholds: the next batch obeys them."
    )
    place = st.container()
    st.page_link("tour.py", label="New to this? Take the three-minute tour", icon=":material/flag:")
    columns = st.columns(3)
    for column, (title, text) in zip(columns, _INTRODUCTION_CARDS, strict=True):
        with column.container(border=True, height="stretch"):
            st.markdown(f"**{title}**")
            st.caption(text)
    _link_recent_runs()
    preload_charts()
    return place


def _link_recent_runs() -> None:
    """Link to the newest runs, so that nobody has to look for what was just trained."""
    try:
        newest = shared_run_manager().store.runs(_RECENT_RUNS)
    except StoreError:  # the frame says so where it matters
        return
    if newest:
        st.header("Recent runs")
    for run in newest:
        named = f"{escape_markdown(run.labels.name)} · " if run.labels.name else ""
        label = f"{named}{run.config.task} · {run.config.selection} · {run.status}"
        st.page_link(
            "live.py", label=label, icon=":material/history:", query_params={"run": run.run_id}
        )


_INTRODUCTION_CARDS = (
    ("See what is skipped", "Every example's loss, and the cut your slider makes in it."),
    (
        "Count all of it",
        "The cost of selecting is counted too. Every energy figure names its source.",
    ),
    ("Compare fairly", "Turn on the dense reference to see the same seed trained on everything."),
)


def _shown_run_id() -> str | None:
    """Return the run in the address, else the one that trains now."""
    wanted = st.query_params.get("run")
    if wanted is not None:
        if find_run_or_warn(wanted) is not None:
            return wanted
        del st.query_params["run"]
    active = shared_run_manager().active_run()
    return None if active is None else active.run_id


def _warn_about_ignored_settings(problems: list[str]) -> None:
    """Name what of the address could not be used; the rest of it was."""
    if problems:
        listed = "\n".join(f"- {escape_markdown(problem)}" for problem in problems)
        st.warning(
            f"Part of the address was not understood and left out:\n{listed}",
            icon=":material/link_off:",
        )


def _show_queue(run_id: str) -> None:
    """Say what waits for the run on screen, and follow what was started with it."""
    shown, waiting = shared_run_manager().find_run(run_id), shared_run_manager().queued_runs()
    if not isinstance(shown, Run) or shown.done.is_set():
        return
    _warn_about_other_processes(shown.config.device)
    following = next((run for run in waiting if run.reference_id == run_id), None)
    behind = [run for run in waiting if run.config.device == shown.config.device]
    if following is not None:
        _follow_waiting_run(following)
    elif shown.started and behind:
        st.caption(f"Waiting for this run to end: {len(behind)} more.")


def _warn_about_other_processes(device: str) -> None:
    try:
        others = shared_run_manager().runs_in_other_processes(device)
    except StoreError:  # a store that fails now says so with the run
        return
    if others:
        known = find_run_summary(others[0])
        what = run_title(known) if known else f"run {others[0]}"
        st.caption(
            f"In another process {escape_markdown(what)} trains on {device}: both are slower for "
            "it, "
            "and the power of one is not told apart from the other's."
        )


# The run first: it is what somebody who has just pressed Start waits for.
notes = st.container()
run_id = _shown_run_id()
start_button_place = None
if run_id is None:
    start_button_place = _show_introduction()
else:
    known = find_run_summary(run_id)
    draw_live_panel(run_id, known.labels.name if known else "")
    if known and known.imported:
        st.caption("Imported: another machine trained this run, and its joules are that machine's.")
    _show_queue(run_id)
    link_to_present(run=run_id)
with st.sidebar:
    top = st.container(key="start-bar")  # above the choices it starts
    pin_sidebar_bar("start-bar")
    chosen, unusable = choose_run_settings(run_id)
with notes:
    _warn_about_ignored_settings(st.session_state.pop("problems", []))
    _draw_start_controls(chosen, unusable, top)
    if run_id is not None:
        offer_to_resume(run_id)
if start_button_place is not None:
    with start_button_place:
        st.button(
            "Start this run",
            icon=":material/play_arrow:",
            disabled=chosen is None,
            key="start-here",
            on_click=_start_chosen_run,
        )
        _show_unusable_reason(unusable)
if run_id is not None:  # only now: the choices tell a link to a run by its being there alone
    _open_run(run_id)
