"""Examples: where did the computation go? What became of each example a run trained on."""

from __future__ import annotations

import streamlit as st

from effcore.insight.example_catalog import ExampleCatalog, ExampleDataError, load_catalog
from effcore.insight.example_history import (
    ExampleHistory,
    ExampleStatistics,
    example_statistics,
    load_history,
)
from effcore.registry import UnknownNameError
from effcore.runs.manager import shared_run_manager
from effcore.store import RunSummary, StoreError
from effcore.store.eval_curves import read_eval_curve
from effcore.tasks.base import TASKS, Task
from pages.ui.common import escape_markdown
from pages.ui.display_names import run_status_text
from pages.ui.examples.data_map import choose_region_by_numbers, draw_data_map, map_is_drawn
from pages.ui.examples.map_region import show_map_legend, show_map_region
from pages.ui.examples.pickers import choose_epoch, choose_run
from pages.ui.examples.sections import (
    show_class_shares,
    show_example_history,
    show_label_suspects,
    show_most_and_least_trained,
)


def _load_history(run: RunSummary) -> ExampleHistory | None:
    """Return what is stored of the run's examples, or say why there is nothing."""
    store = shared_run_manager().store
    curve = read_eval_curve(store, run.run_id)
    try:
        found = load_history(store, run.run_id, curve.n_train) if curve and curve.n_train else None
    except OSError as error:
        st.error(
            "What became of this run's examples cannot be read: "
            f"{escape_markdown(error.strerror)}.",
            icon=":material/error:",
        )
        return None
    if found is None:
        later = "the run ended before its first pass did" if run.status.is_final else _NOT_YET_TEXT
        st.info(f"Nothing is stored of this run's examples: {later}.")
    return found


_NOT_YET_TEXT = "they appear here with the first pass that ends, in a moment"


def _load_catalog(run: RunSummary, n: int) -> ExampleCatalog | None:
    """Return what the examples are, or say why they are shown by number alone."""
    try:
        return load_catalog(run.config, n)
    except ExampleDataError as error:
        st.warning(
            f"The examples are shown by number alone: {escape_markdown(error)}.",
            icon=":material/hide_image:",
        )
        return None


def _task_class(run: RunSummary) -> type[Task] | None:
    try:
        return TASKS.get(run.config.task)
    except UnknownNameError as error:
        st.error(
            f"This run's examples cannot be shown. {escape_markdown(error)}",
            icon=":material/error:",
        )
        return None


def _show_run_facts(run: RunSummary, history: ExampleHistory) -> None:
    """Say which run this is, and what of it is missing."""
    said = [run_status_text(run), f"{history.n_examples:,} examples", f"{history.epochs:,} passes"]
    st.caption(escape_markdown(" · ".join(said)))
    if not run.status.is_final:
        st.caption("It trains: this is what is stored so far.")
        st.button("Look again", icon=":material/refresh:", key="examples-again")
    if not history.has_losses:
        st.info(
            "This run is from before losses were kept, so that only what was decided is known: no "
            "map, no suspects.", icon=":material/history:",
        )  # fmt: skip
    elif len(history.losses_R) < history.epochs:
        st.caption(
            f"So many passes would take much room: losses are kept of {len(history.losses_R):,} of "
            "them, decisions of all."
        )


def _show_epoch_and_step(history: ExampleHistory, statistics: ExampleStatistics) -> None:
    place = statistics.epochs - 1
    said = f"By the end of pass {history.index_P[place] + 1:,}, step {history.step_P[place]:,}."
    if statistics.complete_epochs < statistics.epochs:
        said += " A pass that was cut short is not counted as trained on or skipped."
    st.caption(said)


def _show_examples(run: RunSummary, task: type[Task], history: ExampleHistory) -> None:
    _show_run_facts(run, history)
    look = example_statistics(history, choose_epoch(history), task.loss_kind)
    _show_epoch_and_step(history, look)
    region = None
    if history.has_losses:
        st.header("The map")
        left, right = st.columns([7, 5], gap="large")
        with left:
            drawn = draw_data_map(run.run_id, look)
            if task.loss_kind != "cross_entropy":
                st.caption(_SQUARED_ERROR_NOTE)
            region = choose_region_by_numbers() or drawn
        if not map_is_drawn():
            with right:
                show_map_legend()
            st.caption("What follows is drawn after the map.")
            return
    album = _load_catalog(run, history.n_examples)
    if history.has_losses:
        with right:
            show_map_region(run.run_id, look, region, album)
    if album is not None:
        if run.imported and album.is_local_data:
            st.caption(_IMPORTED_TEXTS_NOTE)
        st.header("Who was trained on")
        if look.complete_epochs:
            show_most_and_least_trained(look, album)
        else:
            st.caption("No pass has gone through all examples yet.")
        st.header("Skipped, by class")
        show_class_shares(look, album)
        if history.has_losses:
            st.header("Suspected label errors")
            show_label_suspects(run.run_id, look, album)
    st.header("One example")
    show_example_history(history, look, album, task.loss_kind, task.loss_label)


_SQUARED_ERROR_NOTE = (
    "A squared error has no probability. Confidence is e^(−loss ÷ the mean loss of the first pass) "
    "here: 37% for an error that was the average then, 100% for none."
)
_IMPORTED_TEXTS_NOTE = (
    "The texts are those of this machine's Python; the run was trained on another's, which may "
    "differ."
)

st.title("Where did the computation go?")
st.caption("Which examples a run trained on, which it skipped, and what it made of each of them.")
try:
    run = choose_run(shared_run_manager().store)
except StoreError as error:
    st.error(f"The runs could not be listed. {escape_markdown(error)}", icon=":material/error:")
    st.stop()
if run is None:
    st.info("Nothing has been trained yet. Start a run on the Live page and its examples are here.")
    st.page_link("live.py", label="Go to Live", icon=":material/monitoring:")
elif (task := _task_class(run)) is not None and (history := _load_history(run)) is not None:
    _show_examples(run, task, history)
