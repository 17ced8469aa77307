"""Which run the page is about, up to which pass, and which example of it; kept in the address."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import streamlit as st

from effcore.insight.example_history import ExampleHistory
from effcore.store import RunSummary, Store, StoreError
from pages.ui.common import escape_markdown, shorten_untrusted_text
from pages.ui.display_names import run_picker_label

_MAX_LISTED_RUNS: Final = 200
_RUN_KEY, _EPOCH_KEY, _NUMBER_KEY = "examples-run", "examples-pass", "examples-number"
#: What the choices below belong to: a run, and how many of its passes there were.
_CHOSEN_FOR_RUN_KEY, _EPOCH_COUNT_KEY = "examples-of", "examples-passes"
#: The run that an address asked for and that is not there.
_MISSING_RUN_KEY: Final = "examples-lost"


def choose_run(store: Store) -> RunSummary | None:
    """Let the reader choose a run, the newest at first; ``None`` where there is none.

    Raises:
        StoreError: The runs cannot be listed.
    """
    runs = {run.run_id: run for run in store.runs(_MAX_LISTED_RUNS)}
    asked = st.query_params.get("run")
    if (
        asked is not None
        and asked not in runs
        and (older := _find_older_run(store, asked)) is not None
    ):
        runs[asked] = older
    if not runs:
        return None
    if st.session_state.get(_RUN_KEY) not in runs:
        st.session_state[_RUN_KEY] = asked if asked in runs else next(iter(runs))
    if (lost := st.session_state.get(_MISSING_RUN_KEY)) is not None:
        st.warning(
            f"There is no run {shorten_untrusted_text(lost)} in this store. It may have been "
            "deleted, or the "
            "address comes from another machine. This is another one.",
            icon=":material/link_off:",
        )
    run_id = st.selectbox(
        "Run",
        list(runs),
        format_func=lambda one: run_picker_label(runs[one]),
        key=_RUN_KEY,
        on_change=_clear_missing_run,
        help=f"The newest {_MAX_LISTED_RUNS} runs at most.",
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
        st.session_state[_MISSING_RUN_KEY] = run_id  # said until another is chosen
        return None


def _clear_missing_run() -> None:
    st.session_state.pop(_MISSING_RUN_KEY, None)


def choose_epoch(history: ExampleHistory) -> int:
    """Let the reader go through the run's time; returns how many stored passes are looked at.

    At first that is all of them, and stays so while more come.
    """
    passes = history.epochs
    if passes == 1:
        return 1
    before = st.session_state.get(_EPOCH_COUNT_KEY)
    picked = st.session_state.get(_EPOCH_KEY, _number_from_address("pass") or passes)
    if picked == before:
        picked = passes  # it was the last one
    # A slider whose ends change forgets where it stood.
    st.session_state[_EPOCH_KEY], st.session_state[_EPOCH_COUNT_KEY] = (
        min(max(picked, 1), passes),
        passes,
    )
    chosen = int(
        st.slider(
            "Up to pass", 1, passes, key=_EPOCH_KEY,
            help="Everything below is as it was by the end of that pass.",
        )
    )  # fmt: skip
    _write_to_address("pass", chosen if chosen < passes else None)
    return chosen


def choose_example_number(n: int, default: int) -> int:
    """Let the reader choose an example by its number, from 0 on."""
    picked = st.session_state.get(_NUMBER_KEY, _number_from_address("example"))
    default = default if picked is None else picked
    st.session_state[_NUMBER_KEY] = min(max(default, 0), n - 1)
    number = int(
        st.number_input(
            f"Number, 0 to {n - 1:,}", 0, n - 1, step=1, key=_NUMBER_KEY,
            help="Or pick a row of a table above. Pointed at, the map says numbers, too.",
        )
    )  # fmt: skip
    _write_to_address("example", number)
    return number


def select_example(number: int | None, source: str) -> None:
    """Turn to an example that was just picked elsewhere on the page; before it is drawn.

    Args:
        number: The example, if one is picked there.
        source: Where; what was picked there before is not picked anew.
    """
    key = f"examples-picked-{source}"
    if number is not None and st.session_state.get(key) != number:
        st.session_state[_NUMBER_KEY] = number
    st.session_state[key] = number


def _number_from_address(name: str) -> int | None:
    """Return a whole number out of the address, or say that it is none."""
    text = st.query_params.get(name)
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    st.warning(
        f"Left out of the address: {escape_markdown(name)}={shorten_untrusted_text(text)} is no "
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
    """Return the example in the row of a table that is picked, if one is."""
    return rows[chosen[0]] if chosen and chosen[0] < len(rows) else None
