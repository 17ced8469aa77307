"""A study's verdict in large type: the sentence, what was saved, and the evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import plotly.graph_objects as go
import streamlit as st

from effcore.events import Quality
from effcore.figures.verdicts import forest_figure
from effcore.impact.run_savings import savings_over_pairs
from effcore.impact.saving import Saving, SavingBasis, percent_text
from effcore.store.studies import StoredStudy
from effcore.studies.comparison import CompletedRuns
from effcore.studies.plan import DENSE_FULL, StudyPlan
from effcore.tasks.base import TASKS
from pages.ui.frame import plain
from pages.ui.present.large import (
    NUMBER,
    SENTENCE,
    enlarge,
    large_type,
    show_chart,
    show_progress,
)
from pages.ui.studies.verdicts import headline, lacking_words, read_study

_TILES: Final = {
    SavingBasis.FLOPS: ("less computation", "counted, choosing included"),
    SavingBasis.SECONDS: ("less time", "training on this machine"),
    SavingBasis.JOULES: ("less energy", ""),
}


def present_verdict(stored: StoredStudy) -> None:
    """Draw a study's verdict on one policy, and links to the others."""
    if (read := read_study(stored)) is None:
        return
    plan, found, told = read
    task = TASKS.get(told["task"])
    st.markdown(f"# {plain(task.title)}: training at {plan.budget:.0%} of the computation")
    show_progress(stored.study_id, lambda: lacking_words(stored.study_id, plan, told["runs_left"]))
    arms = list(told["sentences"])
    if not arms:
        st.markdown("## No verdict yet")
        st.write("It needs at least two seeds that every arm has ended.")
        return
    asked = st.query_params.get("arm")
    arm = asked if asked is not None and asked in arms else arms[0]
    large_type()
    _say(arm, told)
    _savings(arm, found)
    if rows := [row for row in told["diffs"] if row["arm"] == arm]:
        _forest(rows, plan)
    _others(stored.study_id, [each for each in arms if each != arm])


def _say(arm: str, told: Mapping[str, Any]) -> None:
    # The first sentence is the verdict; numbers follow it.
    verdict, _, evidence = told["sentences"][arm].partition(". ")
    st.markdown(f"## {headline(arm, told)}")
    with st.container(key=SENTENCE):
        st.markdown(plain(verdict.removesuffix(".") + "."))
    words = [evidence, *(["Exploratory.", *told["exploratory"]] if told["exploratory"] else [])]
    st.write(plain(" ".join(words)))


def _savings(arm: str, found: CompletedRuns) -> None:
    """Draw what was saved against full dense training, each with how it is known."""
    pairs = [
        (found.snapshots[arm][seed], found.snapshots[DENSE_FULL][seed])
        for seed in found.ended_seeds(arm)
    ]
    savings = savings_over_pairs(pairs)
    for column, (basis, (less, how)) in zip(st.columns(3), _TILES.items(), strict=True):
        with column.container(key=f"{NUMBER}-{basis.name.lower()}"):
            saving = savings.get(basis)
            if saving is None and basis is SavingBasis.JOULES:
                _no_joules({own.energy.quality for own, _ in pairs})
            elif saving is None:
                st.markdown("**–**")
                st.caption(f"{less.removeprefix('less ')}: not known")
            else:
                _tile(saving, less, how or f"{saving.quality}")


def _tile(saving: Saving, less: str, how: str) -> None:
    share, told = percent_text(saving.fraction), f"{less} than full training · {how}"
    if saving.fraction.lo < 0 < saving.fraction.hi:
        told, share = f"{told}: {share}, which may be none", "not shown"
    st.markdown(f"**{share}**")
    st.caption(told)


def _no_joules(qualities: set[Quality]) -> None:
    st.markdown("**no energy claimed**")
    if qualities == {Quality.ESTIMATED}:
        st.caption("Only estimated from processor time, which says the same as the seconds.")
    elif qualities <= {Quality.UNAVAILABLE}:
        st.caption("Nothing measured it in these runs.")
    else:
        listed = ", ".join(sorted(quality.value for quality in qualities))
        st.caption(f"It was not measured alike in all runs: {listed}.")


def _forest(rows: list[Mapping[str, Any]], plan: StudyPlan) -> None:
    metric = TASKS.get(str(plan.shared["task"])).metric
    figure = forest_figure(rows, plan.margin, metric.factor, metric.difference_unit)
    show_chart(_large(figure), "forest")
    st.caption("The better to the right; the bars are 95% intervals over seeds.")


def _large(figure: go.Figure) -> go.Figure:
    for trace in figure.data:  # the policy is named above, and rows are narrow on a phone
        trace.y = [label.partition("<br>against ")[2].replace(", dense", "") for label in trace.y]
        trace.y = [f"against<br>{label}" for label in trace.y]
    figure.update_traces(marker={"size": 20}, error_x={"thickness": 4, "width": 10})
    return enlarge(figure)


def _others(study_id: str, arms: list[str]) -> None:
    if arms:
        with st.container(horizontal=True):
            for arm in arms:
                st.page_link(
                    "present.py", label=f"Verdict on {arm}", icon=":material/arrow_forward:",
                    query_params={"study": study_id, "arm": arm},
                )  # fmt: skip
