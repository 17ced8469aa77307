"""A study's verdict in large type: the sentence, the savings, and the evidence."""

from __future__ import annotations

from typing import Final

import plotly.graph_objects as go
import streamlit as st

from effcore.figures.study_charts import forest_figure
from effcore.impact.reference_comparison import compare_with_reference
from effcore.impact.saving import Saving, SavingBasis, percent_text
from effcore.records import EnergyQuality
from effcore.store.study_table import StoredStudy
from effcore.studies.comparison import (
    CompletedRuns,
    PolicyResult,
    StudyResult,
    exploratory_texts,
    policy_evidence,
    policy_sentence,
)
from effcore.studies.plan import StudyPlan
from effcore.studies.verdict import DENSE_FULL, Verdict
from effcore.tasks.base import TASKS
from pages.ui.common import escape_markdown
from pages.ui.present.large_type import (
    NUMBER_KEY_PREFIX,
    SENTENCE_KEY,
    apply_large_type,
    enlarge_figure,
    show_screen_chart,
    show_study_progress,
)
from pages.ui.studies.stored_study import missing_runs_text, read_study, verdict_badge

_SAVING_TILES: Final = {
    SavingBasis.FLOPS: ("computation", "counted FLOPs, selection included"),
    SavingBasis.SECONDS: ("time", "training on this machine"),
    SavingBasis.JOULES: ("energy", ""),
}


def present_verdict(stored: StoredStudy) -> None:
    """Draw a study's verdict on one policy, and links to the others."""
    if (result := read_study(stored)) is None:
        return
    plan, completed = result.plan, result.completed
    task = TASKS.get(str(plan.shared["task"]))
    st.markdown(
        f"# {escape_markdown(task.title)}: training at {plan.budget:.0%} of the computation"
    )
    show_study_progress(
        stored.study_id, lambda: missing_runs_text(stored.study_id, plan, completed.runs_left)
    )
    policies = {policy.arm: policy for policy in result.policies}
    if not policies:
        st.markdown("## No verdict yet")
        st.write("A verdict needs at least two seeds that every variant has finished.")
        return
    requested = st.query_params.get("arm")
    name = requested if requested is not None and requested in policies else next(iter(policies))
    policy = policies[name]
    apply_large_type()
    _show_verdict_sentence(policy, result)
    _show_savings(name, completed)
    if policy.verdict is not None:
        _show_forest_chart(policy.verdict, plan)
    _link_other_verdicts(stored.study_id, [other for other in policies if other != name])


def _show_verdict_sentence(policy: PolicyResult, result: StudyResult) -> None:
    exploratory = exploratory_texts(result)
    st.markdown(f"## {verdict_badge(policy, is_over=not result.completed.runs_left)}")
    with st.container(key=SENTENCE_KEY):
        st.markdown(escape_markdown(policy_sentence(policy)))
    sentences = [
        policy_evidence(policy, result.metric),
        *(["Exploratory.", *exploratory] if exploratory else []),
    ]
    st.write(escape_markdown(" ".join(sentences)))


def _show_savings(variant: str, results: CompletedRuns) -> None:
    """Draw the savings against full training, each with how it was measured."""
    pairs = [
        (results.snapshots[variant][seed], results.snapshots[DENSE_FULL][seed])
        for seed in results.ended_seeds(variant)
    ]
    comparison = compare_with_reference(pairs)
    savings = {} if comparison is None else comparison.savings
    for column, (basis, (what, how)) in zip(st.columns(3), _SAVING_TILES.items(), strict=True):
        with column.container(key=f"{NUMBER_KEY_PREFIX}-{basis.name.lower()}"):
            saving = savings.get(basis)
            if saving is None and basis is SavingBasis.JOULES:
                _draw_no_joules_tile({own.energy.quality for own, _ in pairs})
            elif saving is None:
                st.markdown("**–**")
                st.caption(f"{what}: not known")
            else:
                _draw_saving_tile(saving, what, how or f"{saving.quality}")


def _draw_saving_tile(saving: Saving, what: str, how: str) -> None:
    share, caption = percent_text(saving.fraction), f"less {what} than full training · {how}"
    if saving.fraction.lo < 0 < saving.fraction.hi:
        caption, share = f"{caption}: {share}, so the saving may be zero", "not shown"
    st.markdown(f"**{share}**")
    st.caption(caption)


def _draw_no_joules_tile(qualities: set[EnergyQuality]) -> None:
    st.markdown("**no energy claimed**")
    if qualities == {EnergyQuality.ESTIMATED}:
        st.caption("Energy is only estimated from processor time, which adds nothing to the time.")
    elif qualities <= {EnergyQuality.UNAVAILABLE}:
        st.caption("Energy was not measured in these runs.")
    else:
        listed = ", ".join(sorted(quality.value for quality in qualities))
        st.caption(f"Energy was not measured alike in all runs: {listed}.")


def _show_forest_chart(verdict: Verdict, plan: StudyPlan) -> None:
    metric = TASKS.get(str(plan.shared["task"])).metric
    figure = forest_figure(
        [verdict], plan.margin, metric.factor, metric.difference_unit, with_policy=False
    )
    show_screen_chart(_enlarge_forest(figure), "forest")
    st.caption("Better is to the right; the bars are 95% intervals over seeds.")


def _enlarge_forest(figure: go.Figure) -> go.Figure:
    figure.update_traces(marker={"size": 20}, error_x={"thickness": 4, "width": 10})
    return enlarge_figure(figure)


def _link_other_verdicts(study_id: str, policies: list[str]) -> None:
    if policies:
        with st.container(horizontal=True):
            for name in policies:
                st.page_link(
                    "present.py", label=f"Verdict on {name}", icon=":material/arrow_forward:",
                    query_params={"study": study_id, "arm": name},
                )  # fmt: skip
