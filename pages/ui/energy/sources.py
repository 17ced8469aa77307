"""What this machine can measure, as a table."""

from __future__ import annotations

import streamlit as st

from effcore.energy.survey import SourceStatus, survey
from effcore.events import Quality
from pages.ui.amounts import text_table
from pages.ui.frame import plain

#: Asking instruments takes a moment, and what a machine has hardly changes.
_GOOD_FOR_S = 60


@st.cache_data(ttl=_GOOD_FOR_S, show_spinner=False)
def sources() -> list[SourceStatus]:
    """Return what every source of energy answers, asked at most once a minute."""
    return survey()


def show_sources() -> None:
    """Draw the table, and above it what is the best there is."""
    found = sources()
    st.markdown(best_words(found))
    text_table([_row(source) for source in found])


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
