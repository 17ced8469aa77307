"""Energy: what can be measured here, what a run took, and what that comes to elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import streamlit as st

from effcore.events import Snapshot
from effcore.impact.assumptions import Assumptions
from effcore.impact.costs import energy_impact
from effcore.impact.energy_claim import EnergyClaim, claim_text, recorded_facts
from effcore.impact.grid_factors import ANY_HOUR_SPREAD
from effcore.impact.idle_descriptions import above_idle_text, idle_power_text
from effcore.impact.ranges import ImpactError, Range, number_text, range_text, si_text
from effcore.impact.run_savings import (
    HEADLINE_QUALITIES,
    joules_per_example,
    savings_against_reference,
)
from effcore.impact.saving import Saving, SavingBasis
from effcore.impact.seed_repeats import find_seed_repeats, savings_over_seeds
from effcore.registry import UnknownNameError
from effcore.runs.manager import shared_runs
from effcore.store import RunSummary, StoreError
from effcore.summary import metric_text
from effcore.tasks.base import TASKS
from effcore.words import setup
from pages.ui.amounts import beside, energy_words, named
from pages.ui.energy.choices import keep, restore
from pages.ui.energy.cluster import choose_saving, show_projection
from pages.ui.energy.ladder import show_ladder
from pages.ui.energy.now import show_now
from pages.ui.energy.reasons import for_the_claim, notes_of, notes_title
from pages.ui.energy.sources import show_sources
from pages.ui.energy.spent import show_phases, show_target
from pages.ui.energy.terms import (
    choose_terms,
    chosen_factor,
    chosen_price,
    chosen_pue,
    chosen_spread,
    say_problem,
)
from pages.ui.frame import find_run, plain
from pages.ui.naming import run_name

_NEWEST: Final = 200
_RUN: Final = "energy_run"
#: What a claim must say and no record of a run holds: field -> label, example.
_TO_ADD: Final = {
    "card": ("Card or processor", "NVIDIA H100 80GB HBM3"),
    "driver": ("Driver", "580.65"),
    "power_limit": ("Power limit", "700 W"),
    "sampling": ("Sampling", "counter read 10 times a second"),
    "idle": ("Idle power", "in it; 70 W over 10 s before and after"),
    "excluded": ("Left out", "processor, memory, power supply, cooling"),
}


def _stored() -> list[RunSummary]:
    try:
        return shared_runs().store.runs(_NEWEST)
    except StoreError as error:
        st.error(f"The runs could not be listed. {plain(error)}", icon=":material/error:")
        return []


def _choose_run(stored: list[RunSummary]) -> Snapshot | None:
    """Let the reader choose a run, the newest at first; keeps it in the address."""
    names = {run.run_id: run_name(run) for run in stored}
    asked = st.query_params.get("run")
    if asked is not None and asked not in names and find_run(asked) is not None:
        names[asked] = asked  # older than the newest, and there all the same
    if st.session_state.get(_RUN) not in names:
        st.session_state[_RUN] = asked if asked in names else next(iter(names))
    run_id = st.selectbox(
        "Run", list(names), format_func=names.__getitem__, key=_RUN,
        help=f"The newest {_NEWEST} runs at most.",
    )  # fmt: skip
    st.query_params["run"] = run_id
    found = find_run(run_id)
    return None if found is None else found.snapshot()


def _reference(look: Snapshot) -> Snapshot | None:
    if look.reference_id is None:
        return None
    try:
        found = shared_runs().get(look.reference_id)
    except StoreError:  # the run can be shown without it
        return None
    return None if found is None else found.snapshot()


def _savings(look: Snapshot, stored: list[RunSummary]) -> dict[SavingBasis, Saving]:
    """Return what the run saved: over all seeds of its setting, where there are several."""
    found = find_seed_repeats(look, stored)
    if len(found.pairs) > 1:
        return savings_over_seeds(found)
    return savings_against_reference(look, _reference(look))


def _show_run(look: Snapshot) -> None:
    for column, (label, value) in zip(st.columns(3), _headline(look), strict=True):
        column.metric(label, value, border=True)
    beside(named(_energy_rows(look)), notes_of(look.energy), notes_title(look.energy))
    show_phases(look)
    show_target(look)


def _headline(look: Snapshot) -> Iterator[tuple[str, str]]:
    """Yield three figures: joules first, where they are more than an estimate."""
    energy, end = look.energy, look.end
    skipped = f"{end.skipped_compute_frac:z.1%}" if end else "not yet known"
    seconds = f"{number_text(energy.seconds if end is None else end.seconds)} s"
    if energy.quality in HEADLINE_QUALITIES and energy.joules is not None:
        yield f"Energy, {energy.quality.value.upper()}", si_text(energy.joules, "J")
    else:
        spent = look.column("flops")[-1] if look.steps_done else 0.0
        yield "FLOPs spent", si_text(float(spent) if end is None else end.flops_spent, "FLOP")
    yield "Computation skipped", skipped
    yield "Time", seconds


def _energy_rows(look: Snapshot) -> Iterator[tuple[str, str]]:
    energy = look.energy
    yield "Energy", energy_words(energy)
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
    for amount in joules_per_example(look):
        each, _, what = str(amount).partition(" J per example ")
        name, _, quality = what.rpartition(" ")
        yield f"Per example {name}", f"{each} J {quality}"


def _show_impact(look: Snapshot) -> None:
    try:
        terms = Assumptions(
            pue=chosen_pue(),
            factor=chosen_factor(),
            spread=chosen_spread("hour", ANY_HOUR_SPREAD),
            price=chosen_price(),
        )
        impact = energy_impact(look.energy, terms)
    except ImpactError as error:
        say_problem(error)
        return
    if impact.kwh is None:
        st.caption(
            "This run has no joules to start from, so neither CO2e nor cost. Why, and what would "
            "change that, stands under *A run's energy*."
        )
        return
    beside(named(impact.rows()), impact.assumption_sentences)


def _show_claim(look: Snapshot, savings: Mapping[SavingBasis, Saving]) -> None:
    with st.expander("Add to the claim what the run's record does not hold"):
        known = {
            name: f"As recorded: {text}"
            for name, text in recorded_facts(look.energy).items()
            if text
        }
        added: dict[str, Any] = {
            name: st.text_input(
                label, key=f"energy_claim_{name}", placeholder=known.get(name, example),
                max_chars=200, persist_state="session",
                help="Left empty, the claim says what the record holds, or that it is not stated.",
            )
            for name, (label, example) in _TO_ADD.items()
        }  # fmt: skip
    claim = EnergyClaim(
        for_the_claim(look.energy),
        trained=f"{look.config.task}, {_setup(look)}, {look.config.selection}, on "
        f"{look.config.device}, run {look.run_id}",
        accuracy=_accuracy(look),
        saving=next(iter(savings.values()), None),
        **added,
    )
    text = claim_text(claim)
    st.code(text, language=None, wrap_lines=True)
    st.download_button(
        "Download the claim", text, file_name=f"energy-claim-{look.run_id}.txt", mime="text/plain",
        icon=":material/download:", on_click="ignore", key="energy_claim_download",
    )  # fmt: skip


def _setup(look: Snapshot) -> str:
    try:
        return setup(look.config)
    except UnknownNameError:
        return look.config.model


def _accuracy(look: Snapshot) -> str:
    end = look.end
    if end is None or end.metric is None:
        return ""
    try:
        metric = TASKS.get(look.config.task).metric
    except UnknownNameError:
        return f"{end.metric_name} {number_text(end.metric)}"
    return f"{metric.label} {metric_text(metric, end.metric)} on the test split"


problems = restore()
st.title("Energy")
st.caption("What runs took, how that is known, and what it comes to elsewhere. Nothing is assumed "
           "unless you state it.")  # fmt: skip
if problems:
    listed = "\n".join(f"- {plain(problem)}." for problem in problems)
    st.warning(f"Left out of the address:\n{listed}", icon=":material/link_off:")
st.header("What this machine can measure")
show_sources()
st.header("Now")
show_now()
st.header("A run's energy")
stored = _stored()
look = _choose_run(stored) if stored else None
savings = {} if look is None else _savings(look, stored)
if look is None:
    st.info(
        "Nothing has been trained yet. Start a run on the Live page and its energy stands here."
    )
    st.page_link("live.py", label="Go to Live", icon=":material/monitoring:")
else:
    _show_run(look)
st.header("CO2e and cost")
choose_terms()
if look is not None:
    _show_impact(look)
st.header("In your cluster, over a year")
show_projection(choose_saving(savings))
st.header("At larger sizes")
show_ladder()
st.header("The claim, written out")
if look is None:
    st.caption("It is written of a run: train one first.")
else:
    _show_claim(look, savings)
keep()
