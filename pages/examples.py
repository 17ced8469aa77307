"""Examples page: which examples a run trained on or skipped, and how it learned them."""

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
from effcore.tasks.base import TASKS, Task
from pages.ui.common import escape_markdown, show_error, show_nothing_trained
from pages.ui.display_names import run_status_text
from pages.ui.examples.data_map import (
    choose_region_by_numbers,
    draw_data_map,
    map_is_drawn,
    show_map_legend,
    show_map_region,
)
from pages.ui.examples.pickers import choose_epoch, choose_run
from pages.ui.examples.sections import (
    show_class_shares,
    show_example_history,
    show_label_suspects,
    show_most_and_least_trained,
)


def _load_history(run: RunSummary) -> ExampleHistory | None:
    """Return the stored history of the run's examples, or show why there is none."""
    store = shared_run_manager().store
    curve = store.read_eval_curve(run.run_id)
    try:
        history = (
            load_history(store, run.run_id, curve.n_train) if curve and curve.n_train else None
        )
    except OSError as error:
        st.error(
            "The history of this run's examples cannot be read: "
            f"{escape_markdown(error.strerror)}.",
            icon=":material/error:",
        )
        return None
    if history is None:
        reason = "the run ended during its first epoch" if run.status.is_final else _NOT_YET_TEXT
        st.info(f"This run has no history of its examples: {reason}.")
    return history


_NOT_YET_TEXT = "it appears here when the first epoch ends"


def _load_catalog(run: RunSummary, n: int) -> ExampleCatalog | None:
    """Return the catalog of the examples, or show why they have only numbers."""
    try:
        return load_catalog(run.config, n)
    except ExampleDataError as error:
        st.warning(
            f"The examples are shown by number only: {escape_markdown(error)}.",
            icon=":material/hide_image:",
        )
        return None


def _task_class(run: RunSummary) -> type[Task] | None:
    try:
        return TASKS.get(run.config.task)
    except UnknownNameError as error:
        show_error(error, "This run's examples cannot be shown.")
        return None


def _show_run_facts(run: RunSummary, history: ExampleHistory) -> None:
    """Show the size of the run's history, and what it lacks."""
    facts = [run_status_text(run), f"{history.n_examples:,} examples", f"{history.epochs:,} epochs"]
    st.caption(escape_markdown(" · ".join(facts)))
    if not run.status.is_final:
        st.caption("Still training: this is its progress so far.")
        st.button("Refresh", icon=":material/refresh:", key="examples-again")
    if not history.has_losses:
        st.info(
            "An older version stored this run without losses. Decisions are known, but there is no "
            "map and there are no suspected label errors.", icon=":material/history:",
        )  # fmt: skip
    elif len(history.losses_R) < history.epochs:
        st.caption(
            f"To save space, losses are stored for {len(history.losses_R):,} of the epochs; "
            "decisions are stored for all."
        )


def _show_epoch_and_step(history: ExampleHistory, statistics: ExampleStatistics) -> None:
    last = statistics.epochs - 1
    text = f"At the end of epoch {history.index_P[last] + 1:,}, step {history.step_P[last]:,}."
    if statistics.complete_epochs < statistics.epochs:
        text += " An incomplete epoch does not count as trained on or skipped."
    st.caption(text)


def _show_examples(run: RunSummary, task: type[Task], history: ExampleHistory) -> None:
    _show_run_facts(run, history)
    statistics = example_statistics(history, choose_epoch(history), task.loss_kind)
    _show_epoch_and_step(history, statistics)
    region = None
    if history.has_losses:
        st.header("The map")
        left, right = st.columns([7, 5], gap="large")
        with left:
            drawn = draw_data_map(run.run_id, statistics)
            if task.loss_kind != "cross_entropy":
                st.caption(_SQUARED_ERROR_NOTE)
            region = choose_region_by_numbers() or drawn
        if not map_is_drawn():
            with right:
                show_map_legend()
            st.caption("The sections below appear after the map.")
            return
    catalog = _load_catalog(run, history.n_examples)
    if history.has_losses:
        with right:
            show_map_region(run.run_id, statistics, region, catalog)
    if catalog is not None:
        if run.imported and catalog.is_local_data:
            st.caption(_IMPORTED_TEXTS_NOTE)
        st.header("Who was trained on")
        if statistics.complete_epochs:
            show_most_and_least_trained(statistics, catalog)
        else:
            st.caption("No epoch is complete yet.")
        st.header("Skipped, by class")
        show_class_shares(statistics, catalog)
        if history.has_losses:
            st.header("Suspected label errors")
            show_label_suspects(run.run_id, statistics, catalog)
    st.header("One example")
    show_example_history(history, statistics, catalog, task.loss_kind, task.loss_label)


_SQUARED_ERROR_NOTE = (
    "A squared error is not a probability. Confidence is therefore defined as e^(−loss ÷ the mean "
    "loss of the first epoch): 37% for the average error of the first epoch, 100% for no error."
)
_IMPORTED_TEXTS_NOTE = (
    "The texts come from this machine's Python. The run was trained with another machine's, which "
    "may differ."
)

st.title("Where did the computation go?")
st.caption("Which examples a run trained on, which it skipped, and how well it learned each.")
try:
    run = choose_run(shared_run_manager().store)
except StoreError as error:
    show_error(error, "The runs could not be listed.")
    st.stop()
if run is None:
    show_nothing_trained("its examples appear")
elif (task := _task_class(run)) is not None and (history := _load_history(run)) is not None:
    _show_examples(run, task, history)
