"""What the Tour page shows of a race: one that runs, or a recorded one played back."""

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

#: How often a race is looked at, and how long a recorded one is to take, seconds.
_REFRESH_S: Final = 0.5
_PLAYBACK_S: Final = 60.0


class RaceRuns(NamedTuple):
    """The two runs of a race, live or stored."""

    dense: Run | StoredRun
    efficient: Run | StoredRun

    @property
    def is_over(self) -> bool:
        """Whether nothing of it will change."""
        return all(run.snapshot().status.is_final for run in self)


def show_live_race(race_runs: RaceRuns) -> None:
    """Draw a race, and go on drawing it until it is over."""
    over = race_runs.is_over
    st.fragment(run_every=None if over else _REFRESH_S)(_draw_live_race)(race_runs, over)


def _draw_live_race(race_runs: RaceRuns, was_over: bool) -> None:
    dense, efficient = (run.snapshot() for run in race_runs)
    draw_tour_panel(current_scene(dense), current_scene(efficient))
    if dense.status.is_final and dense.status is not RunStatus.FINISHED:
        stop_race(race_runs)  # there is nothing left to race against
    if race_runs.is_over and not was_over:
        st.rerun()


def stop_race(race_runs: RaceRuns) -> None:
    """End what trains of a race, and take what waits out of the queue."""
    for run in reversed(race_runs):  # first what waits, or it would begin
        if isinstance(run, Run):
            run.stop()


# Recorded ---------------------------------------------------------------------------------


def play_recording(recording: RaceRecording) -> None:
    """Play a recorded race from its start, until it is over."""
    began = st.session_state.setdefault("tour-began", time.monotonic())
    over = time.monotonic() - began >= recording.seconds / playback_speed(recording)
    st.fragment(run_every=None if over else _REFRESH_S)(_draw_recording)(recording, began, over)


def _draw_recording(recording: RaceRecording, began: float, was_over: bool) -> None:
    speed = playback_speed(recording)
    at = (time.monotonic() - began) * speed
    dense, efficient = recording.scenes_at(at)
    draw_tour_panel(dense, efficient, recording_notice(recording, speed))
    if at >= recording.seconds and not was_over:
        st.rerun()


_BUSY_MACHINE_NOTE: Final = "The machine did other things meanwhile, so the seconds say little."


def playback_speed(recording: RaceRecording) -> float:
    """Return how many times as fast as it was a recording is played; never slower."""
    return max(1.0, recording.seconds / _PLAYBACK_S)


def recording_notice(recording: RaceRecording, speed: float) -> str:
    """Return what must be said of a recording."""
    when = recording.circumstances.get("date", "an unknown day")
    paced = f", played {speed:.1f} times as fast" if speed > 1 else ", played as fast as it was"
    words = f"RECORDED on {when}, not running now{paced}"
    return words + (f". {_BUSY_MACHINE_NOTE}" if recording.is_machine_busy else "")


def show_recording_machine(recording: RaceRecording) -> None:
    """Say on what machine a race was recorded, and with what."""
    names = ("cpu", "cores", "memory_gib", "system", "python", "torch", "effcore")
    told = {name: recording.circumstances.get(name, "?") for name in names}
    config = recording.efficient.snapshot.config
    st.caption(
        escape_markdown(
            "Recorded on {cpu}, {cores} cores, {memory_gib} GiB, {system}, with Python {python}, "
            "PyTorch {torch}, Effcore {effcore}".format(**told)
            + f"; seed {config.seed}, threads {config.threads}, {config.device}. Another "
            "machine takes other seconds."
        )
    )
