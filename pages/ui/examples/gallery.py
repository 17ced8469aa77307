"""Display of examples: pictures, regions of a picture, shaded texts, or table rows."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
import streamlit as st
from PIL import Image

from effcore.figures.palette import COLOURS
from effcore.insight.example_catalog import ExampleCatalog
from effcore.insight.example_history import ExampleStatistics
from effcore.records.views import ExampleDisplay

#: Most characters of a text that are shown, and most texts in a gallery.
_MAX_CHARACTERS, _MAX_TEXTS = 240, 6
_GALLERY_CSS: Final = f"""<style>
.ex-gallery {{ display: grid; gap: 12px 10px;
  grid-template-columns: repeat(auto-fill, minmax(88px, 1fr)); }}
.ex-gallery.ex-texts {{ grid-template-columns: repeat(auto-fill, minmax(min(100%, 260px), 1fr)); }}
.ex-one {{ max-width: 320px; }}
.ex-gallery figure {{ margin: 0; padding: 0; min-width: 0; }}
:is(.ex-gallery, .ex-one) img {{ display: block; width: 100%; image-rendering: pixelated;
  border-radius: 6px; }}
:is(.ex-gallery, .ex-one) pre {{ margin: 0; padding: 8px 10px; border-radius: 6px;
  white-space: pre-wrap; overflow-wrap: anywhere; font-size: 0.8rem; line-height: 1.45;
  height: 9em; overflow: hidden;
  background: color-mix(in srgb, {COLOURS["power"]} var(--ex-shade), transparent);
  border: 1px solid color-mix(in srgb, {COLOURS["dense"]} 30%, transparent); }}
.ex-gallery figcaption {{ margin-top: 4px; font-size: 0.78rem; line-height: 1.35; }}
.ex-gallery figcaption b {{ font-weight: 600; }}
</style>"""


def draw_gallery(
    catalog: ExampleCatalog, statistics: ExampleStatistics, numbers: Sequence[int], label: str
) -> None:
    """Draw a few examples.

    Args:
        catalog: Catalog of the examples.
        statistics: Statistics of the examples.
        numbers: Numbers of the examples to draw.
        label: Description of the gallery for screen readers.
    """
    portraits = {number: catalog.portrait(number) for number in numbers}
    if not portraits:
        return
    if all(isinstance(one.item, Mapping) for one in portraits.values()):
        _draw_portrait_table(statistics, portraits)
        return
    texts = any(isinstance(one.item, str) for one in portraits.values())
    shown = list(portraits.items())[: _MAX_TEXTS if texts else None]
    items = "".join(_gallery_item_html(statistics, number, one) for number, one in shown)
    st.html(
        f'{_GALLERY_CSS}<div role="list" class="ex-gallery{" ex-texts" if texts else ""}" '
        f'aria-label="{html.escape(label)}">{items}</div>'
    )
    if texts:
        st.caption("A stronger shade means a lower mean confidence.")


def _gallery_item_html(statistics: ExampleStatistics, number: int, portrait: ExampleDisplay) -> str:
    item, given = portrait.item, portrait.target_text
    name = f"Example {number}, {given}" if given else f"Example {number}"
    facts = "<br>".join(map(html.escape, example_facts(statistics, number)))
    head = f"<b>{html.escape(given)}</b> · {number}" if given else f"<b>{number}</b>"
    shown = (
        _image_html(item, name)
        if isinstance(item, np.ndarray)
        else _shaded_text_html(statistics, number, str(item))
    )
    text = f"<figcaption>{head}<br>{facts}</figcaption>"
    return f'<div role="listitem"><figure>{shown}{text}</figure></div>'


def example_facts(statistics: ExampleStatistics, number: int) -> list[str]:
    """Return how often an example was trained on, and its mean confidence if it is known."""
    facts = [f"{statistics.trained_N[number]} of {statistics.complete_epochs} epochs"]
    if statistics.known_N[number]:
        facts.append(f"confidence {statistics.confidence_N[number]:.0%}")
    return facts


def _image_html(pixels: Any, name: str) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(name)}">'


def _shaded_text_html(statistics: ExampleStatistics, number: int, text: str) -> str:
    confidence = statistics.confidence_N[number]
    shade = 0 if np.isnan(confidence) else round(45 * (1 - float(confidence)))
    cut = text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 1] + "…"
    return f'<pre style="--ex-shade: {shade}%">{html.escape(cut)}</pre>'


def _draw_portrait_table(
    statistics: ExampleStatistics, portraits: Mapping[int, ExampleDisplay]
) -> None:
    rows = pd.DataFrame([dict(one.item) for one in portraits.values()])  # type: ignore[arg-type]
    facts = pd.DataFrame(
        [
            {
                "Example": number,
                "Given": one.target_text,
                "Trained on": int(statistics.trained_N[number]),
                "Confidence": float(statistics.confidence_N[number]),
            }
            for number, one in portraits.items()
        ]
    )
    st.dataframe(
        pd.concat([facts, rows], axis=1), hide_index=True, placeholder="–",
        column_config={"Confidence": st.column_config.NumberColumn(format="percent"),
                       "Example": st.column_config.NumberColumn(pinned=True)},
    )  # fmt: skip


def draw_portrait(catalog: ExampleCatalog, statistics: ExampleStatistics, number: int) -> None:
    """Draw one example at its full size."""
    portrait = catalog.portrait(number)
    item = portrait.item
    if isinstance(item, Mapping):
        table = pd.DataFrame({"Column": list(item), "Value": list(item.values())})
        st.dataframe(table, hide_index=True, height=min(38 + 35 * len(table), 320))
        return
    name = f"Example {number}, {portrait.target_text}"
    shown = (
        _image_html(item, name)
        if isinstance(item, np.ndarray)
        else _shaded_text_html(statistics, number, str(item))
    )
    st.html(f'{_GALLERY_CSS}<div class="ex-one">{shown}</div>')
