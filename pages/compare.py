"""Compare page: policies against full and same-budget training over paired seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pandas as pd
import streamlit as st

from effcore.figures.study_charts import (
    forest_figure,
    variant_curves,
    variant_curves_figure,
    variant_title,
)
from effcore.impact.saving import Saving, SavingBasis, percent_text
from effcore.records import EnergyQuality
from effcore.report import study_report, study_table
from effcore.runs.manager import shared_run_manager
from effcore.runs.summary import metric_text
from effcore.store.study_table import StoredStudy
from effcore.studies.comparison import (
    PolicyResult,
    StudyResult,
    VariantResult,
    difference_formatter,
    exploratory_texts,
    missing_runs,
    policy_evidence,
    policy_sentence,
    policy_text,
    result_record,
    variant_savings,
)
from effcore.studies.difference_table import difference_table
from effcore.studies.executor import StudyRun
from effcore.studies.plan import StudyPlan, plan_to_command
from effcore.studies.savings import SHARE_CAPTION, savings_sentence
from effcore.tasks.base import TASKS, Metric
from pages.ui.common import escape_markdown
from pages.ui.presenting import NUMBER_KEY_PREFIX, SENTENCE_KEY, draw_large_chart, link_to_present
from pages.ui.studies.progress import REFRESH_S, list_running
from pages.ui.studies.stored_study import load_study, missing_runs_text, verdict_badge
from pages.ui.studies.study_page import StudyKind, StudyPage
from pages.ui.studies.study_settings import choose_study_plan
from pages.ui.tables import percent_cell, percent_column, show_swipe_hint

_KIND: Final = StudyKind[StudyPlan, StudyResult](
    name="study",
    plural="studies",
    page="compare.py",
    page_name="Compare",
    key_infix="",
    title="Is it really better?",
    introduction=(
        "Choose a task and policies in the sidebar and press *Start study*. Each seed is trained "
        "in full, in full on a smaller budget, with random skipping, and with each policy you "
        "picked. A cancelled or interrupted study can be continued, and more seeds can be added "
        "later. The small tables take seconds."
    ),
    cards=(
        (
            "Two questions",
            "Does the policy match full training, within a margin fixed beforehand? And does it "
            "beat normal training on the same budget?",
        ),
        (
            "Strong baselines",
            "Full training, same-budget training whose learning rate decays within the budget, and "
            "random skipping.",
        ),
        (
            "Honest answers",
            "Paired seeds, intervals, and the final parameters on the test split. Ties, losses and "
            "too few seeds are reported as plainly as wins.",
        ),
    ),
    choose_plan=choose_study_plan,
    load=load_study,
)
_NO_VERDICT_TEXT: Final = "A verdict needs at least two seeds that every variant has finished."


def _show_study(stored: StoredStudy, result: StudyResult) -> None:
    plan, completed = result.plan, result.completed
    task = TASKS.get(str(plan.shared["task"]))
    st.header(f"{task.title} · {', '.join(plan.arms)} at {plan.budget:.0%} of the compute")
    _show_verdicts(result)
    page.link_to_present(stored)
    remaining = missing_runs(shared_run_manager().store, stored.study_id, plan)
    missing = missing_runs_text(stored.study_id, plan, len(remaining))
    is_under_way = page.show_progress(stored, remaining, missing)
    if result.verdicts:
        figure = forest_figure(
            result.verdicts, plan.margin, task.metric.factor, task.metric.difference_unit
        )
        st.plotly_chart(figure, key="forest")
        st.caption(_judging_rule_text(result))
        _show_differences(result)
    curves = variant_curves(completed.snapshots)
    if curves:
        st.plotly_chart(
            variant_curves_figure(curves, task.metric.label, task.metric.unit == "%"), key="curves"
        )
        st.caption("Mean over seeds; the band spans the lowest to the highest seed.")
    _draw_study_grid(result, remaining, is_under_way)
    command = plan_to_command(plan)
    page.offer_command_and_downloads(
        stored,
        command,
        lambda: study_report(stored.study_id, plan, completed, command),
        lambda: study_table(result),
        result_record(result),
    )


def _show_differences(result: StudyResult) -> None:
    """List every difference, with the bootstrap and the sign-flip test."""
    write, unit = difference_formatter(result.metric)
    with st.expander("All differences, with bootstrap and sign-flip test"):
        rows = [
            {**row, "against": variant_title(row["against"])}
            for row in difference_table(result.verdicts, write)
        ]
        table = pd.DataFrame(rows).rename(columns=lambda name: name[0].upper() + name[1:])
        st.dataframe(table, hide_index=True)
        show_swipe_hint("differences")
        st.caption(
            f"Differences are in {unit or 'the metric'}. The one-sided bound decides against full "
            "training, the t interval against same-budget training. The bootstrap and the "
            "sign-flip test decide nothing."
        )


def _show_verdicts(result: StudyResult) -> None:
    """Show each verdict in a sentence, or say what a verdict needs."""
    for policy in result.policies:
        st.markdown(f"### {verdict_badge(policy, is_over=not result.completed.runs_left)}")
        st.write(escape_markdown(policy_text(policy, result.metric)))
        saved = savings_sentence(variant_savings(result.completed, policy.arm))
        st.caption(escape_markdown(saved))
    if not result.policies:
        st.info(_NO_VERDICT_TEXT)
    if reasons := exploratory_texts(result):
        st.warning("Exploratory. " + escape_markdown(" ".join(reasons)))


def _judging_rule_text(result: StudyResult) -> str:
    several, (write, unit) = len(result.policies) > 1, difference_formatter(result.metric)
    margin = f"{write(-result.plan.margin)} {unit}".rstrip()
    text = (
        "95% t intervals of paired differences; better is to the right. A policy matches full "
        f"training if the lower one-sided 95% bound lies above the margin ({margin}). It beats "
        "same-budget training if the interval lies above zero."
    )
    return text + (
        " With several policies, the p-values corrected by Holm's method decide instead."
        if several
        else ""
    )


def _draw_study_grid(
    result: StudyResult,
    remaining_runs: Sequence[StudyRun],
    is_under_way: bool,
) -> None:
    """Draw the table, with the progress of active runs.

    Args:
        result: Result of the study so far.
        remaining_runs: Runs that have not ended.
        is_under_way: Whether the study is running.
    """
    st.fragment(_draw_grid_table, run_every=REFRESH_S if is_under_way else None)(
        result, remaining_runs
    )
    if any(variant.metrics for variant in result.variants):
        st.caption(SHARE_CAPTION)


def _draw_grid_table(result: StudyResult, remaining_runs: Sequence[StudyRun]) -> None:
    metric = result.metric
    running_texts = {
        (run.label, run.seed): f"now at {run.progress:.0%}" for run in list_running(remaining_runs)
    }
    table = pd.DataFrame(
        [_variant_row(result.plan, variant, metric, running_texts) for variant in result.variants]
    )
    empty = [name for name in table if table[name].isna().all() and "seed " not in str(name)]
    st.dataframe(
        table.drop(columns=empty),
        hide_index=True,
        placeholder="–",
        column_config={
            "Saved": percent_column(),
            "Skipped": percent_column(),
            "Worst class": percent_column(),
            "Calibration error": percent_column(),
            "Time": st.column_config.NumberColumn(format="%.1f s"),
            "Variant": st.column_config.TextColumn(pinned=True),
        },
    )
    show_swipe_hint("variants")


def _variant_row(
    plan: StudyPlan,
    variant: VariantResult,
    metric: Metric,
    running_texts: Mapping[tuple[str, int], str],
) -> dict[str, Any]:
    mean, details = variant.metric_mean, variant.details
    row: dict[str, Any] = {"Variant": variant_title(variant.name)}
    row["Mean"] = None if mean is None else metric_text(metric, mean)
    row["Saved"] = percent_cell(variant.saved_compute_frac)
    row["Skipped"] = percent_cell(variant.skipped_compute_frac)
    row["Time"] = variant.seconds
    row["Worst class"] = percent_cell(details.get("worst_class"))
    row["Calibration error"] = percent_cell(details.get("calibration_error"))
    ended = {run.seed: run.metric for run in variant.runs}
    for seed in plan.seeds:
        text = running_texts.get((variant.name, seed))
        if seed in ended:
            value = ended[seed]
            text = "failed" if value is None else metric_text(metric, value)
        row[f"seed {seed}"] = text
    return row


# Presenter mode ---------------------------------------------------------------------------

_SAVING_TILES: Final = {
    SavingBasis.FLOPS: ("computation", "counted FLOPs, selection included"),
    SavingBasis.SECONDS: ("time", "training on this machine"),
    SavingBasis.JOULES: ("energy", ""),
}


def _present_study(stored: StoredStudy, result: StudyResult) -> None:
    """Draw the verdict on one policy, and links to the others."""
    plan, completed = result.plan, result.completed
    task = TASKS.get(str(plan.shared["task"]))
    st.markdown(
        f"# {escape_markdown(task.title)} · training at {plan.budget:.0%} of the computation"
    )
    remaining = missing_runs(shared_run_manager().store, stored.study_id, plan)
    page.show_progress(
        stored, remaining, missing_runs_text(stored.study_id, plan, completed.runs_left)
    )
    policies = {policy.arm: policy for policy in result.policies}
    if not policies:
        st.markdown("## No verdict yet")
        st.write(_NO_VERDICT_TEXT)
        return
    requested = st.query_params.get("arm")
    name = requested if requested is not None and requested in policies else next(iter(policies))
    policy = policies[name]
    _present_sentence(policy, result)
    _present_savings(name, result)
    if policy.verdict is not None:
        figure = forest_figure(
            [policy.verdict], plan.margin, task.metric.factor, task.metric.difference_unit,
            with_policy=False,
        )  # fmt: skip
        figure.update_traces(marker={"size": 20}, error_x={"thickness": 4, "width": 10})
        draw_large_chart(figure, "forest")
        st.caption("Better is to the right; the bars are 95% intervals over seeds.")
    if others := [other for other in policies if other != name]:
        with st.container(horizontal=True):
            for other in others:
                link_to_present(
                    _KIND.page, f"Verdict on {other}", ":material/arrow_forward:",
                    study=stored.study_id, arm=other,
                )  # fmt: skip


def _present_sentence(policy: PolicyResult, result: StudyResult) -> None:
    st.markdown(f"## {verdict_badge(policy, is_over=not result.completed.runs_left)}")
    with st.container(key=SENTENCE_KEY):
        st.markdown(escape_markdown(policy_sentence(policy)))
    sentences = [policy_evidence(policy, result.metric)]
    if exploratory := exploratory_texts(result):
        sentences += ["Exploratory.", *exploratory]
    st.write(escape_markdown(" ".join(sentences)))


def _present_savings(variant: str, result: StudyResult) -> None:
    """Draw the savings against full training, each with how it was measured."""
    savings = variant_savings(result.completed, variant)
    for column, (basis, (what, how)) in zip(st.columns(3), _SAVING_TILES.items(), strict=True):
        with column.container(key=f"{NUMBER_KEY_PREFIX}-{basis.name.lower()}"):
            saving = savings.get(basis)
            if saving is not None:
                number, caption = _saving_tile(saving, what, how or f"{saving.quality}")
            elif basis is SavingBasis.JOULES:
                number, caption = "no energy claimed", _no_joules_text(variant, result)
            else:
                number, caption = "–", f"{what}: not known"
            st.markdown(f"**{number}**")
            st.caption(caption)


def _saving_tile(saving: Saving, what: str, how: str) -> tuple[str, str]:
    share, caption = percent_text(saving.fraction), f"less {what} than full training · {how}"
    if saving.fraction.lo < 0 < saving.fraction.hi:
        return "not shown", f"{caption}: {share}, so the saving may be zero"
    return share, caption


def _no_joules_text(variant: str, result: StudyResult) -> str:
    snapshots, seeds = result.completed.snapshots[variant], result.completed.ended_seeds(variant)
    qualities = {snapshots[seed].energy.quality for seed in seeds}
    if qualities == {EnergyQuality.ESTIMATED}:
        return "Energy is only estimated from processor time, which adds nothing to the time."
    if qualities <= {EnergyQuality.UNAVAILABLE}:
        return "Energy was not measured in these runs."
    listed = ", ".join(sorted(quality.value for quality in qualities))
    return f"Energy was not measured alike in all runs: {listed}."


page = StudyPage(_KIND)
page.draw(_show_study, _present_study)
