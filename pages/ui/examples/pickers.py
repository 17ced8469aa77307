"""Pickers of the run, the epoch and the example, kept in the page's address."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import streamlit as st

from effcore.insight.example_history import ExampleHistory
from effcore.store import RunSummary, Store, StoreError
from pages.ui.common import escape_markdown, shorten_untrusted_text, warn_unknown_run
from pages.ui.display_names import run_picker_label

_MAX_LISTED_RUNS: Final = 200
_RUN_KEY, _EPOCH_KEY, _NUMBER_KEY = "examples-run", "examples-pass", "examples-number"
#: The run and the number of epochs for which the other choices were made.
_CHOSEN_FOR_RUN_KEY, _EPOCH_COUNT_KEY = "examples-of", "examples-passes"
#: The run in the address if the store does not have it.
_MISSING_RUN_KEY: Final = "examples-lost"


def choose_run(store: Store) -> RunSummary | None:
    """Draw the picker, with the newest run by default; return ``None`` if there is no run.

    Raises:
        StoreError: The runs cannot be listed.
    """
    runs = {run.run_id: run for run in store.runs(_MAX_LISTED_RUNS)}
    requested = st.query_params.get("run")
    if (
        requested is not None
        and requested not in runs
        and (older := _find_older_run(store, requested)) is not None
    ):
        runs[requested] = older
    if not runs:
        return None
    if st.session_state.get(_RUN_KEY) not in runs:
        st.session_state[_RUN_KEY] = requested if requested in runs else next(iter(runs))
    if (missing := st.session_state.get(_MISSING_RUN_KEY)) is not None:
        warn_unknown_run(missing, "Another run is shown instead.")
    run_id = st.selectbox(
        "Run",
        list(runs),
        format_func=lambda one: run_picker_label(runs[one]),
        key=_RUN_KEY,
        on_change=_clear_missing_run,
        help=f"Lists the newest {_MAX_LISTED_RUNS} runs.",
    )
    st.query_params["run"] = run_id
    if st.session_state.get(_CHOSEN_FOR_RUN_KEY) != run_id:
        for key in (
            (_EPOCH_KEY, _NUMBER_KEY, _EPOCH_COUNT_KEY)
            if _CHOSEN_FOR_RUN_KEY in st.session_state
            else ()
        ):
            st.session_state.pop(key, None)
            st.query_params.pop({_EPOCH_KEY: "pass", _NUMBER_KEY: "example"}.get(key, ""), None)
        st.session_state[_CHOSEN_FOR_RUN_KEY] = run_id
    return runs[run_id]


def _find_older_run(store: Store, run_id: str) -> RunSummary | None:
    try:
        return store.summary(run_id)
    except StoreError:
        st.session_state[_MISSING_RUN_KEY] = run_id  # warn until another run is chosen
        return None


def _clear_missing_run() -> None:
    st.session_state.pop(_MISSING_RUN_KEY, None)


def choose_epoch(history: ExampleHistory) -> int:
    """Draw a slider over the run's epochs; return how many of them the page covers.

    By default the page covers all epochs, also when more are added.
    """
    epochs = history.epochs
    if epochs == 1:
        return 1
    last_count = st.session_state.get(_EPOCH_COUNT_KEY)
    picked = st.session_state.get(_EPOCH_KEY, _number_from_address("pass") or epochs)
    if picked == last_count:
        picked = epochs  # the slider was at its end, so it stays there
    # Set explicitly, since a slider whose range changes forgets its value.
    st.session_state[_EPOCH_KEY], st.session_state[_EPOCH_COUNT_KEY] = (
        min(max(picked, 1), epochs),
        epochs,
    )
    chosen = int(
        st.slider(
            "Up to epoch", 1, epochs, key=_EPOCH_KEY,
            help="The page shows the state at the end of this epoch.",
        )
    )  # fmt: skip
    _write_to_address("pass", chosen if chosen < epochs else None)
    return chosen


def choose_example_number(n: int, default: int) -> int:
    """Draw a field for the number of an example, which starts at 0."""
    picked = st.session_state.get(_NUMBER_KEY, _number_from_address("example"))
    default = default if picked is None else picked
    st.session_state[_NUMBER_KEY] = min(max(default, 0), n - 1)
    number = int(
        st.number_input(
            f"Number, 0 to {n - 1:,}", 0, n - 1, step=1, key=_NUMBER_KEY,
            help="Or pick a row of a table above. The map shows numbers under the pointer, too.",
        )
    )  # fmt: skip
    _write_to_address("example", number)
    return number


def select_example(number: int | None, source: str) -> None:
    """Select an example that was picked in a table; call it before the number field is drawn.

    Args:
        number: The picked example, if there is one.
        source: Name of the table; its previous pick is not selected again.
    """
    key = f"examples-picked-{source}"
    if number is not None and st.session_state.get(key) != number:
        st.session_state[_NUMBER_KEY] = number
    st.session_state[key] = number


def _number_from_address(name: str) -> int | None:
    """Return a whole number from the address, or warn if it is invalid."""
    text = st.query_params.get(name)
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    st.warning(
        f"Ignored in the address: {escape_markdown(name)}={shorten_untrusted_text(text)} is not a "
        "number.",
        icon=":material/link_off:",
    )
    return None


def _write_to_address(name: str, value: int | None) -> None:
    if value is None:
        st.query_params.pop(name, None)
    else:
        st.query_params[name] = str(value)


def picked_example(rows: Sequence[int], chosen: Sequence[int]) -> int | None:
    """Return the example in the selected row of a table, if there is one."""
    return rows[chosen[0]] if chosen and chosen[0] < len(rows) else None
