"""What the Tour page shows of a race: one that runs, or a recorded one played back."""

from __future__ import annotations

import time
from typing import Final, NamedTuple

import streamlit as st

from effcore.events import RunStatus
from effcore.runs.runner import Run
from effcore.runs.stored import StoredRun
from effcore.tour.recording import Recording
from effcore.tour.scene import scene_of
from pages.ui.frame import plain
from pages.ui.tour.panel import tour_panel

#: How often a race is looked at, and how long a recorded one is to take, seconds.
_LOOK_S: Final = 0.5
_PLAY_S: Final = 60.0


class Pair(NamedTuple):
    """The two runs of a race, live or stored."""

    dense: Run | StoredRun
    efficient: Run | StoredRun

    @property
    def over(self) -> bool:
        """Whether nothing of it will change."""
        return all(run.snapshot().status.final for run in self)


def show_race(pair: Pair) -> None:
    """Draw a race, and go on drawing it until it is over."""
    over = pair.over
    st.fragment(run_every=None if over else _LOOK_S)(_race)(pair, over)


def _race(pair: Pair, was_over: bool) -> None:
    dense, efficient = (run.snapshot() for run in pair)
    tour_panel(scene_of(dense), scene_of(efficient))
    if dense.status.final and dense.status is not RunStatus.FINISHED:
        stop(pair)  # there is nothing left to race against
    if pair.over and not was_over:
        st.rerun()


def stop(pair: Pair) -> None:
    """End what trains of a race, and take what waits out of the queue."""
    for run in reversed(pair):  # first what waits, or it would begin
        if isinstance(run, Run):
            run.stop()


# Recorded ---------------------------------------------------------------------------------


def show_recording(recording: Recording) -> None:
    """Play a recorded race from its start, until it is over."""
    began = st.session_state.setdefault("tour-began", time.monotonic())
    over = time.monotonic() - began >= recording.seconds / speed_of(recording)
    st.fragment(run_every=None if over else _LOOK_S)(_played)(recording, began, over)


def _played(recording: Recording, began: float, was_over: bool) -> None:
    speed = speed_of(recording)
    at = (time.monotonic() - began) * speed
    dense, efficient = recording.at(at)
    tour_panel(dense, efficient, recorded_words(recording, speed))
    if at >= recording.seconds and not was_over:
        st.rerun()


_BUSY: Final = "The machine did other things meanwhile, so the seconds say little."


def speed_of(recording: Recording) -> float:
    """Return how many times as fast as it was a recording is played; never slower."""
    return max(1.0, recording.seconds / _PLAY_S)


def recorded_words(recording: Recording, speed: float) -> str:
    """Return what must be said of a recording."""
    when = recording.circumstances.get("date", "an unknown day")
    paced = f", played {speed:.1f} times as fast" if speed > 1 else ", played as fast as it was"
    words = f"RECORDED on {when}, not running now{paced}"
    return words + (f". {_BUSY}" if recording.busy else "")


def say_where(recording: Recording) -> None:
    """Say on what machine a race was recorded, and with what."""
    names = ("cpu", "cores", "memory_gib", "system", "python", "torch", "effcore")
    told = {name: recording.circumstances.get(name, "?") for name in names}
    config = recording.efficient.look.config
    st.caption(
        plain(
            "Recorded on {cpu}, {cores} cores, {memory_gib} GiB, {system}, with Python {python}, "
            "PyTorch {torch}, Effcore {effcore}".format(**told)
            + f"; seed {config.seed}, threads {config.threads}, {config.device}. Another "
            "machine takes other seconds."
        )
    )
