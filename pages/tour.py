"""Tour page: a guided race of an efficient run against full training."""

from __future__ import annotations

import contextlib
import time
from dataclasses import fields
from pathlib import Path
from typing import Final, NamedTuple

import streamlit as st

from effcore.config import ConfigError
from effcore.insight.race_recording import (
    RacePlan,
    RaceRecording,
    RaceRecordingError,
    current_scene,
    is_race_pair,
    plan_race,
    read_race_recording,
)
from effcore.knobs import knobs_of
from effcore.policies.combination import registered_policies
from effcore.records import RunConfig, RunStatus
from effcore.runs.manager import DeviceBusyError, DeviceReservedError, shared_run_manager
from effcore.runs.run import Run
from effcore.runs.stored_run import StoredRun
from effcore.store import StoreError
from pages.ui.assets import RACE_RECORDING
from pages.ui.common import draw_cards, escape_markdown, find_run_or_warn, link_to_run, show_error
from pages.ui.presenting import (
    LEAVE_KEY,
    PRESENT_PARAMETER,
    draw_fullscreen_bar,
    hide_page_frame,
    is_presenting,
)
from pages.ui.tour.panel import draw_tour_panel

#: Refresh interval, and longest duration of a playback, seconds.
_REFRESH_S: Final = 0.5
_PLAYBACK_S: Final = 60.0


class RaceRuns(NamedTuple):
    """The two runs of a race, live or stored."""

    dense: Run | StoredRun
    efficient: Run | StoredRun

    @property
    def is_over(self) -> bool:
        """Whether both runs have ended."""
        return all(run.snapshot().status.is_final for run in self)


_RUN_PARAMETERS = ("dense", "efficient")


@st.cache_resource(show_spinner=False)
def _load_recording(path: str) -> RaceRecording | RaceRecordingError:
    """Return the recorded race, or the error if it cannot be read; cached."""
    try:
        return read_race_recording(Path(path))
    except RaceRecordingError as error:
        return error


def _settings_from_address() -> dict[str, str]:
    names = {field.name for field in fields(RunConfig)} - {"knobs", "changes", "data"}
    names |= {spec.name for policy in registered_policies() for spec in knobs_of(policy)}
    return {name: value for name, value in st.query_params.items() if name in names}


def _start_race(race: RacePlan) -> None:
    """Start full training, and queue the efficient run behind it."""
    runs = shared_run_manager()
    try:
        dense = runs.start(race.dense)[-1]
        try:
            efficient = runs.start(race.efficient, when_busy="queue")[-1]
        except (StoreError, DeviceReservedError):
            dense.stop()  # a race needs both runs
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


def _enter_recording() -> None:
    st.session_state.pop("tour-began", None)
    st.query_params["recorded"] = "1"


def _leave_race() -> None:
    """Return to the start of the tour; active runs continue."""
    st.session_state.pop("tour-runs", None)
    for name in (*_RUN_PARAMETERS, "recorded"):
        with contextlib.suppress(KeyError):
            del st.query_params[name]


def _find_race() -> RaceRuns | None:
    """Return the race in the address, or the one started in this tab."""
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
            "The two runs in the address are not a race: they may differ only in policy and "
            "budget.",
            icon=":material/link_off:",
        )
        _leave_race()
        return None
    _put_runs_in_address(dense.run_id, efficient.run_id)
    return RaceRuns(dense, efficient)


def _never_started(run_id: str) -> bool:
    """Return whether a run was never stored; a queued run is lost when the app closes."""
    try:
        return shared_run_manager().find_run(run_id) is None
    except StoreError:  # find_run_or_warn() shows this error
        return False


def _warn_race_never_started(dense: Run | StoredRun) -> None:
    """Explain why the efficient run of a race is missing."""
    status = dense.snapshot().status
    if status.is_final and status is not RunStatus.FINISHED:
        st.warning(
            f"The race in the address ended before its second run started: full training was "
            f"{status.value}. Start the race again below.",
            icon=":material/flag:",
        )
    else:
        st.warning(
            "Only the full training of the race in the address exists. The efficient run never "
            "started, because the app was closed first, or it was deleted. Start the race again "
            "below.",
            icon=":material/flag:",
        )
    link_to_run(dense.run_id, "Full training")


def _show_live_race(race_runs: RaceRuns) -> None:
    """Draw a race, and refresh it until it is over."""
    is_over = race_runs.is_over
    st.fragment(run_every=None if is_over else _REFRESH_S)(_draw_live_race)(race_runs, is_over)


def _draw_live_race(race_runs: RaceRuns, was_over: bool) -> None:
    dense, efficient = (run.snapshot() for run in race_runs)
    draw_tour_panel(current_scene(dense), current_scene(efficient))
    if dense.status.is_final and dense.status is not RunStatus.FINISHED:
        _stop_race(race_runs)  # the efficient run has nothing to be compared with
    if race_runs.is_over and not was_over:
        st.rerun()


def _stop_race(race_runs: RaceRuns) -> None:
    """Stop the run that trains, and remove the queued one."""
    for run in reversed(race_runs):  # the queued run first, or it would start
        if isinstance(run, Run):
            run.stop()


# Recorded ---------------------------------------------------------------------------------


def _play_recording(recording: RaceRecording) -> None:
    """Play a recorded race from start to end."""
    began = st.session_state.setdefault("tour-began", time.monotonic())
    is_over = time.monotonic() - began >= recording.seconds / _playback_speed(recording)
    st.fragment(run_every=None if is_over else _REFRESH_S)(_draw_recording)(
        recording, began, is_over
    )


def _draw_recording(recording: RaceRecording, began: float, was_over: bool) -> None:
    speed = _playback_speed(recording)
    race_seconds = (time.monotonic() - began) * speed
    dense, efficient = recording.scenes_at(race_seconds)
    draw_tour_panel(dense, efficient, _recording_notice(recording, speed))
    if race_seconds >= recording.seconds and not was_over:
        st.rerun()


_BUSY_MACHINE_NOTE: Final = "Other programs ran at the same time, so the seconds are unreliable."


def _playback_speed(recording: RaceRecording) -> float:
    """Return the speed of the playback relative to the recorded race; at least 1."""
    return max(1.0, recording.seconds / _PLAYBACK_S)


def _recording_notice(recording: RaceRecording, speed: float) -> str:
    date = recording.circumstances.get("date", "an unknown day")
    pace = f", played {speed:.1f} times as fast" if speed > 1 else ", played at its own speed"
    text = f"RECORDED on {date}, not running now{pace}"
    return text + (f". {_BUSY_MACHINE_NOTE}" if recording.is_machine_busy else "")


def _show_recording_machine(recording: RaceRecording) -> None:
    """Show on which machine, and with which versions, a race was recorded."""
    names = ("cpu", "cores", "memory_gib", "system", "python", "torch", "effcore")
    values = {name: recording.circumstances.get(name, "?") for name in names}
    config = recording.efficient.snapshot.config
    st.caption(
        escape_markdown(
            "Recorded on {cpu}, {cores} cores, {memory_gib} GiB, {system}, with Python {python}, "
            "PyTorch {torch}, Effcore {effcore}".format(**values)
            + f"; seed {config.seed}, threads {config.threads}, {config.device}. Times differ on "
            "another machine."
        )
    )


# What is on the page ----------------------------------------------------------------------


def _show_invitation() -> None:
    """Introduce the tour, and offer to start it."""
    st.markdown(
        "Computers learn by going over the same examples again and again, and spend as much on "
        "examples they know as on those they do not. **This tour runs a real race on this "
        "machine:** full training against a run that skips what it has already learned. At the "
        "end it states what was saved and what that cost. The tour takes about three minutes, or "
        "longer on a slow or busy machine."
    )
    try:
        race = plan_race(_settings_from_address())
    except ConfigError as error:
        race = None
        show_error(error)
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
            on_click=_enter_recording,
        )
        _offer_present_mode()
    st.caption("The recorded race ran earlier on another machine. Playing it takes a minute.")
    draw_cards(_CHAPTER_CARDS)


_CHAPTER_CARDS = (
    ("1. Full training", "Every example, every time. Bars show what that costs."),
    (
        "2. Efficient training",
        "The same start, but examples that the model gets right are skipped, and trained on "
        "again now and then.",
    ),
    (
        "3. The result",
        "What was saved in computation, in time and, if a meter exists, in energy; what that "
        "cost; and how certain it is.",
    ),
)


def _show_start_problem() -> None:
    if (active := st.session_state.pop("tour-busy", None)) is not None:
        st.warning(
            "A run is already training, and a race needs the device to itself. Wait until it "
            "ends, stop it, or watch the recorded race meanwhile.",
            icon=":material/hourglass_top:",
        )
        link_to_run(active, "Open the run that trains", ":material/play_circle:")
    if problem := st.session_state.pop("tour-problem", None):
        show_error(problem, "The race could not start.")


def _show_race_page(race_runs: RaceRuns) -> None:
    _show_live_race(race_runs)
    with st.container(horizontal=True, vertical_alignment="center"):
        if not race_runs.is_over:
            st.button("Stop the race", icon=":material/stop:", key="stop-tour", on_click=_stop_race,
                      args=(race_runs,))  # fmt: skip
        else:
            st.button("Back to the start", icon=":material/first_page:", key="leave-tour",
                      on_click=_leave_race)  # fmt: skip
        _offer_present_mode()
        _draw_links(race_runs)
    if not race_runs.is_over:
        st.caption(
            "The race continues if you leave or reload this page, and is shown when you return."
        )


def _draw_links(race_runs: RaceRuns) -> None:
    st.page_link("compare.py", label="Compare over several seeds", icon=":material/balance:")
    for label, run in zip(("Full training", "The efficient run"), race_runs, strict=True):
        link_to_run(run.run_id, label)


def _show_recording_page() -> None:
    recording = _load_recording(str(RACE_RECORDING))
    if isinstance(recording, RaceRecordingError):
        st.error(
            f"The recorded race cannot be played: {escape_markdown(recording)}.",
            icon=":material/error:",
        )
    else:
        _play_recording(recording)
        _show_recording_machine(recording)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Play again", icon=":material/replay:", key="play-again", on_click=_enter_recording
        )
        st.button("Back to the start", icon=":material/first_page:", key="leave-tour",
                  on_click=_leave_race)  # fmt: skip
        _offer_present_mode()
        st.page_link("compare.py", label="Compare over several seeds", icon=":material/balance:")


def _offer_present_mode() -> None:
    if not is_presenting():
        st.button(
            "Present",
            icon=":material/cast:",
            key="present-tour",
            on_click=_enter_present_mode,
            help="The tour on the whole screen, for a projector.",
        )


def _enter_present_mode() -> None:
    st.query_params[PRESENT_PARAMETER] = "1"


def _leave_present_mode() -> None:
    del st.query_params[PRESENT_PARAMETER]


if is_presenting():
    hide_page_frame()
st.title("Is all of that work needed?")
shown_race = _find_race()
if shown_race is not None:
    _show_race_page(shown_race)
elif "recorded" in st.query_params:
    _show_recording_page()
else:
    _show_invitation()
if is_presenting():
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.container(key=LEAVE_KEY, width="content"):
            st.button(
                "Leave", icon=":material/arrow_back:", key="unpresent", on_click=_leave_present_mode
            )
        draw_fullscreen_bar()
