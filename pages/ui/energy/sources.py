"""Table of the energy sources of this machine."""

from __future__ import annotations

import os
from typing import Final

import streamlit as st

from effcore.energy.sources.cpu_estimate import (
    TDP_RANGE_W,
    TDP_VARIABLE,
    logical_cores,
    store_tdp,
    stored_tdp_w,
)
from effcore.energy.sources.survey import SourceStatus, survey_sources
from effcore.records import EnergyQuality
from pages.ui.common import escape_markdown, show_error
from pages.ui.tables import text_table

#: Lifetime of the cached survey, s: a survey is slow, and the sources hardly change.
_CACHE_S = 60
_TDP_KEY: Final = "energy_rated_power"


@st.cache_data(ttl=_CACHE_S, show_spinner=False)
def cached_source_survey() -> list[SourceStatus]:
    """Return the status of every energy source, surveyed at most once a minute."""
    return survey_sources()


def show_source_table() -> None:
    """Draw the table, with a sentence on the best source above it."""
    sources = cached_source_survey()
    st.markdown(_best_source_text(sources))
    text_table([_source_row(source) for source in sources])
    has_cpu_estimate = any(source.id == "cpu-model" for source in sources)
    if has_cpu_estimate and not any(
        s.available and s.quality is not EnergyQuality.ESTIMATED for s in sources
    ):
        _choose_tdp()


def _choose_tdp() -> None:
    """Draw the field for the processor's TDP, from which its energy can be estimated."""
    stated = os.environ.get(TDP_VARIABLE, "")
    kept, (lo, hi) = stored_tdp_w(), TDP_RANGE_W
    st.number_input(
        "This processor's rated power (TDP), W",
        lo, hi, kept, key=_TDP_KEY, step=1.0, format="%g", placeholder="not stated",
        disabled=bool(stated), on_change=_store_tdp, width=320,
        help=f"Rated power of the {logical_cores()} logical cores that this process may use, from "
        "the processor's data sheet. Energy is then estimated, as a range, from the next run on. "
        "The value is stored on this machine.",
    )  # fmt: skip
    if stated:
        st.caption(
            escape_markdown(f"{TDP_VARIABLE}={stated} overrides the stored value in this process.")
        )
    elif kept is not None:
        st.button("Forget it", icon=":material/undo:", key="energy_forget", on_click=_forget_tdp,
                  help="From the next run on, energy is not estimated any more.")  # fmt: skip


def _forget_tdp() -> None:
    st.session_state[_TDP_KEY] = None
    _store_tdp()


def _store_tdp() -> None:
    try:
        store_tdp(st.session_state[_TDP_KEY])
    except OSError as error:
        show_error(error, "The rated power could not be stored.")
    cached_source_survey.clear()


def _best_source_text(sources: list[SourceStatus]) -> str:
    available = [source for source in sources if source.available]
    if not available:
        return (
            "**This machine has no energy meter.** Runs are compared by computation and time "
            "instead."
        )
    best = available[0]
    if best.quality is EnergyQuality.ESTIMATED:
        return (
            "**This machine has no energy meter; energy can only be estimated.** Runs are "
            "therefore compared by computation and time: an estimate follows processor time and "
            "cannot prove a saving of energy."
        )
    title, scope = escape_markdown(best.title), escape_markdown(best.scope)
    return f"**Energy is {best.quality.value} here**: {title}, {scope}."


def _source_row(source: SourceStatus) -> dict[str, str]:
    quality = source.quality.value.upper()
    if source.available:
        return {
            "Source": source.title,
            "Joules here": quality,
            "What it covers, or why not": _as_sentence(f"{source.scope}, by {source.source}"),
        }
    return {
        "Source": source.title,
        "Joules here": f"none (would be {quality})",
        "What it covers, or why not": _as_sentence(f"{source.reason}. Remedy: {source.remedy}"),
    }


def _as_sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
