"""What this machine can measure, as a table."""

from __future__ import annotations

import os
from typing import Final

import streamlit as st

from effcore.energy.source_survey import SourceStatus, survey_sources
from effcore.energy.sources.cpu_estimate import logical_cores
from effcore.energy.tdp import TDP_RANGE_W, TDP_VARIABLE, store_tdp, stored_tdp_w
from effcore.events import Quality
from pages.ui.amounts import text_table
from pages.ui.frame import plain

#: Asking instruments takes a moment, and what a machine has hardly changes.
_GOOD_FOR_S = 60
_RATED: Final = "energy_rated_power"


@st.cache_data(ttl=_GOOD_FOR_S, show_spinner=False)
def sources() -> list[SourceStatus]:
    """Return what every source of energy answers, asked at most once a minute."""
    return survey_sources()


def show_sources() -> None:
    """Draw the table, and above it what is the best there is."""
    found = sources()
    st.markdown(best_words(found))
    text_table([_row(source) for source in found])
    processor = [source for source in found if source.id == "cpu-model"]
    if processor and not any(s.available and s.quality is not Quality.ESTIMATED for s in found):
        _ask_rated_power()


def _ask_rated_power() -> None:
    """Let the reader state what the processor's joules can be estimated from."""
    stated = os.environ.get(TDP_VARIABLE, "")
    kept, (lo, hi) = stored_tdp_w(), TDP_RANGE_W
    st.number_input(
        "This processor's rated power (TDP), W",
        lo, hi, kept, key=_RATED, step=1.0, format="%g", placeholder="not stated",
        disabled=bool(stated), on_change=_keep_rated_power, width=320,
        help=f"Of the {logical_cores()} logical cores that this process may use; the data sheet "
        "tells. Joules are then estimated, as a range, from the next run on. Kept on this machine.",
    )  # fmt: skip
    if stated:
        st.caption(plain(f"{TDP_VARIABLE}={stated} holds for this process, not what is kept here."))
    elif kept is not None:
        st.button("Forget it", icon=":material/undo:", key="energy_forget", on_click=_forget,
                  help="There are no joules without it, from the next run on.")  # fmt: skip


def _forget() -> None:
    st.session_state[_RATED] = None
    _keep_rated_power()


def _keep_rated_power() -> None:
    try:
        store_tdp(st.session_state[_RATED])
    except OSError as error:
        st.error(f"The rated power could not be kept. {plain(error)}", icon=":material/error:")
    sources.clear()


def best_words(found: list[SourceStatus]) -> str:
    """Return what the best source that can be read amounts to, in a sentence."""
    available = [source for source in found if source.available]
    if not available:
        return (
            "**Nothing here tells joules.** Runs are compared by FLOPs and seconds, which are "
            "counted and timed everywhere."
        )
    best = available[0]
    if best.quality is Quality.ESTIMATED:
        return (
            "**Nothing here measures joules; they can only be estimated.** Runs are therefore "
            "compared by FLOPs and seconds: an estimate restates processor time and shows no "
            "saving of its own."
        )
    return f"**Joules here are {best.quality.value}**: {plain(best.title)}, {plain(best.scope)}."


def _row(source: SourceStatus) -> dict[str, str]:
    quality = source.quality.value.upper()
    if source.available:
        return {
            "Source": source.title,
            "Joules here": quality,
            "What it covers, or why not": _sentence(f"{source.scope}, by {source.source}"),
        }
    return {
        "Source": source.title,
        "Joules here": f"none (would be {quality})",
        "What it covers, or why not": _sentence(f"{source.reason}. Remedy: {source.remedy}"),
    }


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
