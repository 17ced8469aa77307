"""The screen of presenter mode: nothing of the frame, everything large, two keys."""

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


#: Prefix of the keys of what takes the height that the rest of the screen leaves.
FILL_KEY_PREFIX = "present-fills"


def hide_page_frame() -> None:
    """Hide the frame, set all type by the size of the screen, and use its whole height.

    Elements whose key begins with :data:`FILL_KEY_PREFIX` shrink, so that nothing lies below
    the screen's edge; a phone scrolls.
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
    """Offer the whole screen, by a button or the key F; Escape presses what leaves."""
    _bar_component(key="screen", data={"leave": f".st-key-{LEAVE_KEY}"})


def link_to_present(**query: str) -> None:
    """Link to presenter mode.

    Args:
        **query: What to present: a ``run``, a ``study`` or a ``sweep``.
    """
    st.page_link(
        "present.py", label="Present", icon=":material/cast:", query_params=query,
        help="One run or verdict in large type, for a projector.",
    )  # fmt: skip
