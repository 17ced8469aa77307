"""Presenter mode: the page frame is hidden, type is large, and two keys control the screen."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from pages.ui.assets import read_texts

_HERE = Path(__file__).parent
#: The container whose link or button Escape presses.
LEAVE_KEY = "present-leave"

_bar_component = st.components.v2.component(
    "effcore_screen",
    html=read_texts(_HERE / "screen.html"),
    css=read_texts(_HERE / "screen.css"),
    js=read_texts(_HERE / "screen.js"),
    isolate_styles=False,
)


#: Key prefix of the elements that fill the remaining height of the screen.
FILL_KEY_PREFIX = "present-fills"


def hide_page_frame() -> None:
    """Hide the page frame, scale all type with the screen, and use its whole height.

    Elements whose key begins with :data:`FILL_KEY_PREFIX` shrink, so that everything fits on the
    screen; a phone scrolls.
    """
    st.html(
        f"""<style>
        :is([data-testid="stHeader"], [data-testid="stSidebar"]) {{ display: none !important; }}
        :root {{ font-size: clamp(15px, min(1.45vw, 2.4vh), 44px) !important; }}
        [data-testid="stMainBlockContainer"] {{
          max-width: none; padding: 0 2.2vw 0.5rem !important;
        }}
        .st-key-{FILL_KEY_PREFIX}-forest {{ height: 300px; }}
        @media (min-width: 701px) {{
          :has(> [class*="st-key-{FILL_KEY_PREFIX}"]) {{
            height: max(100dvh - 0.5rem, 600px); gap: 0.7rem !important;
          }}
          [class*="st-key-{FILL_KEY_PREFIX}"] {{
            flex: 1 1 0 !important; height: auto; min-height: 180px; }}
          [class*="st-key-{FILL_KEY_PREFIX}"] :has(.ec-live) {{ height: 100%; }}
        }}
        </style>"""
    )


def draw_fullscreen_bar() -> None:
    """Draw the full-screen button (key F); Escape presses the leave button."""
    _bar_component(key="screen", data={"leave": f".st-key-{LEAVE_KEY}"})


def link_to_present(**query: str) -> None:
    """Link to presenter mode.

    Args:
        **query: Id of what to present, as ``run``, ``study`` or ``sweep``.
    """
    st.page_link(
        "present.py", label="Present", icon=":material/cast:", query_params=query,
        help="One run or verdict in large type, for a projector.",
    )  # fmt: skip
