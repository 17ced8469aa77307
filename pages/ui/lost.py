"""Addresses that lead to no page: Streamlit would say so in a box and show another one."""

from __future__ import annotations

from collections.abc import Container
from urllib.parse import unquote, urlsplit


def lost_name(url: str | None, known: Container[str]) -> str | None:
    """Return the name in an address that no page has; ``None`` where a page has it.

    Args:
        url: Of the app as the browser has it, if that is known.
        known: Names that lead somewhere.
    """
    # Streamlit, too, drops what is blank around a name: it allows none that is there twice.
    name = unquote(urlsplit(url or "").path).strip("/").strip()
    return None if not name or "/" in name or name in known else name
