"""Inputs of the Energy page, kept in its address and while other pages are open."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection
from typing import Any, Final

import streamlit as st

from effcore.impact.grid_factors import load_grid_factors
from effcore.impact.saving import SavingBasis

_KEY_PREFIX: Final = "energy_"
_SAVED_INPUTS: Final = "energy_choices"
#: Choices for a building's overhead.
PUE_CHOICES: Final = {
    "none": "Not applied (1.0)",
    "mean": "Mean of the 2025 survey (1.54)",
    "own": "My own",
}


#: Values that are left out of the address.
_DEFAULTS: Final = {"pue": "none"}


class _InputFormatError(ValueError):
    """Raised for a text in the address that cannot be read; the message says what is expected."""


def _parse_number(text: str) -> float:
    with contextlib.suppress(ValueError):
        if math.isfinite(value := float(text)):
            return value
    raise _InputFormatError("a number")


def _choice_parser(allowed: Collection[str], expected: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise _InputFormatError(expected)
        return text

    return read


def _parse_integer(text: str) -> int:
    with contextlib.suppress(ValueError):
        if (
            abs(number := int(text)) <= _MAX_INTEGER
        ):  # impossible values are refused where they are used
            return number
    raise _InputFormatError("a whole number")


def _parse_short_text(text: str) -> str:
    if len(text) > _MAX_TEXT_LENGTH or not text.isprintable():
        raise _InputFormatError(f"a text of at most {_MAX_TEXT_LENGTH} characters")
    return text


#: Largest number, and longest text, that a field accepts.
_MAX_INTEGER: Final = 10**12
_MAX_TEXT_LENGTH: Final = 80
_BASES: Final = [str(basis) for basis in SavingBasis]
#: Parsers by name in the address. An input that is not stated is ``None``.
INPUT_PARSERS: Final[dict[str, Callable[[str], Any]]] = {
    "country": _choice_parser(
        load_grid_factors(), "a country's code of three letters, such as DEU"
    ),
    "grid": _parse_number,
    "grid_year": _parse_integer,
    "grid_source": _parse_short_text,
    "price": _parse_number,
    "currency": _parse_short_text,
    "pue": _choice_parser(PUE_CHOICES, f"one of {', '.join(PUE_CHOICES)}"),
    "own_pue": _parse_number,
    "hour_lo": _parse_number,
    "hour_hi": _parse_number,
    "gpus": _parse_integer,
    "hours": _parse_number,
    "watts_lo": _parse_number,
    "watts_hi": _parse_number,
    "use_lo": _parse_number,
    "use_hi": _parse_number,
    "saving": _choice_parser(_BASES, f"one of {', '.join(_BASES)}"),
    "saved_lo": _parse_number,
    "saved_hi": _parse_number,
}


def input_key(name: str) -> str:
    """Return the session key of an input's widget."""
    return _KEY_PREFIX + name


def input_value(name: str) -> Any:
    """Return a stated input, or ``None``."""
    value = st.session_state.get(input_key(name))
    return None if value == "" else value


def restore_inputs() -> list[str]:
    """Fill the widgets from the address, or with the values kept while another page was open.

    Returns:
        For each value in the address that cannot be used: what is expected, and the remedy.
    """
    problems = []
    kept = st.session_state.get(_SAVED_INPUTS, {})
    for name, read in INPUT_PARSERS.items():
        if input_key(name) in st.session_state:
            continue
        text = st.query_params.get(name)
        value = kept.get(name)
        if text is not None:
            try:
                value = read(text)
            except _InputFormatError as expected:
                problems.append(
                    f"{name}={text[:40]!r} is not allowed: expected {expected}; correct it in the "
                    "address, or state it in its field below"
                )
        if value is not None:
            st.session_state[input_key(name)] = value
    return problems


def save_inputs() -> None:
    """Keep the stated inputs, and write them into the address."""
    stated = {name: input_value(name) for name in INPUT_PARSERS}
    st.session_state[_SAVED_INPUTS] = stated
    wanted = {
        name: str(value)
        for name, value in stated.items()
        if value is not None and value != _DEFAULTS.get(name)
    }
    if (run := st.query_params.get("run")) is not None:
        wanted["run"] = run
    if st.query_params.to_dict() != wanted:
        st.query_params.from_dict(wanted)
