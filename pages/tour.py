"""Tour: one press, and a real race of efficient against dense training tells itself."""

from __future__ import annotations

import contextlib
from dataclasses import fields
from pathlib import Path

import streamlit as st

from effcore.config import ConfigError
from effcore.events import RunConfig, RunStatus
from effcore.knobs import knobs_of
from effcore.policies import every_policy
from effcore.runs.manager import BusyError, HeldError, shared_runs
from effcore.runs.runner import Run
from effcore.runs.stored import StoredRun
from effcore.store import StoreError
from effcore.tour.race import Race, is_race, plan_race
from effcore.tour.recording import Recording, RecordingError, read_recording
from pages.ui.assets import RECORDING
from pages.ui.frame import find_run, plain
from pages.ui.present.screen import LEAVE, bare, screen_bar
from pages.ui.tour.showing import Pair, say_where, show_race, show_recording, stop

_RUNS = ("dense", "efficient")


@st.cache_resource(show_spinner=False)
def _recording(path: str) -> Recording | RecordingError:
    """Return the recorded race, read once, or why it cannot be played."""
    try:
        return read_recording(Path(path))
    except RecordingError as error:
        return error


def _asked() -> dict[str, str]:
    """Return the settings in the address."""
    names = {field.name for field in fields(RunConfig)} - {"knobs", "changes", "data"}
    names |= {spec.name for policy in every_policy() for spec in knobs_of(policy)}
    return {name: value for name, value in st.query_params.items() if name in names}


def _start(race: Race) -> None:
    """Start both runs, the efficient one in the queue behind the dense one."""
    runs = shared_runs()
    try:
        dense = runs.start(race.dense)[-1]
        try:
            efficient = runs.start(race.efficient, when_busy="queue")[-1]
        except (StoreError, HeldError):
            dense.stop()  # alone it is no race
            raise
    except BusyError as error:
        st.session_state["tour-busy"] = error.active.run_id
    except (StoreError, HeldError) as error:
        st.session_state["tour-problem"] = str(error)
    else:
        _show_runs(dense.run_id, efficient.run_id)


def _show_runs(dense: str, efficient: str) -> None:
    st.session_state["tour-runs"] = (dense, efficient)
    for name, run_id in zip(_RUNS, (dense, efficient), strict=True):
        if st.query_params.get(name) != run_id:
            st.query_params[name] = run_id


def _play() -> None:
    st.session_state.pop("tour-began", None)
    st.query_params["recorded"] = "1"


def _leave() -> None:
    """Go back to the beginning; what trains goes on."""
    st.session_state.pop("tour-runs", None)
    for name in (*_RUNS, "recorded"):
        with contextlib.suppress(KeyError):
            del st.query_params[name]


def _pair() -> Pair | None:
    """Return the race in the address, or the one that this tab has started."""
    ids = [st.query_params.get(name) for name in _RUNS]
    if not all(ids) and "recorded" not in st.query_params:
        ids = list(st.session_state.get("tour-runs", ids))
    if not all(ids):
        return None
    dense = find_run(str(ids[0]))
    if dense is not None and _never_began(str(ids[1])):
        _say_it_never_began(dense)
        _leave()
        return None
    efficient = find_run(str(ids[1]))
    if dense is None or efficient is None:
        _leave()
        return None
    if not is_race(dense.snapshot().config, efficient.snapshot().config):
        st.warning(
            "The two runs in the address are no race: they must be alike in all but their policy.",
            icon=":material/link_off:",
        )
        _leave()
        return None
    _show_runs(dense.run_id, efficient.run_id)
    return Pair(dense, efficient)


def _never_began(run_id: str) -> bool:
    """Return whether a run left nothing: one that waited is gone with the app's process."""
    try:
        return shared_runs().get(run_id) is None
    except StoreError:  # it cannot be read; that is said where it is asked for
        return False


def _say_it_never_began(dense: Run | StoredRun) -> None:
    """Say what became of a race of which only the dense run is there."""
    status = dense.snapshot().status
    if status.final and status is not RunStatus.FINISHED:
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


def _invitation() -> None:
    """Say what is to come, and offer to start it."""
    st.markdown(
        "Computers learn by going over the same examples again and again, and spend as much on "
        "what they know as on what they do not. **This tour runs a real race on this machine:** "
        "the usual way, and one that leaves out what it has already learned. It says in words "
        "what was saved, and what that cost. It goes by itself, in about three minutes; more "
        "where the machine is slow or busy."
    )
    try:
        race = plan_race(_asked())
    except ConfigError as error:
        race = None
        st.error(plain(error), icon=":material/error:")
    _say_what_stopped_it()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Start the tour", type="primary", icon=":material/play_arrow:", key="start-tour",
            disabled=race is None, on_click=_start, args=(race,),
        )  # fmt: skip
        st.button(
            "Watch the recorded race", icon=":material/replay:", key="play-recorded", on_click=_play
        )
        _offer_the_screen()
    st.caption("The recorded race ran on another day and says so; playing it takes a minute.")
    for column, (title, text) in zip(st.columns(3), _CHAPTERS, strict=True):
        with column.container(border=True, height="stretch"):
            st.markdown(f"**{title}**")
            st.caption(text)


_CHAPTERS = (
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


def _say_what_stopped_it() -> None:
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
        st.error(f"The race could not start. {plain(problem)}", icon=":material/error:")


def _racing(pair: Pair) -> None:
    show_race(pair)
    with st.container(horizontal=True, vertical_alignment="center"):
        if not pair.over:
            st.button("Stop the race", icon=":material/stop:", key="stop-tour", on_click=stop,
                      args=(pair,))  # fmt: skip
        else:
            st.button("Back to the start", icon=":material/first_page:", key="leave-tour",
                      on_click=_leave)  # fmt: skip
        _offer_the_screen()
        _links(pair)
    if not pair.over:
        st.caption(
            "It goes on if you leave this page or reload it, and is shown again when you come back."
        )


def _links(pair: Pair) -> None:
    st.page_link("compare.py", label="Compare over several seeds", icon=":material/balance:")
    for name, run in zip(("usual", "efficient"), pair, strict=True):
        st.page_link(
            "live.py", label=f"The {name} run", icon=":material/monitoring:",
            query_params={"run": run.run_id},
        )  # fmt: skip


def _playing() -> None:
    recording = _recording(str(RECORDING))
    if isinstance(recording, RecordingError):
        st.error(
            f"The recorded race cannot be played: {plain(recording)}.", icon=":material/error:"
        )
    else:
        show_recording(recording)
        say_where(recording)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button("Play again", icon=":material/replay:", key="play-again", on_click=_play)
        st.button("Back to the start", icon=":material/first_page:", key="leave-tour",
                  on_click=_leave)  # fmt: skip
        _offer_the_screen()
        st.page_link("compare.py", label="Compare over several seeds", icon=":material/balance:")


def _offer_the_screen() -> None:
    """Offer presenter mode where it is not on."""
    if "present" not in st.query_params:
        st.button("Present", icon=":material/cast:", key="present-tour", on_click=_present,
                  help="The tour on the whole screen, for a projector.")  # fmt: skip


def _present() -> None:
    st.query_params["present"] = "1"


def _unpresent() -> None:
    del st.query_params["present"]


presenting = "present" in st.query_params
if presenting:
    bare()
st.title("Is all of that work needed?")
shown = _pair()
if shown is not None:
    _racing(shown)
elif "recorded" in st.query_params:
    _playing()
else:
    _invitation()
if presenting:
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.container(key=LEAVE, width="content"):
            st.button("Leave", icon=":material/arrow_back:", key="unpresent", on_click=_unpresent)
        screen_bar()
