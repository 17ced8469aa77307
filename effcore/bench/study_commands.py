"""The commands ``bench savings`` and ``bench claim``, and the figures of their results.

Each figure function takes the results of a bench and returns a Plotly figure. :func:`figures_page`
combines figures into one self-contained HTML page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from effcore.bench.bench_store import open_bench_store
from effcore.bench.claim import (
    ClaimAnswers,
    ClaimQuestions,
    FaultCell,
    ModelSavings,
    TimeSavedCell,
    answer_questions,
)
from effcore.bench.command_line import (
    bench,
    device_option,
    echo_progress,
    figure_option,
    journal_option,
    print_result,
)
from effcore.bench.savings_study import (
    SavingsOptions,
    SavingsRow,
    plan_savings_studies,
    run_savings_study,
    savings_text,
)
from effcore.bench.savings_variants import MAX_TRIES
from effcore.cli.knob_options import jobs_option, json_option
from effcore.figures.palette import COLOURS
from effcore.studies.statistics import PairedDifference

#: Colours of differences: worse, none, better; they differ in lightness as well as in hue.
_DIFFERENCE_SCALE: Final = [(0.0, "#a63d1f"), (0.5, "#f2f2f0"), (1.0, "#1f5fa6")]
_VERDICT_SYMBOLS: Final = {True: "circle", False: "x-thin", None: "circle-open"}
_FONT: Final = {"family": "Inter, system-ui, sans-serif", "size": 13}


class _Difference(NamedTuple):
    """A variant's difference from a baseline, and whether the question about it is answered."""

    name: str
    paired: PairedDifference
    is_shown: bool | None


def savings_figure(rows: Sequence[SavingsRow]) -> go.Figure:
    """Return each variant's difference from full training and from same-budget training.

    Filled circles are non-inferior, crosses are not shown to be so, and open circles have too few
    seeds for a verdict. The dotted line is the margin.

    Args:
        rows: Rows of ``bench savings``; failed variants are omitted, the table names them.
    """
    tasks = list(dict.fromkeys(row.study.task for row in rows))
    comparisons = ("against full training", "against same-budget training")
    titles = [f"{task}: {comparison}" for task in tasks for comparison in comparisons]
    figure = make_subplots(
        len(tasks), 2, subplot_titles=titles, vertical_spacing=0.12 / len(tasks), shared_yaxes=True
    )
    for row_number, task in enumerate(tasks, start=1):
        task_rows = [row for row in rows if row.study.task == task]
        from_full = [
            _Difference(row.name, answer.paired, answer.noninferior)
            for row in task_rows
            if (answer := row.against_full) is not None
        ]
        from_matched = [
            _Difference(row.name, answer.paired, answer.better)
            for row in task_rows
            if (answer := row.against_matched) is not None
        ]
        _add_forest(figure, row_number, 1, from_full)
        _add_forest(figure, row_number, 2, from_matched)
        if from_full:
            margin = task_rows[0].result.plan.margin
            figure.add_vline(-margin, line_dash="dot", line_width=1, row=row_number, col=1)
    figure.update_yaxes(autorange="reversed", automargin=True)
    axis_title = "difference in the metric's own scale, 95% interval"
    figure.update_xaxes(
        title=axis_title, row=len(tasks)
    )  # upper titles would overlap the panels below
    return _apply_style(figure, 90 + 420 * len(tasks))


def _add_forest(
    figure: go.Figure, row_number: int, column: int, differences: Sequence[_Difference]
) -> None:
    paired = [difference.paired for difference in differences]
    figure.add_scatter(
        x=[each.mean for each in paired],
        y=[difference.name for difference in differences],
        mode="markers",
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [each.hi - each.mean for each in paired],
            "arrayminus": [each.mean - each.lo for each in paired],
            "thickness": 1.2,
        },
        marker={
            "symbol": [_VERDICT_SYMBOLS[difference.is_shown] for difference in differences],
            "size": 9,
            "line": {"width": 2, "color": COLOURS["efficient"]},
            "color": COLOURS["efficient"],
        },
        hovertemplate="%{y}: %{x:+.4f}<extra></extra>",
        row=row_number,
        col=column,
    )
    figure.add_vline(0.0, line_width=1, row=row_number, col=column)


def loss_by_budget_figure(rows: Sequence[ModelSavings]) -> go.Figure:
    """Return the change of the metric over the computation saved, one panel per model."""
    columns = min(3, len(rows))
    titles = [f"{row.task}, {row.model}" for row in rows]
    figure = make_subplots(-(-len(rows) // columns), columns, subplot_titles=titles)
    for index, row in enumerate(rows):
        panel = {"row": index // columns + 1, "col": index % columns + 1}
        for name, results, role, dash in (
            ("auto", row.auto, "efficient", "solid"),
            ("same-budget training", row.dense, "dense", "dash"),
        ):
            points = [(r.budget, r.difference) for r in results if r.difference is not None]
            figure.add_scatter(
                x=[1.0 - budget for budget, _ in points],
                y=[paired.mean for _, paired in points],
                error_y={"array": [paired.hi - paired.mean for _, paired in points]},
                line={"color": COLOURS[role], "dash": dash},
                mode="lines+markers",
                name=name,
                legendgroup=name,
                showlegend=index == 0,
                **panel,
            )
        figure.add_hline(0.0, line_width=1, **panel)
        figure.add_hline(-row.margin, line_width=1, line_dash="dot", **panel)
    figure.update_xaxes(tickformat=".0%", title="computation saved")
    return _apply_style(figure, 120 + 260 * -(-len(rows) // columns))


def data_faults_figure(cells: Sequence[FaultCell]) -> go.Figure:
    """Return heat maps over copies and wrong labels, one column per class imbalance.

    The upper row is against full training, the lower against same-budget training. A ring
    marks a cell that is non-inferior above, or better below. Cells without a verdict are empty.
    """
    imbalances = sorted({cell.faults["imbalance"] for cell in cells})
    column_titles = [f"1 to {value:g}" if value > 1 else "balanced" for value in imbalances]
    figure = make_subplots(
        2,
        len(imbalances),
        column_titles=column_titles,
        row_titles=["against full training", "against same-budget training"],
    )
    judged = [(cell.faults, cell.verdict) for cell in cells if cell.verdict is not None]
    from_full = [
        (faults, _Difference("", verdict.against_full.paired, verdict.noninferior))
        for faults, verdict in judged
    ]
    from_matched = [
        (faults, _Difference("", verdict.against_matched.paired, verdict.superior))
        for faults, verdict in judged
    ]
    largest = max((abs(d.paired.mean) for _, d in (*from_full, *from_matched)), default=1.0)
    for column, imbalance in enumerate(imbalances, start=1):
        for row_number, differences in enumerate((from_full, from_matched), start=1):
            shown = [each for each in differences if each[0]["imbalance"] == imbalance]
            _add_heatmap(figure, shown, largest, row=row_number, col=column)
    figure.update_xaxes(title="copies", tickformat=".0%", type="category")
    figure.update_yaxes(title="wrong labels", tickformat=".0%", type="category", col=1)
    return _apply_style(figure, 620)


def _add_heatmap(
    figure: go.Figure,
    differences: Sequence[tuple[Mapping[str, float], _Difference]],
    largest: float,
    **where: int,
) -> None:
    figure.add_heatmap(
        x=[f"{faults['redundancy']:.0%}" for faults, _ in differences],
        y=[f"{faults['label_noise']:.0%}" for faults, _ in differences],
        z=[each.paired.mean for _, each in differences],
        text=[f"{each.paired.mean:+.3f}{' ○' if each.is_shown else ''}" for _, each in differences],
        texttemplate="%{text}",
        zmin=-largest,
        zmax=largest,
        colorscale=_DIFFERENCE_SCALE,
        showscale=where == {"row": 1, "col": 1},
        **where,
    )


def time_saved_figure(cells: Sequence[TimeSavedCell]) -> go.Figure:
    """Return time saved ÷ computation skipped by batch size, for each size and thread count."""
    threads = sorted({cell.threads for cell in cells})
    figure = make_subplots(
        1,
        len(threads),
        column_titles=["1 thread" if n == 1 else f"{n} threads" for n in threads],
        shared_yaxes=True,
    )
    sizes = dict.fromkeys(cell.size for cell in cells)
    for column, count in enumerate(threads, start=1):
        for size, role in zip(sizes, ("efficient", "power", "metric"), strict=False):
            group = [cell for cell in cells if (cell.threads, cell.size) == (count, size)]
            figure.add_scatter(
                x=[str(cell.batch_size) for cell in group],
                y=[cell.ratio.median for cell in group],
                error_y={
                    "symmetric": False,
                    "array": [cell.ratio.hi - cell.ratio.median for cell in group],
                    "arrayminus": [cell.ratio.median - cell.ratio.lo for cell in group],
                },
                name=size,
                legendgroup=size,
                showlegend=column == 1,
                line={"color": COLOURS[role]},
                row=1,
                col=column,
            )
        figure.add_hline(1.0, line_width=1, row=1, col=column)
    figure.update_xaxes(title="batch size", type="category")
    figure.update_yaxes(title="time saved ÷ computation skipped", col=1)
    return _apply_style(figure, 420)


def claim_figures(answers: ClaimAnswers) -> dict[str, go.Figure]:
    """Return a figure for each answered question of ``bench claim``, by its heading."""
    figures = {}
    if answers.families is not None:
        figures["Change of the metric by computation saved"] = loss_by_budget_figure(
            answers.families
        )
    if answers.grid is not None:
        figures["Selection under faults of the data"] = data_faults_figure(answers.grid)
    if answers.machine is not None:
        figures["Time saved per computation saved"] = time_saved_figure(answers.machine)
    return figures


def _apply_style(figure: go.Figure, height: int) -> go.Figure:
    figure.update_layout(
        template="plotly_white",
        font=_FONT,
        height=height,
        showlegend=any(trace.showlegend for trace in figure.data),
        margin={"l": 60, "r": 30, "t": 90, "b": 50},
        legend={"orientation": "h", "yref": "container", "y": 0.99, "yanchor": "top", "x": 0},
    )
    return figure


def figures_page(title: str, figures: Mapping[str, go.Figure]) -> str:
    """Return one HTML page with the figures under their headings; it works offline."""
    parts = [
        f"<h2>{heading}</h2>" + figure.to_html(full_html=False, include_plotlyjs=index == 0)
        for index, (heading, figure) in enumerate(figures.items())
    ]
    style = "body{font-family:system-ui,sans-serif;max-width:1200px;margin:24px auto}"
    head = f'<meta charset="utf-8"><title>{title}</title><style>{style}</style>'
    body = f"<h1>{title}</h1>" + "\n".join(parts)
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'


# Commands ---------------------------------------------------------------------------------


@bench.command()
@click.option("--tasks", default="photo,digits", help="Tasks, with commas.")
@click.option("--model", help="Model of each task; its first by default.")
@click.option("--size", help="Size of the models.")
@click.option("--epochs", type=int, help="Epochs of full training.")
@click.option(
    "--arms", default="", help="Variants besides the dense ones, with commas; all where empty."
)
@click.option(
    "--budget",
    default=0.6,
    help="Budget of all variants but full training, as a share of its FLOPs.",
)
@click.option(
    "--tries",
    type=click.IntRange(1, MAX_TRIES),
    help=f"Settings that each policy may try, {MAX_TRIES} by default; dense training tries more "
    "until it stops improving. 1 means no tuning.",
)
@click.option("--tuning-seeds", default=2, type=click.IntRange(1), help="Tuning seeds per setting.")
@click.option(
    "--seeds",
    type=click.IntRange(2),
    help="Fresh paired seeds; by default as many as a verdict needs, 6 for one policy, 10 for "
    "several.",
)
@click.option("--first-seed", default=100, help="The first of the fresh seeds.")
@device_option
@jobs_option
@journal_option
@click.option(
    "--quick",
    is_flag=True,
    help="Small models, a quarter of the epochs, two seeds, no tuning, each unless it is given.",
)
@figure_option
@json_option
def savings(
    tasks: str,
    model: str | None,
    jobs: int,
    journal: str | None,
    as_json: bool,
    quick: bool,
    figure: Path | None,
    **options: Any,
) -> None:
    """Compare all policies with dense training.

    The references are full training and same-budget training. Resumable.
    """
    chosen = SavingsOptions(**options, quick=quick)
    planned, store = plan_savings_studies(tasks.split(","), model, journal, chosen)
    rows = [
        row for study in planned for row in run_savings_study(study, store, jobs, echo_progress)
    ]
    record = {"rows": [row.to_record() for row in rows], "quick": quick}
    print_result(record, as_json, savings_text(rows))
    if figure is not None:  # after the result, which a file that cannot be written must not lose
        figures = {"Differences and their intervals": savings_figure(rows)}
        figure.write_text(figures_page("What every policy saves", figures), encoding="utf-8")


@bench.command()
@click.option(
    "--part",
    type=click.Choice(["families", "grid", "machine", "all"]),
    default="all",
    help="Part to measure.",
)
@click.option(
    "--models",
    default="",
    help="task/model pairs of families, with commas; all where empty.",
)
@click.option("--grid-task", default="tabular", help="Task of grid.")
@click.option("--rows", default=4000, type=click.IntRange(500), help="Rows of the task of grid.")
@click.option("--machine-tasks", default="digits,code", help="Tasks of machine, with commas.")
@click.option(
    "--seeds",
    type=click.IntRange(2),
    help="Fresh paired seeds; by default as many as a verdict needs, 6 for families, 10 for grid.",
)
@click.option("--first-seed", default=100, help="The first of the seeds.")
@click.option("--repeats", default=5, type=click.IntRange(3), help="Timed runs of each policy.")
@device_option
@click.option(
    "--jobs", default=1, type=click.IntRange(1), help="Runs at a time, except timed runs."
)
@journal_option
@click.option("--quick", is_flag=True, help="Two seeds, few variants, few epochs: minutes.")
@figure_option
@json_option
def claim(
    part: str, journal: str | None, figure: Path | None, as_json: bool, **options: Any
) -> None:
    """Measure savings by model, faults in the data and machine.

    The parts are families (over budgets, for each task and model), grid (over copies, wrong labels
    and imbalance in the data of one task) and machine (time saved, over model sizes, batch sizes
    and threads). Resumable.
    """
    parts = ("families", "grid", "machine") if part == "all" else (part,)
    answers = answer_questions(
        parts, ClaimQuestions(**options), open_bench_store(journal), echo_progress
    )
    record = {**answers.to_record(), "quick": options["quick"]}
    print_result(record, as_json, answers.to_text())
    if figure is not None:
        figure.write_text(figures_page("Three questions", claim_figures(answers)), encoding="utf-8")
