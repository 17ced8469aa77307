"""Live page: choose and start a run, move its thresholds, and watch it respond."""

from __future__ import annotations

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from effcore.records import RunConfig, RunStatus
from effcore.runs.manager import DeviceBusyError, DeviceReservedError, shared_run_manager
from effcore.runs.run import Run
from effcore.store import StoreError
from pages.ui.common import (
    draw_cards,
    escape_markdown,
    find_run_or_warn,
    find_run_summary,
    link_to_run,
    pin_sidebar_bar,
    show_error,
)
from pages.ui.display_names import run_title
from pages.ui.live.panel import draw_live_panel, preload_charts
from pages.ui.live.run_settings import choose_run_settings, current_config
from pages.ui.presenting import (
    FILL_KEY_PREFIX,
    draw_leave_bar,
    hide_page_frame,
    is_presenting,
    link_to_present,
    show_address,
    show_nothing_to_present,
)

_REFRESH_S = 1.0
#: Recent runs that are listed when no run is shown.
_RECENT_RUNS = 4


def _start_chosen_run() -> None:
    """Start a run with the current values of the widgets, even if the page is not redrawn yet."""
    if (config := current_config()) is not None:
        _start_run(config, "refuse")


def _start_run(config: RunConfig, when_busy: str) -> None:
    """Start the run, with its reference if wanted, and open the one that trains first."""
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


@st.dialog("Another run is active")
def _busy_dialog(config: RunConfig, active_id: str) -> None:
    st.write("One run trains at a time, so that each run is timed and metered alone.")
    columns = st.columns(3)
    if columns[0].button("Open it", width="stretch", key="busy-open"):
        _open_run(active_id)
        st.rerun()
    if columns[1].button("Queue mine", width="stretch", key="busy-queue"):
        _start_run(config, "queue")
        st.rerun()
    if columns[2].button("Replace it", width="stretch", key="busy-replace"):
        _start_run(config, "replace")
        st.rerun()
    st.caption("Replacing stops the active run after its current step and keeps its results.")


@st.fragment(run_every=_REFRESH_S)
def _follow_waiting_run(waiting: Run) -> None:
    """Open the queued run when it starts."""
    if waiting.started:
        _open_run(waiting.run_id)
        st.rerun()
    if waiting.done.is_set():
        st.caption("Your run was removed from the queue.")
    else:
        st.caption("1 of 2: this is the reference. Your run starts when it has ended.")


def _draw_start_controls(
    config: RunConfig | None, unusable_reason: str, place: DeltaGenerator
) -> None:
    """Draw the start button, and why it is disabled."""
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
            "Full training first, as reference",
            key="reference",
            help="Runs full training with the same seed first, unless the store already has it, "
            "and draws it as a dashed curve.",
        )
    if problem := st.session_state.pop("start_problem", None):
        show_error(problem, "The run could not start.")
    if (active := st.session_state.pop("busy", None)) and config is not None:
        _busy_dialog(config, active)


def _show_unusable_reason(reason: str) -> None:
    if reason:
        show_error(reason)


def _show_introduction() -> DeltaGenerator:
    """Introduce the page; return the place of a second start button.

    A phone hides the sidebar, and with it the first start button.
    """
    st.title("Watch training skip what it no longer needs")
    st.write(
        "Pick a task and a policy in the sidebar, or start with the defaults. While the model "
        "trains, move the thresholds: they act on the next batch."
    )
    place = st.container()
    st.page_link("tour.py", label="New to this? Take the three-minute tour", icon=":material/flag:")
    draw_cards(_INTRODUCTION_CARDS)
    _link_recent_runs()
    preload_charts()
    return place


def _link_recent_runs() -> None:
    try:
        newest = shared_run_manager().store.runs(_RECENT_RUNS)
    except StoreError:  # the page works without these links
        return
    if newest:
        st.header("Recent runs")
    for run in newest:
        named = f"{escape_markdown(run.labels.name)} · " if run.labels.name else ""
        label = f"{named}{run.config.task} · {run.config.selection} · {run.status}"
        link_to_run(run.run_id, label, ":material/history:")


_INTRODUCTION_CARDS = (
    ("See which losses are skipped", "A histogram of all losses shows where your slider cuts."),
    (
        "Count every cost",
        "The cost of selection is counted, too. Every energy figure names its source.",
    ),
    ("Compare fairly", "Switch on the reference to see full training with the same seed."),
)


def _shown_run_id() -> str | None:
    """Return the run in the address, otherwise the active run."""
    wanted = st.query_params.get("run")
    if wanted is not None:
        if find_run_or_warn(wanted) is not None:
            return wanted
        del st.query_params["run"]
    active = shared_run_manager().active_run()
    return None if active is None else active.run_id


def _warn_about_ignored_settings(problems: list[str]) -> None:
    """List the settings in the address that could not be used."""
    if problems:
        listed = "\n".join(f"- {escape_markdown(problem)}" for problem in problems)
        st.warning(
            f"These parts of the address are invalid and were ignored:\n{listed}",
            icon=":material/link_off:",
        )


def _show_queue(run_id: str) -> None:
    """Show how many runs wait for this one, and open the run that was started with it."""
    shown, waiting = shared_run_manager().find_run(run_id), shared_run_manager().queued_runs()
    if not isinstance(shown, Run) or shown.done.is_set():
        return
    _warn_about_other_processes(shown.config.device)
    following = next((run for run in waiting if run.reference_id == run_id), None)
    queued = [run for run in waiting if run.config.device == shown.config.device]
    if following is not None:
        _follow_waiting_run(following)
    elif shown.started and queued:
        noun = "run waits" if len(queued) == 1 else "runs wait"
        st.caption(f"{len(queued)} {noun} in the queue.")


def _warn_about_other_processes(device: str) -> None:
    try:
        others = shared_run_manager().runs_in_other_processes(device)
    except StoreError:  # the run itself reports a failing store
        return
    if others:
        known = find_run_summary(others[0])
        title = run_title(known) if known else f"run {others[0]}"
        st.caption(
            f"Another process trains {escape_markdown(title)} on {device}. Both runs are slower, "
            "and their power cannot be separated."
        )


def _offer_to_resume(run_id: str) -> None:
    """Offer to resume an interrupted run; draw nothing for others."""
    runs = shared_run_manager()
    run = runs.find_run(run_id)
    if run is None or run.snapshot().status is not RunStatus.INTERRUPTED:
        return
    if problem := st.session_state.pop("resume_problem", None):
        show_error(problem, "The run could not be resumed.")
    if not runs.store.has_checkpoint(run_id):
        st.caption("This run was interrupted before its first checkpoint, so it cannot be resumed.")
        return
    row = st.container(horizontal=True, vertical_alignment="center")
    row.markdown("This run was interrupted. It can continue from its last checkpoint.")
    row.button(
        "Resume this run",
        icon=":material/resume:",
        key="resume",
        on_click=_resume_run,
        args=(run_id,),
        help="Steps after the last checkpoint are trained again. On a CPU the result is identical, "
        "to the bit, to that of an uninterrupted run.",
    )


def _resume_run(run_id: str) -> None:
    try:
        shared_run_manager().resume(run_id)
    except (StoreError, DeviceBusyError, DeviceReservedError) as error:
        st.session_state["resume_problem"] = str(error)


def _present_run() -> None:
    """Draw the run in presenter mode."""
    hide_page_frame()
    run_id = _shown_run_id()
    if run_id is None:
        show_nothing_to_present()
        draw_leave_bar("live.py", "Live")
    else:
        _show_run(run_id, key=f"{FILL_KEY_PREFIX}-run")
        draw_leave_bar("live.py", "Live", run=run_id)


def _show_run(run_id: str, key: str = "live") -> None:
    known = find_run_summary(run_id)
    draw_live_panel(run_id, known.labels.name if known else "", present=is_presenting(), key=key)
    if known and known.imported:
        st.caption("Imported: this run was trained, and its energy measured, on another machine.")


def _show_page() -> None:
    """Draw the run and its settings, or the introduction."""
    # The run is drawn before the sidebar, so that it appears as soon as possible after a start.
    notes = st.container()
    run_id = _shown_run_id()
    start_button_place = None
    if run_id is None:
        start_button_place = _show_introduction()
    else:
        _show_run(run_id)
        _show_queue(run_id)
        link_to_present("live.py", run=run_id)
    with st.sidebar:
        top = st.container(key="start-bar")  # holds the start button, above the settings
        pin_sidebar_bar("start-bar")
        chosen, unusable = choose_run_settings(run_id)
    with notes:
        _warn_about_ignored_settings(st.session_state.pop("problems", []))
        _draw_start_controls(chosen, unusable, top)
        if run_id is not None:
            _offer_to_resume(run_id)
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
    if run_id is not None:  # last, since an address with only a run loads that run's settings
        _open_run(run_id)


show_address()
if is_presenting():
    _present_run()
else:
    _show_page()
