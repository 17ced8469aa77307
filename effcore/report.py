"""One self-contained HTML page of a run, a study or a sweep, and its tables as CSV and Parquet.

Figures are interactive, readable offline, and printable. All text is escaped.
"""

from __future__ import annotations

import html
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import pandas as pd
import plotly.graph_objects as go

from effcore.figures.run_charts import filled_run_charts
from effcore.figures.study_charts import (
    forest_figure,
    frontier_figure,
    hypervolume_figure,
    importance_figure,
    variant_curves,
    variant_curves_figure,
    variant_title,
)
from effcore.records import EVAL_COLUMNS, POWER_COLUMNS, STEP_COLUMNS, Energy, Snapshot
from effcore.runs.descriptions import describe_config
from effcore.runs.reproduce import config_to_settings, reproduce_command
from effcore.runs.summary import metric_text, run_summary, saving_lines
from effcore.studies.candidates import candidate_rule_text
from effcore.studies.comparison import (
    CompletedRuns,
    StudyResult,
    VariantResult,
    difference_formatter,
    exploratory_texts,
    policy_text,
    study_result,
    variant_savings,
)
from effcore.studies.difference_table import difference_table
from effcore.studies.frontier import PointResult, SweepResult, conclusion_text, replication_text
from effcore.studies.plan import StudyPlan
from effcore.studies.savings import SHARE_CAPTION, savings_sentence
from effcore.studies.trials import final_validation_metric
from effcore.tasks.base import TASKS, Metric

_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:32px auto;padding:0 16px;color:#16212c}
table{border-collapse:collapse;margin:12px 0;max-width:100%}td,th{border:1px solid #cfd8df;padding:4px 10px;text-align:left;overflow-wrap:anywhere}
td:first-child,th{white-space:nowrap}
.wide :is(td,th){white-space:normal;overflow-wrap:normal;padding:4px 6px}
code{background:#eef2f5;padding:2px 4px;overflow-wrap:anywhere}
@page{size:A4;margin:14mm}
@media print{body{font-size:12px;margin:0;padding:0}h1{font-size:22px}h1,h2{break-after:avoid}tr,.js-plotly-plot{break-inside:avoid}}
@media print,(pointer:coarse),(max-width:640px){.modebar{display:none!important}}
"""  # noqa: E501 - a stylesheet
#: Redraws the figures at the width of the sheet before printing, and at the window's afterwards.
_PRINT_SCRIPT: Final = """
const sized = width => document.querySelectorAll(".js-plotly-plot").forEach(
  figure => Plotly.relayout(figure, width ? { width, autosize: false } : { width, autosize: true }))
addEventListener("beforeprint", () => sized(680))
addEventListener("afterprint", () => sized(null))
"""
_DETAIL_LABELS: Final = {"worst_class": "worst class", "calibration_error": "calibration error"}
_RUN_TABLE_COLUMNS: Final = {"steps": STEP_COLUMNS, "evals": EVAL_COLUMNS, "power": POWER_COLUMNS}


def run_report(snapshot: Snapshot, reference: Snapshot | None = None) -> str:
    """Return a run as one HTML page.

    Args:
        snapshot: The run.
        reference: Full training of the same seed to compare with, where there is one.
    """
    description = describe_config(snapshot.config)
    summary = run_summary(snapshot)
    energy = snapshot.energy
    rows = [
        (name, _cell_text(value)) for name, value in summary.items() if not isinstance(value, dict)
    ]
    rows += [("why", snapshot.reason)] if snapshot.reason else []
    rows += saving_lines(snapshot, reference)
    rows += [("energy", str(energy)), *(("before you quote it", note) for note in energy.notes)]
    figures = [go.Figure(spec) for spec in filled_run_charts(snapshot, description).values()]
    exploratory = (
        ["Exploratory: a person steered or slowed this run."] if snapshot.exploratory else []
    )
    parts = [_paragraphs_html([description.setup, *exploratory]), _table_html(["", ""], rows)]
    address = "/live?" + urlencode(config_to_settings(snapshot.config), doseq=True)
    return _page_html(
        f"{description.title}, run {snapshot.run_id}",
        parts,
        figures,
        reproduce_command(snapshot),
        address,
    )


def study_report(study_id: str, plan: StudyPlan, study_results: CompletedRuns, command: str) -> str:
    """Return a study as one HTML page.

    Args:
        study_id: Its id.
        plan: Its plan.
        study_results: Its finished runs.
        command: The command that repeats the study.
    """
    result = study_result(study_id, plan, study_results)
    task = TASKS.get(str(plan.shared["task"]))
    write, unit = difference_formatter(task.metric)
    paragraphs = [
        f"{policy.arm}: {policy_text(policy, task.metric)} "
        f"{savings_sentence(variant_savings(study_results, policy.arm))}"
        for policy in result.policies
    ]
    paragraphs = paragraphs or ["No verdict yet: it needs two seeds that every variant finished."]
    if study_results.runs_left:
        paragraphs.append(f"Incomplete: {study_results.runs_left} of the planned runs are missing.")
    paragraphs.append(
        f"Margin {write(plan.margin)[1:]} {unit}, budget {plan.budget:.0%} of full training's "
        f"computation. {SHARE_CAPTION} Intervals in brackets are 95% t intervals over paired "
        "seeds."
    )
    paragraphs += [f"Exploratory: {why}" for why in exploratory_texts(result)]
    forest = (result.verdicts, plan.margin, task.metric.factor, unit)
    figures = [forest_figure(*forest)] if result.verdicts else []
    figures.append(
        variant_curves_figure(
            variant_curves(study_results.snapshots), task.metric.label, task.metric.unit == "%"
        )
    )
    heads = [
        "variant",
        "seeds",
        f"{task.metric.label}, mean",
        "saved",
        "skipped",
        "time",
        *_DETAIL_LABELS.values(),
    ]
    parts = [
        _paragraphs_html(paragraphs),
        _table_html(heads, [_variant_cells(variant, task.metric) for variant in result.variants]),
    ]
    parts.append(_differences_html(result, write, unit))
    runs = _runs_html(result, task.metric)
    address = f"/compare?study={study_id}"
    return _page_html(f"{task.title}, study {study_id}", parts, figures, command, address, runs)


def _variant_cells(variant: VariantResult, metric: Metric) -> list[str]:
    saved, skipped = variant.saved_compute_frac, variant.skipped_compute_frac
    seconds, known = variant.seconds, variant.details
    return [
        variant_title(variant.name),
        str(len(variant.seeds)),
        metric_text(metric, variant.metric_mean),
        "–" if saved is None else f"{saved:z.1%}",
        "–" if skipped is None else f"{skipped:z.1%}",
        "–" if seconds is None else f"{seconds:.1f} s",
        *(f"{known[name]:.1%}" if name in known else "–" for name in _DETAIL_LABELS),
    ]


def _differences_html(
    result: StudyResult, format_difference: Callable[[float], str], unit: str
) -> str:
    rows = [
        {**row, "against": variant_title(row["against"])}
        for row in difference_table(result.verdicts, format_difference)
    ]
    if not rows:
        return ""
    heads = f"<h2>Differences{html.escape(f', {unit}'.rstrip(', '))}</h2>"
    return heads + _table_html(list(rows[0]), [list(row.values()) for row in rows], wide=True)


def _runs_html(result: StudyResult, metric: Metric) -> str:
    """Return a table of every run, and a list of the energy sources."""
    rows, sources = [], dict[str, None]()
    for variant in result.variants:
        for run in variant.runs:
            snapshot, end, known = run.snapshot, run.snapshot.end, run.metric is not None
            energy = snapshot.energy
            value = metric_text(metric, run.metric) if known else f"none: {run.reason}"
            seconds = "–" if end is None else f"{end.seconds:.1f} s"
            counts = "yes" if run.counts and known else "no"
            name, seed = variant_title(variant.name), str(run.seed)
            rows.append([name, seed, value, seconds, energy.short_text(), counts, snapshot.run_id])
            sources[f"Energy: {energy.scope}; {energy.source}."] = None
    heads = ["variant", "seed", metric.label, "time", "energy", "counts", "run"]
    return (
        f"<h2>Runs</h2>{_table_html(heads, rows)}{_paragraphs_html(list(sources))}" if rows else ""
    )


def study_table(result: StudyResult) -> pd.DataFrame:
    """Return a row for each run of a study, failed runs included."""
    rows = [
        {
            "arm": variant.name,
            "seed": run.seed,
            "run": run.snapshot.run_id,
            "counts": run.counts,
            "status": run.snapshot.status.value,
            result.metric.name: run.metric,
            **(end.details if (end := run.snapshot.end) is not None else {}),
            "flops": end.flops_spent if end is not None else None,
            "skipped_compute_frac": end.skipped_compute_frac if end is not None else None,
            "saved_compute_frac": end.saved_compute_frac if end is not None else None,
            "seconds": end.seconds if end is not None else None,
            **_energy_columns(run.snapshot.energy),
            "why": run.snapshot.reason,
        }
        for variant in result.variants
        for run in variant.runs
    ]
    return pd.DataFrame(rows)


def sweep_report(result: SweepResult, command: str) -> str:
    """Return a sweep as one HTML page.

    Args:
        result: Its result.
        command: The command that repeats the sweep.
    """
    plan, metric = result.plan, result.metric
    write, unit = difference_formatter(metric)
    margin = f"{write(plan.margin)[1:]} {unit}".rstrip()
    paragraphs = [
        conclusion_text(result),
        f"{plan.policy}, {metric.label} on validation over {len(plan.seeds)} seeds, margin "
        f"{margin}; cost is the share of full training's {result.cost_unit}.",
        f"Second look: {candidate_rule_text(plan)}.",
    ]
    paragraphs += [replication_text(point, write, unit) for point in result.replications]
    figures = [frontier_figure(result)] if result.measured_points else []
    figures += [hypervolume_figure(result.hypervolume)] if result.hypervolume else []
    figures += [importance_figure(result.importance)] if result.importance else []
    rows = [_sweep_point_cells(point, metric) for point in result.points]
    heads = ["point", "state", "knobs", "budget", "cost", metric.label, "front"]
    parts = [_paragraphs_html(paragraphs), _table_html(heads, rows)]
    title = f"{result.task.title}, sweep {result.sweep_id}"
    return _page_html(title, parts, figures, command, f"/frontier?sweep={result.sweep_id}")


def _sweep_point_cells(result: PointResult, metric: Metric) -> list[str]:
    point = result.point
    knobs = ", ".join(f"{name} {value:.4g}" for name, value in point.knobs.items())
    cost = "–" if result.cost is None else f"{result.cost:.1%}"
    value = "–" if result.metric is None else metric_text(metric, result.metric)
    why = point.failure_reason
    state = f"{result.state.text}: {why}" if why else result.state.text
    front = "yes" if result.is_on_front else ""
    return [point.name, state, knobs, f"{point.budget:.4g}", cost, value, front]


def sweep_table(result: SweepResult) -> pd.DataFrame:
    """Return a row for each run of a sweep, with the values of its point."""
    rows = [
        {
            "point": point_result.name,
            "state": point_result.state.value,
            "budget": point_result.point.budget,
            "front": point_result.is_on_front,
            "candidate": point_result is result.candidate,
            "skipped_compute_frac": point_result.skipped_compute_frac,
            "saved_compute_frac": point_result.saved_compute_frac,
            "cost": point_result.cost,
            **point_result.point.knobs,
            "look": stage,
            "seed": seed,
            "run": snapshot.run_id,
            result.metric.name: final_validation_metric(snapshot),
            **_energy_columns(snapshot.energy),
        }
        for point_result in result.points
        for stage, snapshots in (
            ("search", point_result.point.snapshots),
            ("second", point_result.point.replication_snapshots),
        )
        for seed, snapshot in snapshots.items()
    ]
    return pd.DataFrame(rows)


def _energy_columns(energy: Energy) -> dict[str, float | str | None]:
    return {
        "joules": energy.joules, "joules_lo": energy.lo, "joules_hi": energy.hi,
        "energy_quality": energy.quality.value, "energy_source": energy.source,
    }  # fmt: skip


def run_table(snapshot: Snapshot, table_name: str) -> pd.DataFrame:
    """Return one of a run's tables: ``steps``, ``evals`` or ``power``.

    The power table also has the quality and the source of its energy figures.

    Raises:
        KeyError: Another name.
    """
    columns = _RUN_TABLE_COLUMNS[table_name]
    table = pd.DataFrame(getattr(snapshot, table_name).T, columns=list(columns))
    if table_name == "power":
        energy = snapshot.energy
        table["energy_quality"], table["energy_source"] = energy.quality.value, energy.source
    return table


def to_csv(table: pd.DataFrame) -> bytes:
    """Return a table as CSV, UTF-8."""
    return table.to_csv(index=False).encode()


def to_parquet(table: pd.DataFrame) -> bytes:
    """Return a table as Parquet."""
    file = io.BytesIO()
    table.to_parquet(file, index=False)
    return file.getvalue()


def to_json(record: Mapping[str, Any]) -> bytes:
    """Return a record as JSON, UTF-8."""
    return json.dumps(record, indent=1).encode()


def _cell_text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "–"
    return "–" if pd.isna(value) else f"{value:.6g}" if isinstance(value, float) else str(value)


def _paragraphs_html(paragraphs: Sequence[str]) -> str:
    return "".join(f"<p>{html.escape(text)}</p>" for text in paragraphs)


def _table_html(heads: Sequence[str], rows: Sequence[Sequence[str]], wide: bool = False) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    kind = ' class="wide"' if wide else ""
    return f"<table{kind}>{line(heads, 'th') if any(heads) else ''}{body}</table>"


def _page_html(
    title: str,
    parts: Sequence[str],
    figures: Sequence[go.Figure],
    command: str,
    app_address: str,
    trailing_html: str = "",
) -> str:
    drawn = [
        figure.update_layout(height=figure.layout.height or 380, template="plotly_white").to_html(
            full_html=False, include_plotlyjs=place == 0, config={"responsive": True}
        )
        for place, figure in enumerate(figures)
    ]
    name = html.escape(title)
    head = f'<meta charset="utf-8"><title>{name}</title><style>{_STYLE}</style>'
    reproduce = (
        f"<h2>Reproduce this</h2><p><code>{html.escape(command)}</code></p>"
        f"<p>Or in the running app: <code>{html.escape(app_address)}</code></p>"
    )
    script = f"<script>{_PRINT_SCRIPT}</script>" if drawn else ""
    body = f"<h1>{name}</h1>{''.join(parts)}{reproduce}{''.join(drawn)}{trailing_html}{script}"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'
