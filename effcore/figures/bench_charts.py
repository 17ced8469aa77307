"""Figures of bench results: differences with intervals, heat maps and curves.

Each function takes the rows that a bench writes as JSON and returns a plotly figure;
:func:`figures_page` combines figures into one self-contained HTML page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from effcore.figures.palette import COLOURS

StudyRows = Sequence[Mapping[str, Any]]
#: Colours of differences: worse, none, better; they differ in lightness as well as in hue.
_DIFFERENCE_SCALE: Final = [(0.0, "#a63d1f"), (0.5, "#f2f2f0"), (1.0, "#1f5fa6")]
_VERDICT_SYMBOLS: Final = {True: "circle", False: "x-thin", None: "circle-open"}
_FONT: Final = {"family": "Inter, system-ui, sans-serif", "size": 13}


def savings_figure(rows: StudyRows) -> go.Figure:
    """Return each variant's difference from full training and from same-budget training.

    Filled circles are non-inferior, crosses are inferior, and open circles have too few seeds
    for a verdict. The dotted line is the margin.

    Args:
        rows: Rows of ``bench savings``; failed variants are omitted, the table names them.
    """
    tasks = list(dict.fromkeys(str(row["task"]) for row in rows))
    comparisons = ("against full training", "against same-budget training")
    titles = [f"{task}: {comparison}" for task in tasks for comparison in comparisons]
    figure = make_subplots(
        len(tasks), 2, subplot_titles=titles, vertical_spacing=0.12 / len(tasks), shared_yaxes=True
    )
    for row_number, task in enumerate(tasks, start=1):
        task_rows = [row for row in rows if row["task"] == task and "diff" in row]
        _add_forest(figure, row_number, 1, task_rows, "diff", "noninferior")
        _add_forest(figure, row_number, 2, task_rows, "diff_db", "beats_db")
        for row in task_rows[:1]:
            figure.add_vline(-row["margin"], line_dash="dot", line_width=1, row=row_number, col=1)
    figure.update_yaxes(autorange="reversed", automargin=True)
    axis_title = "difference in the metric's own scale, 95% interval"
    figure.update_xaxes(
        title=axis_title, row=len(tasks)
    )  # upper titles would overlap the panels below
    return _apply_style(figure, 90 + 420 * len(tasks))


def _add_forest(
    figure: go.Figure, row_number: int, column: int, rows: StudyRows, name: str, mark: str
) -> None:
    known_rows = [row for row in rows if name in row]
    values = [row[name] for row in known_rows]
    figure.add_scatter(
        x=values,
        y=[row["arm"] for row in known_rows],
        mode="markers",
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [row[f"{name}_hi"] - row[name] for row in known_rows],
            "arrayminus": [row[name] - row[f"{name}_lo"] for row in known_rows],
            "thickness": 1.2,
        },
        marker={
            "symbol": [_VERDICT_SYMBOLS[row[mark]] for row in known_rows],
            "size": 9,
            "line": {"width": 2, "color": COLOURS["efficient"]},
            "color": COLOURS["efficient"],
        },
        hovertemplate="%{y}: %{x:+.4f}<extra></extra>",
        row=row_number,
        col=column,
    )
    figure.add_vline(0.0, line_width=1, row=row_number, col=column)


def loss_by_budget_figure(rows: StudyRows) -> go.Figure:
    """Return the change of the metric over the computation saved, one panel per model family.

    Args:
        rows: Rows of ``bench claim``'s first question.
    """
    columns = min(3, len(rows))
    titles = [f"{row['task']}, {row['model']}" for row in rows]
    figure = make_subplots(-(-len(rows) // columns), columns, subplot_titles=titles)
    for index, row in enumerate(rows):
        panel = {"row": index // columns + 1, "col": index % columns + 1}
        for arm, role in (("auto", "efficient"), ("dense", "dense")):
            points = [point for point in row["by_budget"] if point["arm"] == arm]
            figure.add_scatter(
                x=[1.0 - point["budget"] for point in points],
                y=[point["diff"] for point in points],
                error_y={"array": [point["diff_hi"] - point["diff"] for point in points]},
                line={"color": COLOURS[role], "dash": "solid" if arm == "auto" else "dash"},
                mode="lines+markers",
                name="auto" if arm == "auto" else "same-budget training",
                legendgroup=arm,
                showlegend=index == 0,
                **panel,
            )
        figure.add_hline(0.0, line_width=1, **panel)
        figure.add_hline(-row["margin"], line_width=1, line_dash="dot", **panel)
    figure.update_xaxes(tickformat=".0%", title="computation saved")
    return _apply_style(figure, 120 + 260 * -(-len(rows) // columns))


def data_faults_figure(rows: StudyRows) -> go.Figure:
    """Return heat maps over copies and wrong labels, one column per class imbalance.

    The upper row is against full training, the lower against same-budget training. A ring
    marks a cell that is non-inferior above, or better below.

    Args:
        rows: Rows of ``bench claim``'s second question.
    """
    imbalances = sorted({row["imbalance"] for row in rows})
    column_titles = [f"1 to {value:g}" if value > 1 else "balanced" for value in imbalances]
    figure = make_subplots(
        2,
        len(imbalances),
        column_titles=column_titles,
        row_titles=["against full training", "against same-budget training"],
    )
    largest = max(abs(row[name]) for row in rows for name in ("diff", "diff_db"))
    for column, imbalance in enumerate(imbalances, start=1):
        imbalance_rows = [row for row in rows if row["imbalance"] == imbalance]
        for row_number, (name, mark) in enumerate(
            (("diff", "noninferior"), ("diff_db", "beats_db")), start=1
        ):
            _add_heatmap(figure, imbalance_rows, name, mark, largest, row=row_number, col=column)
    figure.update_xaxes(title="copies", tickformat=".0%", type="category")
    figure.update_yaxes(title="wrong labels", tickformat=".0%", type="category", col=1)
    return _apply_style(figure, 620)


def _add_heatmap(
    figure: go.Figure, rows: StudyRows, name: str, mark: str, largest: float, **where: int
) -> None:
    figure.add_heatmap(
        x=[f"{row['redundancy']:.0%}" for row in rows],
        y=[f"{row['label_noise']:.0%}" for row in rows],
        z=[row[name] for row in rows],
        text=[f"{row[name]:+.3f}{' ○' if row[mark] else ''}" for row in rows],
        texttemplate="%{text}",
        zmin=-largest,
        zmax=largest,
        colorscale=_DIFFERENCE_SCALE,
        showscale=where == {"row": 1, "col": 1},
        **where,
    )


def time_saved_figure(rows: StudyRows) -> go.Figure:
    """Return time saved ÷ computation skipped by batch size, for each model size and thread count.

    Args:
        rows: Rows of ``bench claim``'s third question.
    """
    threads = sorted({row["threads"] for row in rows})
    figure = make_subplots(
        1,
        len(threads),
        column_titles=["1 thread" if n == 1 else f"{n} threads" for n in threads],
        shared_yaxes=True,
    )
    sizes = dict.fromkeys(row["size"] for row in rows)
    for column, count in enumerate(threads, start=1):
        for size, role in zip(sizes, ("efficient", "power", "metric"), strict=False):
            group_rows = [row for row in rows if (row["threads"], row["size"]) == (count, size)]
            ratios = [row["ratio"] for row in group_rows]
            figure.add_scatter(
                x=[str(row["batch_size"]) for row in group_rows],
                y=[ratio["median"] for ratio in ratios],
                error_y={
                    "symmetric": False,
                    "array": [ratio["hi"] - ratio["median"] for ratio in ratios],
                    "arrayminus": [ratio["median"] - ratio["lo"] for ratio in ratios],
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
