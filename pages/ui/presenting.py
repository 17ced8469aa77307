"""Presenter mode of a page: the frame is hidden, type is large, and two keys control the screen.

A page presents what it shows while its address has the parameter ``present``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import plotly.graph_objects as go
import streamlit as st

from pages.ui.assets import read_texts

PRESENT_PARAMETER: Final = "present"
#: The container whose link or button Escape presses.
LEAVE_KEY: Final = "present-leave"
#: Key prefix of the elements that fill the remaining height of the screen.
FILL_KEY_PREFIX: Final = "present-fills"
#: Container keys of the elements in the largest type: the sentence, and each number.
SENTENCE_KEY: Final = "present-sentence"
NUMBER_KEY_PREFIX: Final = "present-saved"

_HERE = Path(__file__).parent
_bar_component = st.components.v2.component(
    "effcore_screen",
    html=read_texts(_HERE / "presenting.html"),
    css=read_texts(_HERE / "presenting.css"),
    js=read_texts(_HERE / "presenting.js"),
    isolate_styles=False,
)


def is_presenting() -> bool:
    """Return whether the address asks for presenter mode."""
    return PRESENT_PARAMETER in st.query_params


def show_address() -> None:
    """Show the address in the browser, which a link from a page to itself does not do."""
    st.query_params.from_dict(st.query_params.to_dict())


def link_to_present(
    page: str, label: str = "Present", icon: str = ":material/cast:", **query: str
) -> None:
    """Link to a page in presenter mode.

    Args:
        page: File of the page.
        label: Text of the link.
        icon: Its icon.
        **query: What to present, as the page has it in its address.
    """
    st.page_link(
        page, label=label, icon=icon, query_params={**query, PRESENT_PARAMETER: "1"},
        help="One run or verdict in large type, for a projector.",
    )  # fmt: skip


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
        .st-key-{SENTENCE_KEY} p {{ font-size: clamp(1.3rem, 2.5vw, 2rem); line-height: 1.25;
          font-weight: 650; letter-spacing: -0.01em; }}
        [class*="st-key-{NUMBER_KEY_PREFIX}"] p {{ font-size: clamp(1.6rem, 3.2vw, 2.6rem); }}
        [class*="st-key-{NUMBER_KEY_PREFIX}"] [data-testid="stCaptionContainer"] p {{
          font-size: 1rem; }}
        [class*="st-key-{NUMBER_KEY_PREFIX}"] {{ gap: 0; }}
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


def show_nothing_to_present() -> None:
    """Show how to get something to present."""
    st.title("Nothing to present yet")
    st.write(
        "Open a run on Live or Runs, a study on Compare or a sweep on Frontier, and press "
        "*Present*. A run that is training is shown until it ends."
    )


def draw_leave_bar(page: str, label: str, **query: str) -> None:
    """Draw the link that leaves presenter mode, and the full-screen button.

    Args:
        page: File of the page.
        label: Its name.
        **query: What it shows after that, as it has it in its address.
    """
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.container(key=LEAVE_KEY, width="content"):
            st.page_link(page, label=label, icon=":material/arrow_back:", query_params=query)
        draw_fullscreen_bar()


def draw_fullscreen_bar() -> None:
    """Draw the full-screen button (key F); Escape presses what is in the leave container."""
    _bar_component(key="screen", data={"leave": f".st-key-{LEAVE_KEY}"})


def draw_large_chart(figure: go.Figure, name: str) -> None:
    """Draw a figure with large type in the remaining height of the screen.

    Args:
        figure: The figure, which is changed.
        name: Unique name of the chart on this screen.
    """
    figure.update_layout(font={"size": 20}, legend={"font": {"size": 18}}, height=None)
    figure.update_xaxes(tickfont={"size": 18}, title_font={"size": 18})
    figure.update_yaxes(tickfont={"size": 18}, title_font={"size": 18})
    figure.update_annotations(font={"size": 18})
    st.plotly_chart(
        figure, height="stretch", key=f"{FILL_KEY_PREFIX}-{name}", config={"displayModeBar": False}
    )
