"""Widgets of the sidebar, by the names of their settings."""

from __future__ import annotations

from typing import Any

import streamlit as st

from effcore.knobs import KnobSpec

KEY_PREFIX = "set_"
_CLAMPED_KEY = "refused"


def setting_key(name: str) -> str:
    """Return the session key of a setting's widget."""
    return KEY_PREFIX + name


def setting_value(name: str) -> Any:
    """Return the value of a setting's widget."""
    return st.session_state.get(setting_key(name))


def set_setting(name: str, value: Any) -> None:
    """Set the value of a setting's widget."""
    st.session_state[setting_key(name)] = value


def draw_number_field(
    name: str, label: str, lo: float, hi: float, step: float, integer: bool, help: str
) -> None:
    """Draw a number field, with a note if the entered value was out of range.

    The widget itself has no limits: with limits, a browser leaves an invalid number in the box
    without a message, while the page still uses the previous value.
    """
    kind = int if integer else float
    set_setting(name, kind(setting_value(name)))
    st.number_input(
        label,
        step=kind(step),
        format="%d" if integer else "%.6g",
        key=setting_key(name),
        on_change=_clamp_to_range,
        args=(name, lo, hi),
        help=help,
    )
    refused, used = st.session_state.get(_CLAMPED_KEY, {}).get(name, (None, None))
    if refused is not None and used == setting_value(name):
        show_small_note(
            f"{refused:.6g} is not allowed: from {lo:.10g} to {hi:.10g}. {used:.10g} is used."
        )


def show_small_note(text: str) -> None:
    """Show a note in small type."""
    st.markdown(f":material/info: :small[{text}]")


def _clamp_to_range(name: str, lo: float, hi: float) -> None:
    entered = setting_value(name)
    used = min(max(entered, lo), hi)
    refusals: dict[str, tuple[float, float]] = st.session_state.setdefault(_CLAMPED_KEY, {})
    refusals.pop(name, None)
    if used != entered:
        refusals[name] = (entered, used)
        set_setting(name, used)


def draw_knob_field(spec: KnobSpec) -> None:
    """Draw a field for a knob or for a data setting of a task."""
    draw_number_field(spec.name, spec.label, spec.lo, spec.hi, spec.step, spec.integer, spec.help)
