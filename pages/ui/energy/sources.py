"""What this machine can measure, as a table."""

from __future__ import annotations

import os
from typing import Final

import streamlit as st

from effcore.energy.source_survey import SourceStatus, survey_sources
from effcore.energy.sources.cpu_estimate import logical_cores
from effcore.energy.tdp import TDP_RANGE_W, TDP_VARIABLE, store_tdp, stored_tdp_w
from effcore.records import EnergyQuality
from pages.ui.common import escape_markdown
from pages.ui.tables import text_table

#: Asking instruments takes a moment, and what a machine has hardly changes.
_CACHE_S = 60
_TDP_KEY: Final = "energy_rated_power"


@st.cache_data(ttl=_CACHE_S, show_spinner=False)
def cached_source_survey() -> list[SourceStatus]:
    """Return what every source of energy answers, asked at most once a minute."""
    return survey_sources()


def show_source_table() -> None:
    """Draw the table, and above it what is the best there is."""
    found = cached_source_survey()
    st.markdown(best_source_text(found))
    text_table([_source_row(source) for source in found])
    processor = [source for source in found if source.id == "cpu-model"]
    if processor and not any(
        s.available and s.quality is not EnergyQuality.ESTIMATED for s in found
    ):
        _choose_tdp()


def _choose_tdp() -> None:
    """Let the reader state what the processor's joules can be estimated from."""
    stated = os.environ.get(TDP_VARIABLE, "")
    kept, (lo, hi) = stored_tdp_w(), TDP_RANGE_W
    st.number_input(
        "This processor's rated power (TDP), W",
        lo, hi, kept, key=_TDP_KEY, step=1.0, format="%g", placeholder="not stated",
        disabled=bool(stated), on_change=_store_tdp, width=320,
        help=f"Of the {logical_cores()} logical cores that this process may use; the data sheet "
        "tells. Joules are then estimated, as a range, from the next run on. Kept on this machine.",
    )  # fmt: skip
    if stated:
        st.caption(
            escape_markdown(
                f"{TDP_VARIABLE}={stated} holds for this process, not what is kept here."
            )
        )
    elif kept is not None:
        st.button("Forget it", icon=":material/undo:", key="energy_forget", on_click=_forget_tdp,
                  help="There are no joules without it, from the next run on.")  # fmt: skip


def _forget_tdp() -> None:
    st.session_state[_TDP_KEY] = None
    _store_tdp()


def _store_tdp() -> None:
    try:
        store_tdp(st.session_state[_TDP_KEY])
    except OSError as error:
        st.error(
            f"The rated power could not be kept. {escape_markdown(error)}", icon=":material/error:"
        )
    cached_source_survey.clear()


def best_source_text(sources: list[SourceStatus]) -> str:
    """Return what the best source that can be read amounts to, in a sentence."""
    available = [source for source in sources if source.available]
    if not available:
        return (
            "**This machine has no energy meter.** Runs are compared by computation and time "
            "instead."
        )
    best = available[0]
    if best.quality is EnergyQuality.ESTIMATED:
        return (
            "**Nothing here measures joules; they can only be estimated.** Runs are therefore "
            "compared by FLOPs and seconds: an estimate restates processor time and shows no "
            "saving of its own."
        )
    title, scope = escape_markdown(best.title), escape_markdown(best.scope)
    return f"**Joules here are {best.quality.value}**: {title}, {scope}."


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
