"""Inputs of the Energy page, without default values; they are kept in its address."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection
from typing import Any, Final

import streamlit as st

from effcore.impact.assumptions import PUE_MEAN_2025, PUE_NOT_APPLIED, ElectricityPrice, Pue
from effcore.impact.grid_factors import (
    ANY_HOUR_SPREAD,
    RECURRING_USE_SPREAD,
    GridFactor,
    GridSpread,
    country_factor,
    load_grid_factors,
    stated_factor,
)
from effcore.impact.ranges import ImpactError, Range, exact_range, full_precision_text
from effcore.impact.saving import SavingBasis

_KEY_PREFIX: Final = "energy_"
_SAVED_INPUTS: Final = "energy_choices"
#: Choices for a building's overhead.
_PUE_CHOICES: Final = {
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
_INPUT_PARSERS: Final[dict[str, Callable[[str], Any]]] = {
    "country": _choice_parser(
        load_grid_factors(), "a country's code of three letters, such as DEU"
    ),
    "grid": _parse_number,
    "grid_year": _parse_integer,
    "grid_source": _parse_short_text,
    "price": _parse_number,
    "currency": _parse_short_text,
    "pue": _choice_parser(_PUE_CHOICES, f"one of {', '.join(_PUE_CHOICES)}"),
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
    for name, read in _INPUT_PARSERS.items():
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
    stated = {name: input_value(name) for name in _INPUT_PARSERS}
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


def choose_grid_and_price() -> None:
    """Draw the fields for grid, price and overhead."""
    country, price, currency = st.columns([2, 1, 1])
    with country:
        st.selectbox(
            "Country of the grid",
            list(load_grid_factors()),
            index=None,
            format_func=lambda code: load_grid_factors()[code].name,
            placeholder="Not stated: no CO2e",
            key=input_key("country"),
            help="Where the electricity comes from. It is not guessed from your address.",
        )
    with price:
        draw_optional_number(
            "Price of a kWh", "price", "What you pay, in the currency on the right.", 0.01
        )
    with currency:
        st.text_input(
            "Currency",
            max_chars=8,
            placeholder="EUR",
            key=input_key("currency"),
            help="Written beside amounts.",
        )
    if input_value("price") is not None and not input_value("currency"):
        st.caption("State the currency, too: the price is not used without one.")
    _choose_pue()
    with st.expander("Your own grid, and its variation over the hours"):
        _choose_own_grid()


def _choose_pue() -> None:
    st.radio(
        "Overhead of the building (PUE)",
        list(_PUE_CHOICES),
        format_func=_PUE_CHOICES.__getitem__,
        key=input_key("pue"),
        horizontal=True,
        help="The building's total power, with cooling and power supply, divided by the power of "
        "its computers. The survey is Uptime Institute's Global Data Center Survey 2025.",
    )
    if input_value("pue") == "own":
        draw_optional_number(
            "PUE of your building", "own_pue", "Ask the building's operator.", 0.01, "1.0 to 5.0"
        )


def _choose_own_grid() -> None:
    st.caption("Replaces the country's average, for instance with that of a region or a contract.")
    grams, year, source = st.columns(3)
    with grams:
        draw_optional_number("g CO2e per kWh", "grid", "Annual average of your grid.", 1.0)
    with year:
        draw_optional_number("Year of the average", "grid_year", "The year of that average.", 1)
    with source:
        st.text_input(
            "Source", key=input_key("grid_source"), max_chars=80,
            help="The publication; without one the average is not used.",
        )  # fmt: skip
    st.caption(
        "The intensity of a grid varies over the hours. For a single run the page assumes "
        f"{_spread_text(ANY_HOUR_SPREAD)} the annual average ({ANY_HOUR_SPREAD.why}), and for a "
        f"cluster over a year {_spread_text(RECURRING_USE_SPREAD)} "
        f"({RECURRING_USE_SPREAD.why}). You can replace both assumptions here."
    )
    fields = (
        ("hour_lo", "A run, lowest", ANY_HOUR_SPREAD.lo),
        ("hour_hi", "A run, highest", ANY_HOUR_SPREAD.hi),
        ("use_lo", "A year, lowest", RECURRING_USE_SPREAD.lo),
        ("use_hi", "A year, highest", RECURRING_USE_SPREAD.hi),
    )
    for column, (name, label, default) in zip(st.columns(4), fields, strict=True):
        with column:
            draw_optional_number(
                label, name, "As a share of the annual average.", 0.05, f"{default:g}"
            )


def _spread_text(spread: GridSpread) -> str:
    return f"{full_precision_text(Range(spread.lo, spread.hi))} times"


def draw_optional_number(
    label: str, name: str, help: str, step: float, placeholder: str = "Not stated"
) -> None:
    """Draw a field for a number that may be left empty; a whole number if the step is one."""
    st.number_input(
        label, value=None, step=step, format="%d" if isinstance(step, int) else "%.6g",
        key=input_key(name), placeholder=placeholder, help=help,
    )  # fmt: skip


def chosen_grid_factor() -> GridFactor | None:
    """Return the stated grid.

    Raises:
        ImpactError: The intensity is invalid, or has no year or source.
    """
    grams = input_value("grid")
    if grams is None:
        return country_factor(input_value("country"))
    if input_value("grid_year") is None:
        raise ImpactError("grid_year", None, "expected a year", "state the year of the average")
    return stated_factor(grams, input_value("grid_year"), input_value("grid_source") or "")


def chosen_price() -> ElectricityPrice | None:
    """Return the stated price with its currency.

    Raises:
        ImpactError: The price is invalid.
    """
    per_kwh, currency = input_value("price"), input_value("currency")
    if per_kwh is None or not currency:
        return None
    return ElectricityPrice(exact_range(per_kwh), currency)


def chosen_pue() -> Pue:
    """Return the chosen overhead.

    Raises:
        ImpactError: The PUE is invalid.
    """
    choice, own = input_value("pue"), input_value("own_pue")
    if choice == "mean":
        return PUE_MEAN_2025
    if choice == "own" and own is not None:
        return Pue(exact_range(own), "as stated for this building")
    return PUE_NOT_APPLIED


def chosen_hourly_spread(prefix: str, default: GridSpread) -> GridSpread:
    """Return the stated variation over the hours, or the default."""
    lo, hi = input_value(f"{prefix}_lo"), input_value(f"{prefix}_hi")
    if lo is None and hi is None:
        return default
    return GridSpread(
        default.lo if lo is None else lo, default.hi if hi is None else hi, "as stated"
    )
