"""Shared parts of the explanation: sections, charts, links, citations and the glossary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from effcore.figures.run_charts import PlotlySpec
from effcore.records.settings import Settings
from pages.ui.tables import text_table

#: Papers by short name: citation and URL.
_PAPERS: Final = {
    "horvitz": ("Horvitz and Thompson 1952", "https://doi.org/10.1080/01621459.1952.10483446"),
    "infobatch": ("Qin et al. 2024, InfoBatch", "https://arxiv.org/abs/2303.04947"),
    "kaddour": ("Kaddour et al. 2023, No Train No Gain", "https://arxiv.org/abs/2307.06440"),
    "kakurenbo": ("Nguyen et al. 2023, KAKURENBO", "https://arxiv.org/abs/2310.10102"),
    "katharopoulos": ("Katharopoulos and Fleuret 2018", "https://arxiv.org/abs/1803.00942"),
    "random": ("Okanovic et al. 2024", "https://arxiv.org/abs/2305.18424"),
    "rho": ("Mindermann et al. 2022, RHO-LOSS", "https://arxiv.org/abs/2206.07137"),
    "sb": ("Jiang et al. 2019, Selective-Backprop", "https://arxiv.org/abs/1910.00762"),
}
#: Terms of the other pages, in the order in which they appear.
_GLOSSARY: Final = {
    "Loss": "How wrong the model was about an example; 0 means exactly right.",
    "Example, batch, step": "One item of the data; the examples trained on together; one update.",
    "Epoch": "Once through the data. Each example is considered: trained on or skipped.",
    "Gradient mass": "An example's share of all gradients, estimated from its loss.",
    "Policy, knob": "A rule that decides what is trained on; a setting of it that you move live.",
    "Inclusion probability π": "The chance that an epoch draws an example. A policy sets it.",
    "FLOP": "One multiplication or addition; the unit of computation.",
    "Skipped": "Share of computation left out of the considered examples; selection costs count.",
    "Saved": "Share of full training's computation that a run did not spend.",
    "Full training (D100)": "Training on every example in every epoch; 100% of the compute.",
    "Same-budget training (D-B)": "Normal training that is shortened to the budget, with its "
    "learning rate falling to zero within it.",
    "Seed": "Fixes everything random in a run. Variants are compared on the same seeds.",
    "Interval": "Holds the true difference in 95 of 100 cases, judged by the spread over seeds.",
    "Not inferior": "Worse by no more than a margin that was fixed beforehand.",
    "Joules": "Energy. Every figure states whether it is measured, modelled or estimated.",
}


def cite_paper(name: str) -> str:
    """Return a paper as a link in Markdown."""
    citation, url = _PAPERS[name]
    return f"[{citation}]({url})"


def begin_section(title: str, text: str) -> tuple[DeltaGenerator, DeltaGenerator]:
    """Begin a section; return the columns for its controls and for its chart."""
    st.header(title)
    st.write(text)
    left, right = st.columns([5, 7], gap="large")
    return left, right


def show_takeaway(name: str, text: str) -> None:
    """Show the conclusion of a section, which changes with its sliders."""
    with st.container(key=f"seen-{name}"):
        st.markdown(text)


def draw_chart_and_table(
    name: str, figure: PlotlySpec, alt: str, rows: Sequence[Mapping[str, str]]
) -> None:
    """Draw a chart, and the same data as a table."""
    st.plotly_chart(figure, key=f"how-{name}", alt=alt, config={"displayModeBar": False})
    with st.expander("The chart as a table"):
        text_table(rows)


def link_to_live(links: Sequence[tuple[str, Settings]], paper: str) -> None:
    """Link to the Live page with policies set, and cite the papers.

    Args:
        links: Labels and settings, as in the Live page's address.
        paper: Citation in Markdown.
    """
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.markdown("Try it on Live:", width="content")
        for label, settings in links:
            st.page_link(
                "live.py", label=label, icon=":material/monitoring:",
                query_params={name: _setting_text(value) for name, value in settings.items()},
            )  # fmt: skip
    st.markdown(f":small[{paper}]")


def _setting_text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def recolour_slider_values() -> None:
    """Show slider values in the colour of links, which has enough contrast in both themes."""
    light, dark = (st.get_option(f"theme.{scheme}.linkColor") for scheme in ("light", "dark"))
    st.html(
        f"""<style>
        [data-testid="stSliderThumbValue"] p {{ color: light-dark({light}, {dark}); }}
        </style>"""
    )


def show_glossary() -> None:
    """Show a table of the terms on the other pages."""
    text_table([{"Word": word, "What it means": text} for word, text in _GLOSSARY.items()])
