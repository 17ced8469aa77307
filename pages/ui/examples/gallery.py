"""Examples as people see them: pictures, regions of a picture, shaded text, or table rows."""

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

from effcore.examples.album import Album
from effcore.examples.history import Look
from effcore.figures.palette import COLOURS
from effcore.views import Portrait

#: Characters of a text that are shown, and how many texts at most: they take more room.
_CHARACTERS, _TEXTS = 240, 6
_STYLE: Final = f"""<style>
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


def gallery(album: Album, look: Look, numbers: Sequence[int], what: str) -> None:
    """Draw a few examples.

    Args:
        album: What they are.
        look: What is known of them.
        numbers: Which.
        what: What they have in common, for who cannot see them.
    """
    portraits = {number: album.portrait(number) for number in numbers}
    if not portraits:
        return
    if all(isinstance(one.item, Mapping) for one in portraits.values()):
        _table(look, portraits)
        return
    texts = any(isinstance(one.item, str) for one in portraits.values())
    shown = list(portraits.items())[: _TEXTS if texts else None]
    cells = "".join(_cell(look, number, one) for number, one in shown)
    st.html(
        f'{_STYLE}<div role="list" class="ex-gallery{" ex-texts" if texts else ""}" '
        f'aria-label="{html.escape(what)}">{cells}</div>'
    )
    if texts:
        st.caption("The stronger the shade, the lower the mean confidence.")


def _cell(look: Look, number: int, portrait: Portrait) -> str:
    item, given = portrait.item, portrait.given
    name = f"Example {number}, {given}" if given else f"Example {number}"
    said = "<br>".join(map(html.escape, facts_of(look, number)))
    head = f"<b>{html.escape(given)}</b> · {number}" if given else f"<b>{number}</b>"
    shown = _image(item, name) if isinstance(item, np.ndarray) else _text(look, number, str(item))
    text = f"<figcaption>{head}<br>{said}</figcaption>"
    return f'<div role="listitem"><figure>{shown}{text}</figure></div>'


def facts_of(look: Look, number: int) -> list[str]:
    """Return how often an example was trained on, and its mean confidence where it has one."""
    said = [f"{look.trained_N[number]} of {look.whole} passes"]
    if look.known_N[number]:
        said.append(f"confidence {look.confidence_N[number]:.0%}")
    return said


def _image(pixels: Any, name: str) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(name)}">'


def _text(look: Look, number: int, text: str) -> str:
    confidence = look.confidence_N[number]
    shade = 0 if np.isnan(confidence) else round(45 * (1 - float(confidence)))
    cut = text if len(text) <= _CHARACTERS else text[: _CHARACTERS - 1] + "…"
    return f'<pre style="--ex-shade: {shade}%">{html.escape(cut)}</pre>'


def _table(look: Look, portraits: Mapping[int, Portrait]) -> None:
    rows = pd.DataFrame([dict(one.item) for one in portraits.values()])  # type: ignore[arg-type]
    facts = pd.DataFrame(
        [
            {"Example": number, "Given": one.given, "Trained on": int(look.trained_N[number]),
             "Confidence": float(look.confidence_N[number])}
            for number, one in portraits.items()
        ]
    )  # fmt: skip
    st.dataframe(
        pd.concat([facts, rows], axis=1), hide_index=True, placeholder="–",
        column_config={"Confidence": st.column_config.NumberColumn(format="percent"),
                       "Example": st.column_config.NumberColumn(pinned=True)},
    )  # fmt: skip


def portrait_of(album: Album, look: Look, number: int) -> None:
    """Draw one example at its full size."""
    portrait = album.portrait(number)
    item = portrait.item
    if isinstance(item, Mapping):
        table = pd.DataFrame({"Column": list(item), "Value": list(item.values())})
        st.dataframe(table, hide_index=True, height=min(38 + 35 * len(table), 320))
        return
    name = f"Example {number}, {portrait.given}"
    shown = _image(item, name) if isinstance(item, np.ndarray) else _text(look, number, str(item))
    st.html(f'{_STYLE}<div class="ex-one">{shown}</div>')
