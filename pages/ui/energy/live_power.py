"""Current readings of the meter and the board while a run trains."""

from __future__ import annotations

import math
from collections.abc import Iterator

import streamlit as st

from effcore.energy.meter import TRACE_COLUMNS, RunMeter
from effcore.impact.ranges import number_text
from effcore.records import POWER_COLUMNS
from effcore.runs.manager import shared_run_manager
from effcore.studies.study_job import current_study_job
from pages.ui.tables import energy_text, name_amount_rows, text_table

_REFRESH_S = 1.0
#: Age from which a reading counts as outdated, s.
STALE_AFTER_S = 3.0


def show_live_power() -> None:
    """Draw power, temperature, clocks and limits once a second, if a run trains."""
    run = shared_run_manager().active_run()
    study = current_study_job()
    if run is None and study is not None and not study.ended.is_set():
        st.caption("A study is running: the energy of its runs is stored with each run.")
        return
    if run is None:
        st.caption("Power, temperature and clocks are shown here while a run trains.")
        return
    _refresh_live_power(run.run_id)


@st.fragment(run_every=_REFRESH_S)
def _refresh_live_power(run_id: str) -> None:
    run = shared_run_manager().active_run()
    if run is None or run.run_id != run_id:
        st.rerun()
    if (age_s := run.meter.reading_age_s()) > STALE_AFTER_S:
        st.caption(
            f"Reading from {number_text(age_s)} s ago: the run is paused, or its meter has stopped."
        )
    text_table(name_amount_rows(_live_power_rows(run.meter)), show_header=False)


def _live_power_rows(meter: RunMeter) -> Iterator[tuple[str, str]]:
    quality, table = meter.energy().quality.value.upper(), meter.table.view()
    if table.shape[1]:
        last = dict(zip(POWER_COLUMNS, table[:, -1].tolist(), strict=True))
        yield "Power", f"{_power_text(last)} {quality}"
    yield "Energy so far", energy_text(meter.energy())
    if meter.trace.view().shape[1]:
        last = dict(zip(TRACE_COLUMNS, meter.trace.view()[:, -1].tolist(), strict=True))
        for name, label in (("power_average_w", "Average"), ("power_instant_w", "Instant")):
            if math.isfinite(last[name]):
                yield f"{label} power", f"{number_text(last[name])} W {quality}"
    yield from _board_state_rows(meter)


def _power_text(last: dict[str, float]) -> str:
    if math.isfinite(last["power_w"]):
        return f"{number_text(last['power_w'])} W"
    return f"{number_text(last['power_lo_w'])} to {number_text(last['power_hi_w'])} W"


def _board_state_rows(meter: RunMeter) -> Iterator[tuple[str, str]]:
    state = meter.state()
    if state is None:
        yield "Temperature, clocks, limit", "not provided by this meter"
        return
    known = (
        ("Temperature", state.temperature_c, "°C", 1.0),
        ("Clock", state.sm_clock_mhz, "MHz", 1.0),
        ("Power limit", state.power_limit_w, "W", 1.0),
        ("Busy", state.utilisation_frac, "% of the time", 100.0),
    )
    for label, value, unit, factor in known:
        text = f"{number_text(factor * value)} {unit}" if math.isfinite(value) else "not provided"
        yield label, text
    reasons = state.throttle_reasons
    yield (
        "Clocks throttled by",
        "not provided" if reasons is None else ", ".join(reasons) or "nothing",
    )
