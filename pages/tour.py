"""Tour: one press, and a real race of efficient against dense training tells itself."""

from __future__ import annotations

import contextlib
from dataclasses import fields
from pathlib import Path

import streamlit as st

from effcore.config import ConfigError
from effcore.insight.race_plan import RacePlan, is_race_pair, plan_race
from effcore.insight.race_recording import RaceRecording, RaceRecordingError, read_race_recording
from effcore.knobs import knobs_of
from effcore.policies.combination import registered_policies
from effcore.records import RunConfig, RunStatus
from effcore.runs.manager import DeviceBusyError, DeviceReservedError, shared_run_manager
from effcore.runs.run import Run
from effcore.runs.stored_run import StoredRun
from effcore.store import StoreError
from pages.ui.assets import RACE_RECORDING
from pages.ui.common import escape_markdown, find_run_or_warn
from pages.ui.present.screen import LEAVE_KEY, draw_fullscreen_bar, hide_page_frame
from pages.ui.tour.playback import (
    RaceRuns,
    play_recording,
    show_live_race,
    show_recording_machine,
    stop_race,
)

_RUN_PARAMETERS = ("dense", "efficient")


@st.cache_resource(show_spinner=False)
def _load_recording(path: str) -> RaceRecording | RaceRecordingError:
    """Return the recorded race, read once, or why it cannot be played."""
    try:
        return read_race_recording(Path(path))
    except RaceRecordingError as error:
        return error


def _settings_from_address() -> dict[str, str]:
    """Return the settings in the address."""
    names = {field.name for field in fields(RunConfig)} - {"knobs", "changes", "data"}
    names |= {spec.name for policy in registered_policies() for spec in knobs_of(policy)}
    return {name: value for name, value in st.query_params.items() if name in names}


def _start_race(race: RacePlan) -> None:
    """Start both runs, the efficient one in the queue behind the dense one."""
    runs = shared_run_manager()
    try:
        dense = runs.start(race.dense)[-1]
        try:
            efficient = runs.start(race.efficient, when_busy="queue")[-1]
        except (StoreError, DeviceReservedError):
            dense.stop()  # alone it is no race
            raise
    except DeviceBusyError as error:
        st.session_state["tour-busy"] = error.active.run_id
    except (StoreError, DeviceReservedError) as error:
        st.session_state["tour-problem"] = str(error)
    else:
        _put_runs_in_address(dense.run_id, efficient.run_id)


def _put_runs_in_address(dense: str, efficient: str) -> None:
    st.session_state["tour-runs"] = (dense, efficient)
    for name, run_id in zip(_RUN_PARAMETERS, (dense, efficient), strict=True):
        if st.query_params.get(name) != run_id:
            st.query_params[name] = run_id


def _play_recording() -> None:
    st.session_state.pop("tour-began", None)
    st.query_params["recorded"] = "1"


def _leave_race() -> None:
    """Go back to the beginning; what trains goes on."""
    st.session_state.pop("tour-runs", None)
    for name in (*_RUN_PARAMETERS, "recorded"):
        with contextlib.suppress(KeyError):
            del st.query_params[name]


def _find_race() -> RaceRuns | None:
    """Return the race in the address, or the one that this tab has started."""
    ids = [st.query_params.get(name) for name in _RUN_PARAMETERS]
    if not all(ids) and "recorded" not in st.query_params:
        ids = list(st.session_state.get("tour-runs", ids))
    if not all(ids):
        return None
    dense = find_run_or_warn(str(ids[0]))
    if dense is not None and _never_started(str(ids[1])):
        _warn_race_never_started(dense)
        _leave_race()
        return None
    efficient = find_run_or_warn(str(ids[1]))
    if dense is None or efficient is None:
        _leave_race()
        return None
    if not is_race_pair(dense.snapshot().config, efficient.snapshot().config):
        st.warning(
            "The two runs in the address are no race: they must be alike in all but their policy.",
            icon=":material/link_off:",
        )
        _leave_race()
        return None
    _put_runs_in_address(dense.run_id, efficient.run_id)
    return RaceRuns(dense, efficient)


def _never_started(run_id: str) -> bool:
    """Return whether a run left nothing: one that waited is gone with the app's process."""
    try:
        return shared_run_manager().find_run(run_id) is None
    except StoreError:  # it cannot be read; that is said where it is asked for
        return False


def _warn_race_never_started(dense: Run | StoredRun) -> None:
    """Say what became of a race of which only the dense run is there."""
    status = dense.snapshot().status
    if status.is_final and status is not RunStatus.FINISHED:
        st.warning(
            f"The race in the address ended before its second run began: the usual run was "
            f"{status.value}, so there was nothing left to race against. Start it again below.",
            icon=":material/flag:",
        )
    else:
        st.warning(
            "Of the race in the address only the usual run is there: the efficient one never "
            "began, because the app was closed before its turn, or it was deleted. Start the "
            "race again below.",
            icon=":material/flag:",
        )
    st.page_link(
        "live.py", label="The usual run", icon=":material/monitoring:",
        query_params={"run": dense.run_id},
    )  # fmt: skip


# What is on the page ----------------------------------------------------------------------


def _show_invitation() -> None:
    """Say what is to come, and offer to start it."""
    st.markdown(
        "Computers learn by going over the same examples again and again, and spend as much on "
        "what they know as on what they do not. **This tour runs a real race on this machine:** "
        "the usual way, and one that leaves out what it has already learned. It says in words "
        "what was saved, and what that cost. It goes by itself, in about three minutes; more "
        "where the machine is slow or busy."
    )
    try:
        race = plan_race(_settings_from_address())
    except ConfigError as error:
        race = None
        st.error(escape_markdown(error), icon=":material/error:")
    _show_start_problem()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Start the tour", type="primary", icon=":material/play_arrow:", key="start-tour",
            disabled=race is None, on_click=_start_race, args=(race,),
        )  # fmt: skip
        st.button(
            "Watch the recorded race",
            icon=":material/replay:",
            key="play-recorded",
            on_click=_play_recording,
        )
        _offer_present_mode()
    st.caption("The recorded race ran on another day and says so; playing it takes a minute.")
    for column, (title, text) in zip(st.columns(3), _CHAPTER_CARDS, strict=True):
        with column.container(border=True, height="stretch"):
            st.markdown(f"**{title}**")
            st.caption(text)


_CHAPTER_CARDS = (
    ("1. The usual way", "All of it, every time. Bars fill with what that takes."),
    (
        "2. The efficient way",
        "From the same start, but what it gets right is left out, and looked at again at times.",
    ),
    (
        "3. What came of it",
        "In words: what was saved of computation, time and, where it is measured, energy; what it "
        "cost; and how sure that is.",
    ),
)


def _show_start_problem() -> None:
    if (active := st.session_state.pop("tour-busy", None)) is not None:
        st.warning(
            "A run is training already, and a race has the device to itself. Wait for its end, "
            "stop it, or watch the recorded race meanwhile.",
            icon=":material/hourglass_top:",
        )
        st.page_link(
            "live.py", label="Open the run that trains", icon=":material/play_circle:",
            query_params={"run": active},
        )  # fmt: skip
    if problem := st.session_state.pop("tour-problem", None):
        st.error(f"The race could not start. {escape_markdown(problem)}", icon=":material/error:")


def _show_race_page(race_runs: RaceRuns) -> None:
    show_live_race(race_runs)
    with st.container(horizontal=True, vertical_alignment="center"):
        if not race_runs.is_over:
            st.button("Stop the race", icon=":material/stop:", key="stop-tour", on_click=stop_race,
                      args=(race_runs,))  # fmt: skip
        else:
            st.button("Back to the start", icon=":material/first_page:", key="leave-tour",
                      on_click=_leave_race)  # fmt: skip
        _offer_present_mode()
        _draw_links(race_runs)
    if not race_runs.is_over:
        st.caption(
            "It goes on if you leave this page or reload it, and is shown again when you come back."
        )


def _draw_links(race_runs: RaceRuns) -> None:
    st.page_link("compare.py", label="Compare over several seeds", icon=":material/balance:")
    for name, run in zip(("usual", "efficient"), race_runs, strict=True):
        st.page_link(
            "live.py", label=f"The {name} run", icon=":material/monitoring:",
            query_params={"run": run.run_id},
        )  # fmt: skip


def _show_recording_page() -> None:
    recording = _load_recording(str(RACE_RECORDING))
    if isinstance(recording, RaceRecordingError):
        st.error(
            f"The recorded race cannot be played: {escape_markdown(recording)}.",
            icon=":material/error:",
        )
    else:
        play_recording(recording)
        show_recording_machine(recording)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Play again", icon=":material/replay:", key="play-again", on_click=_play_recording
        )
        st.button("Back to the start", icon=":material/first_page:", key="leave-tour",
                  on_click=_leave_race)  # fmt: skip
        _offer_present_mode()
        st.page_link("compare.py", label="Compare over several seeds", icon=":material/balance:")


def _offer_present_mode() -> None:
    """Offer presenter mode where it is not on."""
    if "present" not in st.query_params:
        st.button(
            "Present",
            icon=":material/cast:",
            key="present-tour",
            on_click=_enter_present_mode,
            help="The tour on the whole screen, for a projector.",
        )


def _enter_present_mode() -> None:
    st.query_params["present"] = "1"


def _leave_present_mode() -> None:
    del st.query_params["present"]


is_presenting = "present" in st.query_params
if is_presenting:
    hide_page_frame()
st.title("Is all of that work needed?")
shown_race = _find_race()
if shown_race is not None:
    _show_race_page(shown_race)
elif "recorded" in st.query_params:
    _show_recording_page()
else:
    _show_invitation()
if is_presenting:
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.container(key=LEAVE_KEY, width="content"):
            st.button(
                "Leave", icon=":material/arrow_back:", key="unpresent", on_click=_leave_present_mode
            )
        draw_fullscreen_bar()
