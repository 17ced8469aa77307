"""What a reader states on the Energy page: kept in the page's address, and across other pages."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import streamlit as st

from effcore.impact.factors import factors
from effcore.impact.saving import Basis

_PREFIX: Final = "energy_"
_KEPT: Final = "energy_choices"
#: What a building's overhead may be taken to be.
PUE_CHOICES: Final = {
    "none": "Not applied (1.0)",
    "mean": "Mean of the 2025 survey (1.54)",
    "own": "My own",
}


#: What need not stand in the address.
_USUAL: Final = {"pue": "none"}


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no number")
    return value


def _one_of(known: Mapping[str, object] | type[Basis]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in list(known):
            raise ValueError(f"{text} is not known")
        return text

    return read


def _whole(text: str) -> int:
    number = int(text)
    if abs(number) > _MOST:  # what is merely impossible is said where it is used
        raise ValueError("too large")
    return number


def _short(text: str) -> str:
    if len(text) > 80 or not text.isprintable():
        raise ValueError("too long")
    return text


#: A field for numbers takes no larger ones.
_MOST: Final = 10**12
#: Name in the address -> how it is read from there. Whatever is not stated is ``None``.
CHOICES: Final[dict[str, Callable[[str], Any]]] = {
    "country": _one_of(factors()),
    "grid": _number,
    "grid_year": _whole,
    "grid_source": _short,
    "price": _number,
    "currency": _short,
    "pue": _one_of(PUE_CHOICES),
    "own_pue": _number,
    "hour_lo": _number,
    "hour_hi": _number,
    "gpus": _whole,
    "hours": _number,
    "watts_lo": _number,
    "watts_hi": _number,
    "use_lo": _number,
    "use_hi": _number,
    "saving": _one_of(Basis),
    "saved_lo": _number,
    "saved_hi": _number,
}


def key(name: str) -> str:
    """Return the key under which a choice's widget keeps its value."""
    return _PREFIX + name


def chosen(name: str) -> Any:
    """Return what was stated, or ``None``."""
    value = st.session_state.get(key(name))
    return None if value == "" else value


def restore() -> list[str]:
    """Fill the widgets from the address at first, and again after another page was open.

    Returns:
        What of the address could not be used, in words.
    """
    problems = []
    kept = st.session_state.get(_KEPT, {})
    for name, read in CHOICES.items():
        if key(name) in st.session_state:
            continue
        text = st.query_params.get(name)
        value = kept.get(name)
        if text is not None:
            try:
                value = read(text)
            except (ValueError, OverflowError):
                problems.append(f"{name}={text[:40]!r}")
        if value is not None:
            st.session_state[key(name)] = value
    return problems


def keep() -> None:
    """Remember what was stated, and write it into the address."""
    stated = {name: chosen(name) for name in CHOICES}
    st.session_state[_KEPT] = stated
    wanted = {
        name: str(value)
        for name, value in stated.items()
        if value is not None and value != _USUAL.get(name)
    }
    if (run := st.query_params.get("run")) is not None:
        wanted["run"] = run
    if st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)
