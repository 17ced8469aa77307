"""Fields for grid, price and overhead; none has a default value."""

from __future__ import annotations

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
from pages.ui.common import escape_markdown
from pages.ui.energy.inputs import PUE_CHOICES, input_key, input_value


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
        st.number_input(
            "Price of a kWh",
            value=None,
            step=0.01,
            format="%.6g",
            placeholder="Not stated",
            key=input_key("price"),
            help="What you pay, in the currency on the right.",
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
        list(PUE_CHOICES),
        format_func=PUE_CHOICES.__getitem__,
        key=input_key("pue"),
        horizontal=True,
        help="The building's total power, with cooling and power supply, divided by the power of "
        "its computers. The survey is Uptime Institute's Global Data Center Survey 2025.",
    )
    if input_value("pue") == "own":
        st.number_input(
            "PUE of your building", value=None, step=0.01, format="%.6g", key=input_key("own_pue"),
            placeholder="1.0 to 5.0", help="Ask the building's operator.",
        )  # fmt: skip


def _choose_own_grid() -> None:
    st.caption("Replaces the country's average, for instance with that of a region or a contract.")
    grams, year, source = st.columns(3)
    with grams:
        _optional_number_field("g CO2e per kWh", "grid", "Annual average of your grid.", 1.0)
    with year:
        st.number_input(
            "Year of the average", value=None, step=1, format="%d", key=input_key("grid_year"),
            placeholder="Not stated", help="The year of that average.",
        )  # fmt: skip
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
            _optional_number_field(
                label, name, "As a share of the annual average.", 0.05, f"{default:g}"
            )


def _spread_text(spread: GridSpread) -> str:
    return f"{full_precision_text(Range(spread.lo, spread.hi))} times"


def _optional_number_field(
    label: str, name: str, help: str, step: float, placeholder: str = "Not stated"
) -> None:
    """Draw a field for a number that may be left empty."""
    st.number_input(
        label,
        value=None,
        step=step,
        format="%.6g",
        key=input_key(name),
        placeholder=placeholder,
        help=help,
    )


def show_impact_error(error: ImpactError) -> None:
    """Show which entry cannot be used, and the remedy."""
    st.error(escape_markdown(error), icon=":material/error:")


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
