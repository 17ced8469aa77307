"""Energy page: what can be measured here, a run's energy, and its projection to a cluster."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

import streamlit as st

from effcore.energy.meter import TRACE_COLUMNS, RunMeter
from effcore.impact.assumptions import Assumptions
from effcore.impact.costs import HEADLINE_QUALITIES, energy_impact, joules_per_example
from effcore.impact.grid_factors import ANY_HOUR_SPREAD
from effcore.impact.ranges import ImpactError, Range, number_text, range_text, si_text
from effcore.impact.reference_comparison import (
    ProjectableShare,
    compare_with_reference,
    computation_not_spent,
    find_seed_repeats,
    projectable_shares,
    saving_over_seeds,
)
from effcore.impact.saving import SavingBasis
from effcore.impact.saving_text import (
    EnergyClaim,
    above_idle_text,
    claim_text,
    idle_power_text,
    not_spent_percent,
    recorded_facts,
    seeds_text,
    short_saving_text,
)
from effcore.records import POWER_COLUMNS, Snapshot
from effcore.registry import UnknownNameError
from effcore.runs.descriptions import setup_text
from effcore.runs.manager import shared_run_manager
from effcore.runs.summary import metric_text, saving_lines
from effcore.store import RunSummary, StoreError
from effcore.studies.study_job import current_study_job
from effcore.tasks.base import TASKS
from pages.ui.common import escape_markdown, find_run_or_warn, show_error, show_nothing_trained
from pages.ui.display_names import run_picker_label
from pages.ui.energy.assumptions import (
    choose_grid_and_price,
    chosen_grid_factor,
    chosen_hourly_spread,
    chosen_price,
    chosen_pue,
    restore_inputs,
    save_inputs,
)
from pages.ui.energy.projection import choose_cluster_and_project, choose_saving, show_scale_ladder
from pages.ui.energy.run_breakdown import (
    energy_for_claim,
    notes_heading,
    notes_without_source_table,
    show_cost_to_target,
    show_phase_table,
)
from pages.ui.energy.sources import show_source_table
from pages.ui.tables import energy_text, name_amount_rows, table_with_notes, text_table

_REFRESH_S = 1.0
#: Age from which a reading counts as outdated, s.
_STALE_AFTER_S = 3.0


_MAX_LISTED_RUNS: Final = 200
_RUN_KEY: Final = "energy_run"
#: Facts of an energy claim that a run may not have recorded: field -> label, example.
_CLAIM_FIELDS: Final = {
    "card": ("Card or processor", "NVIDIA H100 80GB HBM3"),
    "driver": ("Driver", "580.65"),
    "power_limit": ("Power limit", "700 W"),
    "sampling": ("Sampling", "counter read 10 times a second"),
    "idle": ("Idle power", "in it; 70 W over 10 s before and after"),
    "excluded": ("Not covered", "processor, memory, power supply, cooling"),
}


def _list_stored_runs() -> list[RunSummary]:
    try:
        return shared_run_manager().store.runs(_MAX_LISTED_RUNS)
    except StoreError as error:
        show_error(error, "The runs could not be listed.")
        return []


def _choose_run(stored_runs: list[RunSummary]) -> Snapshot | None:
    """Draw the picker, with the newest run by default; keep the choice in the address."""
    names = {run.run_id: run_picker_label(run) for run in stored_runs}
    requested = st.query_params.get("run")
    if requested is not None and requested not in names and find_run_or_warn(requested) is not None:
        names[requested] = requested  # an older run than those listed
    if st.session_state.get(_RUN_KEY) not in names:
        st.session_state[_RUN_KEY] = requested if requested in names else next(iter(names))
    run_id = st.selectbox(
        "Run", list(names), format_func=names.__getitem__, key=_RUN_KEY,
        help=f"Lists the newest {_MAX_LISTED_RUNS} runs.",
    )  # fmt: skip
    st.query_params["run"] = run_id
    run = find_run_or_warn(run_id)
    return None if run is None else run.snapshot()


def _projectable_shares(
    snapshot: Snapshot, reference: Snapshot | None, stored_runs: list[RunSummary]
) -> dict[SavingBasis, ProjectableShare]:
    """Return the run's savings, over all seeds with the same settings if there are several."""
    repeats = find_seed_repeats(snapshot, stored_runs)
    if len(repeats.pairs) > 1:
        return projectable_shares(snapshot, saving_over_seeds(repeats))
    saving = None if reference is None else compare_with_reference([(snapshot, reference)])
    return projectable_shares(snapshot, saving)


def _show_run_energy(snapshot: Snapshot, reference: Snapshot | None) -> None:
    figures = list(_headline_figures(snapshot, reference))
    for column, (label, value) in zip(st.columns(len(figures)), figures, strict=True):
        column.metric(label, value, border=True)
    table_with_notes(
        name_amount_rows([*_energy_rows(snapshot), *saving_lines(snapshot, reference)]),
        notes_without_source_table(snapshot.energy),
        notes_heading(snapshot.energy),
    )
    show_phase_table(snapshot)
    show_cost_to_target(snapshot)


def _headline_figures(snapshot: Snapshot, reference: Snapshot | None) -> Iterator[tuple[str, str]]:
    """Yield the figures of the tiles; joules come first unless they are only estimated."""
    energy, end = snapshot.energy, snapshot.end
    skipped = f"{end.skipped_compute_frac:z.1%}" if end else "not yet known"
    seconds = f"{number_text(energy.seconds if end is None else end.seconds)} s"
    if energy.quality in HEADLINE_QUALITIES and energy.joules is not None:
        yield f"Energy, {energy.quality.value.upper()}", si_text(energy.joules, "J")
    else:
        spent = snapshot.column("flops")[-1] if snapshot.steps_done else 0.0
        yield "FLOPs spent", si_text(float(spent) if end is None else end.flops_spent, "FLOP")
    saving = None if reference is None else compare_with_reference([(snapshot, reference)])
    if saving is not None:
        yield f"Saved, {seeds_text(saving)}", short_saving_text(saving)
    elif (share := computation_not_spent(snapshot)) is not None:
        yield "Computation not spent", not_spent_percent(share)
    yield "Computation skipped", skipped
    yield "Time", seconds


def _energy_rows(snapshot: Snapshot) -> Iterator[tuple[str, str]]:
    energy = snapshot.energy
    yield "Energy", energy_text(energy)
    if energy.lo is not None and energy.hi is not None:
        ends = range_text(Range(energy.lo, energy.hi))
        yield "Interval", f"{ends} J {energy.quality.value.upper()}"
    yield "Covers", energy.scope
    yield "Instrument", energy.source
    yield "Window", f"{number_text(energy.seconds)} s"
    for name, text in (
        ("Idle board", idle_power_text(energy)),
        ("Above idle", above_idle_text(energy)),
    ):
        if text is not None:
            yield name, text
    for examples, amount in joules_per_example(snapshot):
        text = f"{range_text(amount.values)} J {amount.quality.value.upper()}"
        yield f"Per example {examples}", text


def _show_co2e_and_cost(snapshot: Snapshot) -> None:
    try:
        terms = Assumptions(
            pue=chosen_pue(),
            factor=chosen_grid_factor(),
            spread=chosen_hourly_spread("hour", ANY_HOUR_SPREAD),
            price=chosen_price(),
        )
        impact = energy_impact(snapshot.energy, terms)
    except ImpactError as error:
        show_error(error)
        return
    if impact.kwh is None:
        st.caption(
            "This run has no joules, so CO2e and cost cannot be computed. *A run's energy* above "
            "gives the reason and the remedy."
        )
        return
    table_with_notes(name_amount_rows(impact.rows()), impact.assumption_sentences)


def _show_claim_text(snapshot: Snapshot, savings: Mapping[SavingBasis, ProjectableShare]) -> None:
    with st.expander("Add facts to the claim that the run did not record"):
        known = {
            name: f"As recorded: {text}"
            for name, text in recorded_facts(snapshot.energy).items()
            if text
        }
        added: dict[str, Any] = {
            name: st.text_input(
                label, key=f"energy_claim_{name}", placeholder=known.get(name, example),
                max_chars=200, persist_state="session",
                help="If empty, the claim states the recorded value, or that it is not stated.",
            )
            for name, (label, example) in _CLAIM_FIELDS.items()
        }  # fmt: skip
    claim = EnergyClaim(
        energy_for_claim(snapshot.energy),
        trained=f"{snapshot.config.task}, {_setup_text(snapshot)}, {snapshot.config.selection}, on "
        f"{snapshot.config.device}, run {snapshot.run_id}",
        accuracy=_accuracy_text(snapshot),
        saving=next(iter(savings.values()), None),
        **added,
    )
    text = claim_text(claim)
    st.code(text, language=None, wrap_lines=True)
    st.download_button(
        "Download the claim",
        text,
        file_name=f"energy-claim-{snapshot.run_id}.txt",
        mime="text/plain",
        icon=":material/download:",
        on_click="ignore",
        key="energy_claim_download",
    )


def _setup_text(snapshot: Snapshot) -> str:
    try:
        return setup_text(snapshot.config)
    except UnknownNameError:
        return snapshot.config.model


def _accuracy_text(snapshot: Snapshot) -> str:
    end = snapshot.end
    if end is None or end.metric is None:
        return ""
    try:
        metric = TASKS.get(snapshot.config.task).metric
    except UnknownNameError:
        return f"{end.metric_name} {number_text(end.metric)}"
    return f"{metric.label} {metric_text(metric, end.metric)} on the test split"


def _show_live_power() -> None:
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
    if (age_s := run.meter.reading_age_s()) > _STALE_AFTER_S:
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


problems = restore_inputs()
st.title("Energy")
st.caption("The energy of runs, how it was measured, and what it means on other machines. Every "
           "assumption is one that you state.")  # fmt: skip
if problems:
    listed = "\n".join(f"- {escape_markdown(problem)}." for problem in problems)
    st.warning(f"Left out of the address:\n{listed}", icon=":material/link_off:")
st.header("What this machine can measure")
show_source_table()
st.header("Now")
_show_live_power()
st.header("A run's energy")
stored_runs = _list_stored_runs()
snapshot = _choose_run(stored_runs) if stored_runs else None
reference = None if snapshot is None else shared_run_manager().reference_of(snapshot)
savings = {} if snapshot is None else _projectable_shares(snapshot, reference, stored_runs)
if snapshot is None:
    show_nothing_trained("its energy appears")
else:
    _show_run_energy(snapshot, reference)
st.header("CO2e and cost")
choose_grid_and_price()
if snapshot is not None:
    _show_co2e_and_cost(snapshot)
st.header("In your cluster, over a year")
choose_cluster_and_project(choose_saving(savings))
st.header("At larger sizes")
show_scale_ladder()
st.header("The claim, written out")
if snapshot is None:
    st.caption("A claim describes a run. Train one first.")
else:
    _show_claim_text(snapshot, savings)
save_inputs()
