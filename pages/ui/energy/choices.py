"""What a reader states on the Energy page: kept in the page's address, and across other pages."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection
from typing import Any, Final

import streamlit as st

from effcore.impact.grid_factors import load_grid_factors
from effcore.impact.saving import SavingBasis

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


class _UnreadError(ValueError):
    """A text of the address cannot be read; says what is expected."""


def _number(text: str) -> float:
    with contextlib.suppress(ValueError):
        if math.isfinite(value := float(text)):
            return value
    raise _UnreadError("a number")


def _one_of(known: Collection[str], said: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in known:
            raise _UnreadError(said)
        return text

    return read


def _whole(text: str) -> int:
    with contextlib.suppress(ValueError):
        if abs(number := int(text)) <= _MOST:  # what is merely impossible is said where it is used
            return number
    raise _UnreadError("a whole number")


def _short(text: str) -> str:
    if len(text) > _LONGEST or not text.isprintable():
        raise _UnreadError(f"a text of at most {_LONGEST} characters")
    return text


#: A field for numbers takes no larger ones, and one for texts no longer ones.
_MOST: Final = 10**12
_LONGEST: Final = 80
_BASES: Final = [str(basis) for basis in SavingBasis]
#: Name in the address -> how it is read from there. Whatever is not stated is ``None``.
CHOICES: Final[dict[str, Callable[[str], Any]]] = {
    "country": _one_of(load_grid_factors(), "a country's code of three letters, such as DEU"),
    "grid": _number,
    "grid_year": _whole,
    "grid_source": _short,
    "price": _number,
    "currency": _short,
    "pue": _one_of(PUE_CHOICES, f"one of {', '.join(PUE_CHOICES)}"),
    "own_pue": _number,
    "hour_lo": _number,
    "hour_hi": _number,
    "gpus": _whole,
    "hours": _number,
    "watts_lo": _number,
    "watts_hi": _number,
    "use_lo": _number,
    "use_hi": _number,
    "saving": _one_of(_BASES, f"one of {', '.join(_BASES)}"),
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
        What of the address could not be used, what is expected there, and the remedy.
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
            except _UnreadError as expected:
                problems.append(
                    f"{name}={text[:40]!r} is not allowed: expected {expected}; correct it in the "
                    "address, or state it in its field below"
                )
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
