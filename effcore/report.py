"""One self-contained HTML page of a run or a study, and its tables as CSV and Parquet.

Figures are interactive and readable offline; the page prints. Whatever came from outside is
escaped.
"""

from __future__ import annotations

import html
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go

from effcore.compare import Results, difference_writer, record
from effcore.config import describe
from effcore.events import EVAL_COLUMNS, POWER_COLUMNS, STEP_COLUMNS, Snapshot
from effcore.figures.filled import charts
from effcore.figures.verdicts import curves, curves_figure, forest_figure
from effcore.repeat import command_of
from effcore.study import Plan
from effcore.summary import energy_record, summary
from effcore.tasks.base import TASKS

_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:32px auto;padding:0 16px;color:#16212c}
table{border-collapse:collapse;margin:12px 0}td,th{border:1px solid #cfd8df;padding:4px 10px;text-align:left}
code{background:#eef2f5;padding:2px 4px;overflow-wrap:anywhere}
@media print{body{margin:0}.js-plotly-plot{break-inside:avoid}.modebar{display:none}}
"""  # noqa: E501 - a stylesheet
_TABLES: Final = {"steps": STEP_COLUMNS, "evals": EVAL_COLUMNS, "power": POWER_COLUMNS}


def run_report(look: Snapshot) -> str:
    """Return a run as one HTML page."""
    info = describe(look.config)
    told = summary(look)
    energy = look.energy
    rows = [(name, str(value)) for name, value in told.items() if not isinstance(value, dict)]
    rows += [("energy", str(energy)), *(("before you quote it", note) for note in energy.notes)]
    figures = [go.Figure(spec) for spec in charts(look, info).values()]
    exploratory = ["It was steered or slowed: exploratory."] if look.exploratory else []
    parts = [_lines([f"{info['setup']}", *exploratory]), _table(["", ""], rows)]
    return _page(f"{info['title']}, run {look.run_id}", parts, figures, command_of(look))


def study_report(study_id: str, plan: Plan, found: Results, command: str) -> str:
    """Return a study as one HTML page.

    Args:
        study_id: Its id.
        plan: What it compares.
        found: What its cells came to.
        command: The command that carries it out again.
    """
    told = record(study_id, plan, found)
    task = TASKS.get(told["task"])
    write, unit = difference_writer(task.metric)
    words = list(told["sentences"].values()) or ["Too little is done for a verdict."]
    words.append(f"Margin {write(plan.margin)[1:]} {unit}, {plan.budget:.0%} of the compute.")
    words += [f"Exploratory: {why}" for why in told["exploratory"]]
    factor = 100.0 if task.metric.unit == "%" else 1.0
    figures = [forest_figure(told["diffs"], plan.margin, factor, unit)] if told["diffs"] else []
    figures.append(curves_figure(curves(found.runs), task.metric.label, task.metric.unit == "%"))
    table = study_table(told)
    rows = [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    parts = [_lines(words), _table([str(name) for name in table], rows)]
    return _page(f"{task.title}, study {study_id}", parts, figures, command)


def study_table(told: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row for each arm and seed that are in a study's record."""
    metric = TASKS.get(told["task"]).metric
    rows = []
    for arm in told["arms"]:
        for seed, value, energy in zip(arm["seeds"], arm["metrics"], arm["energy"], strict=True):
            rows.append({
                "arm": arm["name"], "seed": seed, metric.name: value,
                "joules": energy["joules"], "joules_lo": energy["lo"], "joules_hi": energy["hi"],
                "energy_quality": str(energy["quality"]), "energy_source": energy["source"],
            })  # fmt: skip
    return pd.DataFrame(rows)


def run_table(look: Snapshot, name: str) -> pd.DataFrame:
    """Return one of a run's tables: ``steps``, ``evals`` or ``power``.

    The power table says of its joules how they came to be known.

    Raises:
        KeyError: Another name.
    """
    columns = _TABLES[name]
    table = pd.DataFrame(getattr(look, name).T, columns=list(columns))
    if name == "power":
        kept = energy_record(look.energy)
        table["energy_quality"], table["energy_source"] = str(kept["quality"]), kept["source"]
    return table


def to_csv(table: pd.DataFrame) -> bytes:
    """Return a table as CSV, UTF-8."""
    return table.to_csv(index=False).encode()


def to_parquet(table: pd.DataFrame) -> bytes:
    """Return a table as Parquet."""
    file = io.BytesIO()
    table.to_parquet(file, index=False)
    return file.getvalue()


def _cell(value: Any) -> str:
    return "–" if pd.isna(value) else f"{value:.6g}" if isinstance(value, float) else str(value)


def _lines(words: Sequence[str]) -> str:
    return "".join(f"<p>{html.escape(text)}</p>" for text in words)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table>{line(heads, 'th') if any(heads) else ''}{body}</table>"


def _page(title: str, parts: Sequence[str], figures: Sequence[go.Figure], command: str) -> str:
    drawn = [
        figure.update_layout(height=figure.layout.height or 380).to_html(
            full_html=False, include_plotlyjs=place == 0, config={"responsive": True}
        )
        for place, figure in enumerate(figures)
    ]
    name = html.escape(title)
    head = f'<meta charset="utf-8"><title>{name}</title><style>{_STYLE}</style>'
    again = f"<h2>Again</h2><p><code>{html.escape(command)}</code></p>"
    body = f"<h1>{name}</h1>{''.join(parts)}{''.join(drawn)}{again}"
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'
