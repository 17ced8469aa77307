"""The screen of presenter mode: nothing of the frame, everything large, two keys."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from pages.ui.assets import text_of

_HERE = Path(__file__).parent
#: The container whose link or button Escape presses.
LEAVE = "present-leave"

_bar = st.components.v2.component(
    "effcore_screen",
    html=text_of(_HERE / "screen.html"),
    css=text_of(_HERE / "screen.css"),
    js=text_of(_HERE / "screen.js"),
    isolate_styles=False,
)


def bare() -> None:
    """Hide the frame, and set all type by the width of the screen."""
    st.html(
        """<style>
        :is([data-testid="stHeader"], [data-testid="stSidebar"]) { display: none !important; }
        :root { font-size: clamp(15px, 1.45vw, 44px) !important; }
        [data-testid="stMainBlockContainer"] {
          max-width: none; padding: 0 2.2vw 0.5rem !important;
        }
        </style>"""
    )


def screen_bar() -> None:
    """Offer the whole screen, by a button or the key F; Escape presses what leaves."""
    _bar(key="screen", data={"leave": f".st-key-{LEAVE}"})


def offer_to_present(**query: str) -> None:
    """Link to presenter mode.

    Args:
        **query: What to present: a ``run``, a ``study`` or a ``sweep``.
    """
    st.page_link(
        "present.py", label="Present", icon=":material/cast:", query_params=query,
        help="One run or verdict in large type, for a projector.",
    )  # fmt: skip
