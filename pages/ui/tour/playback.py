"""Display of a live race, and playback of a recorded one."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

import streamlit as st

from effcore.insight.race_recording import RaceRecording
from effcore.insight.race_scene import current_scene
from effcore.records import RunStatus
from effcore.runs.run import Run
from effcore.runs.stored_run import StoredRun
from pages.ui.common import escape_markdown
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


def show_live_race(race_runs: RaceRuns) -> None:
    """Draw a race, and refresh it until it is over."""
    is_over = race_runs.is_over
    st.fragment(run_every=None if is_over else _REFRESH_S)(_draw_live_race)(race_runs, is_over)


def _draw_live_race(race_runs: RaceRuns, was_over: bool) -> None:
    dense, efficient = (run.snapshot() for run in race_runs)
    draw_tour_panel(current_scene(dense), current_scene(efficient))
    if dense.status.is_final and dense.status is not RunStatus.FINISHED:
        stop_race(race_runs)  # the efficient run has nothing to be compared with
    if race_runs.is_over and not was_over:
        st.rerun()


def stop_race(race_runs: RaceRuns) -> None:
    """Stop the run that trains, and remove the queued one."""
    for run in reversed(race_runs):  # the queued run first, or it would start
        if isinstance(run, Run):
            run.stop()


# Recorded ---------------------------------------------------------------------------------


def play_recording(recording: RaceRecording) -> None:
    """Play a recorded race from start to end."""
    began = st.session_state.setdefault("tour-began", time.monotonic())
    is_over = time.monotonic() - began >= recording.seconds / playback_speed(recording)
    st.fragment(run_every=None if is_over else _REFRESH_S)(_draw_recording)(
        recording, began, is_over
    )


def _draw_recording(recording: RaceRecording, began: float, was_over: bool) -> None:
    speed = playback_speed(recording)
    race_seconds = (time.monotonic() - began) * speed
    dense, efficient = recording.scenes_at(race_seconds)
    draw_tour_panel(dense, efficient, recording_notice(recording, speed))
    if race_seconds >= recording.seconds and not was_over:
        st.rerun()


_BUSY_MACHINE_NOTE: Final = "Other programs ran at the same time, so the seconds are unreliable."


def playback_speed(recording: RaceRecording) -> float:
    """Return the speed of the playback relative to the recorded race; at least 1."""
    return max(1.0, recording.seconds / _PLAYBACK_S)


def recording_notice(recording: RaceRecording, speed: float) -> str:
    """Return the notice shown with a recording."""
    date = recording.circumstances.get("date", "an unknown day")
    pace = f", played {speed:.1f} times as fast" if speed > 1 else ", played at its own speed"
    text = f"RECORDED on {date}, not running now{pace}"
    return text + (f". {_BUSY_MACHINE_NOTE}" if recording.is_machine_busy else "")


def show_recording_machine(recording: RaceRecording) -> None:
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
