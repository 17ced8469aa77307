"""Examples: where did the computation go? What became of each example a run trained on."""

from __future__ import annotations

import streamlit as st

from effcore.examples.album import Album, AlbumError, album_of
from effcore.examples.history import History, Look, history_of, look_at
from effcore.registry import UnknownNameError
from effcore.runs.manager import shared_runs
from effcore.store import RunSummary, StoreError
from effcore.store.curves import curve_of
from effcore.tasks.base import TASKS, Task
from pages.ui.examples.choosing import choose_pass, choose_run
from pages.ui.examples.data_map import by_numbers, data_map, map_is_drawn
from pages.ui.examples.sections import show_classes, show_galleries, show_one, show_suspects
from pages.ui.examples.selected import how_to_read, show_selected
from pages.ui.frame import plain
from pages.ui.naming import status_words


def _history(run: RunSummary) -> History | None:
    """Return what is stored of the run's examples, or say why there is nothing."""
    store = shared_runs().store
    curve = curve_of(store, run.run_id)
    try:
        found = history_of(store, run.run_id, curve.n_train) if curve and curve.n_train else None
    except OSError as error:
        st.error(
            f"What became of this run's examples cannot be read: {plain(error.strerror)}.",
            icon=":material/error:",
        )
        return None
    if found is None:
        later = "the run ended before its first pass did" if run.status.final else _LATER
        st.info(f"Nothing is stored of this run's examples: {later}.")
    return found


_LATER = "they appear here with the first pass that ends, in a moment"


def _album(run: RunSummary, n: int) -> Album | None:
    """Return what the examples are, or say why they are shown by number alone."""
    try:
        return album_of(run.config, n)
    except AlbumError as error:
        st.warning(
            f"The examples are shown by number alone: {plain(error)}.",
            icon=":material/hide_image:",
        )
        return None


def _task(run: RunSummary) -> type[Task] | None:
    try:
        return TASKS.get(run.config.task)
    except UnknownNameError as error:
        st.error(f"This run's examples cannot be shown. {plain(error)}", icon=":material/error:")
        return None


def _say_what(run: RunSummary, history: History) -> None:
    """Say which run this is, and what of it is missing."""
    said = [status_words(run), f"{history.n:,} examples", f"{history.passes:,} passes"]
    st.caption(plain(" · ".join(said)))
    if not run.status.final:
        st.caption("It trains: this is what is stored so far.")
        st.button("Look again", icon=":material/refresh:", key="examples-again")
    if not history.stored:
        st.info(
            "This run is from before losses were kept, so that only what was decided is known: no "
            "map, no suspects.", icon=":material/history:",
        )  # fmt: skip
    elif len(history.losses_R) < history.passes:
        st.caption(
            f"So many passes would take much room: losses are kept of {len(history.losses_R):,} of "
            "them, decisions of all."
        )


def _say_where(history: History, look: Look) -> None:
    place = look.upto - 1
    said = f"By the end of pass {history.index_P[place] + 1:,}, step {history.step_P[place]:,}."
    if look.whole < look.upto:
        said += " A pass that was cut short is not counted as trained on or skipped."
    st.caption(said)


def _show(run: RunSummary, task: type[Task], history: History) -> None:
    _say_what(run, history)
    look = look_at(history, choose_pass(history), task.loss_kind)
    _say_where(history, look)
    region = None
    if history.stored:
        st.header("The map")
        left, right = st.columns([7, 5], gap="large")
        with left:
            drawn = data_map(run.run_id, look)
            if task.loss_kind != "cross_entropy":
                st.caption(_ANALOGUE)
            region = by_numbers() or drawn
        if not map_is_drawn():
            with right:
                how_to_read()
            st.caption("What follows is drawn after the map.")
            return
    album = _album(run, history.n)
    if history.stored:
        with right:
            show_selected(run.run_id, look, region, album)
    if album is not None:
        if run.imported and album.local:
            st.caption(_ELSEWHERE)
        st.header("Who was trained on")
        if look.whole:
            show_galleries(look, album)
        else:
            st.caption("No pass has gone through all examples yet.")
        st.header("Skipped, by class")
        show_classes(look, album)
        if history.stored:
            st.header("Suspected label errors")
            show_suspects(run.run_id, look, album)
    st.header("One example")
    show_one(history, look, album, task.loss_kind, task.loss_label)


_ANALOGUE = (
    "A squared error has no probability. Confidence is e^(−loss ÷ the mean loss of the first pass) "
    "here: 37% for an error that was the average then, 100% for none."
)
_ELSEWHERE = (
    "The texts are those of this machine's Python; the run was trained on another's, which may "
    "differ."
)

st.title("Where did the computation go?")
st.caption("Which examples a run trained on, which it skipped, and what it made of each of them.")
try:
    run = choose_run(shared_runs().store)
except StoreError as error:
    st.error(f"The runs could not be listed. {plain(error)}", icon=":material/error:")
    st.stop()
if run is None:
    st.info("Nothing has been trained yet. Start a run on the Live page and its examples are here.")
    st.page_link("live.py", label="Go to Live", icon=":material/monitoring:")
elif (task := _task(run)) is not None and (history := _history(run)) is not None:
    _show(run, task, history)
