"""The sidebar's widgets by the names of the settings they stand for."""

from __future__ import annotations

from typing import Any

import streamlit as st

from effcore.knobs import KnobSpec

PREFIX = "set_"
_REFUSED = "refused"


def key(name: str) -> str:
    """Return the key under which a setting's widget keeps its value."""
    return PREFIX + name


def state(name: str) -> Any:
    """Return what a setting's widget says."""
    return st.session_state.get(key(name))


def put(name: str, value: Any) -> None:
    """Let a setting's widget say something else."""
    st.session_state[key(name)] = value


def number(
    name: str, label: str, lo: float, hi: float, step: float, integer: bool, help: str
) -> None:
    """Draw a field for a number, and say which value is used where another was refused.

    The field has no ends of its own: a browser would leave a number beyond them in the box
    without a word, while the page went on with the one before.
    """
    kind = int if integer else float
    put(name, kind(state(name)))
    st.number_input(
        label,
        step=kind(step),
        format="%d" if integer else "%.6g",
        key=key(name),
        on_change=_bring_into_range,
        args=(name, lo, hi),
        help=help,
    )
    refused, used = st.session_state.get(_REFUSED, {}).get(name, (None, None))
    if refused is not None and used == state(name):
        note(f"{refused:.6g} is not allowed: from {lo:.10g} to {hi:.10g}. {used:.10g} is used.")


def note(text: str) -> None:
    """Say what was done with a choice, in small letters beside it."""
    st.markdown(f":material/info: :small[{text}]")


def _bring_into_range(name: str, lo: float, hi: float) -> None:
    asked = state(name)
    used = min(max(asked, lo), hi)
    refusals: dict[str, tuple[float, float]] = st.session_state.setdefault(_REFUSED, {})
    refusals.pop(name, None)
    if used != asked:
        refusals[name] = (asked, used)
        put(name, used)


def knob_number(spec: KnobSpec) -> None:
    """Draw a field for a knob or for a setting of a task's data."""
    number(spec.name, spec.label, spec.lo, spec.hi, spec.step, spec.integer, spec.help)
