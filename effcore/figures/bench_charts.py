"""Figures of finished studies: differences with their intervals, heat maps, curves.

Each takes the rows that the benches give as JSON and returns a plotly figure; ``page`` makes
of it one HTML file that needs nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from effcore.figures.palette import COLOURS

StudyRows = Sequence[Mapping[str, Any]]
#: Differences: worse, none, better; told apart by lightness as well as by hue.
_DIFFERENCE_SCALE: Final = [(0.0, "#a63d1f"), (0.5, "#f2f2f0"), (1.0, "#1f5fa6")]
_VERDICT_SYMBOLS: Final = {True: "circle", False: "x-thin", None: "circle-open"}
_FONT: Final = {"family": "Inter, system-ui, sans-serif", "size": 13}


def savings_figure(rows: StudyRows) -> go.Figure:
    """Return each arm's difference to full dense training and to dense of equal compute.

    Filled circles are not inferior, crosses are, open circles had too few seeds to say. The
    dotted line is the margin.

    Args:
        rows: Rows of ``bench savings``; arms that failed are left out, the table names them.
    """
    tasks = list(dict.fromkeys(str(row["task"]) for row in rows))
    others = ("against all of it", "against dense of equal compute")
    titles = [f"{task}: {other}" for task in tasks for other in others]
    figure = make_subplots(
        len(tasks), 2, subplot_titles=titles, vertical_spacing=0.12 / len(tasks), shared_yaxes=True
    )
    for place, task in enumerate(tasks, start=1):
        own = [row for row in rows if row["task"] == task and "diff" in row]
        _add_forest(figure, place, 1, own, "diff", "noninferior")
        _add_forest(figure, place, 2, own, "diff_db", "beats_db")
        for row in own[:1]:
            figure.add_vline(-row["margin"], line_dash="dot", line_width=1, row=place, col=1)
    figure.update_yaxes(autorange="reversed", automargin=True)
    words = "difference in the metric's own scale, 95% interval"
    figure.update_xaxes(title=words, row=len(tasks))  # the others would run into titles below
    return _apply_style(figure, 90 + 420 * len(tasks))


def _add_forest(
    figure: go.Figure, place: int, column: int, rows: StudyRows, name: str, mark: str
) -> None:
    shown = [row for row in rows if name in row]
    values = [row[name] for row in shown]
    figure.add_scatter(
        x=values,
        y=[row["arm"] for row in shown],
        mode="markers",
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [row[f"{name}_hi"] - row[name] for row in shown],
            "arrayminus": [row[name] - row[f"{name}_lo"] for row in shown],
            "thickness": 1.2,
        },
        marker={
            "symbol": [_VERDICT_SYMBOLS[row[mark]] for row in shown],
            "size": 9,
            "line": {"width": 2, "color": COLOURS["efficient"]},
            "color": COLOURS["efficient"],
        },
        hovertemplate="%{y}: %{x:+.4f}<extra></extra>",
        row=place,
        col=column,
    )
    figure.add_vline(0.0, line_width=1, row=place, col=column)


def loss_by_budget_figure(rows: StudyRows) -> go.Figure:
    """Return what each family of models loses by how much it skips, one panel each.

    Args:
        rows: Rows of ``bench claim``'s first question.
    """
    columns = min(3, len(rows))
    titles = [f"{row['task']}, {row['model']}" for row in rows]
    figure = make_subplots(-(-len(rows) // columns), columns, subplot_titles=titles)
    for place, row in enumerate(rows):
        where = {"row": place // columns + 1, "col": place % columns + 1}
        for arm, role in (("auto", "efficient"), ("dense", "dense")):
            told = [each for each in row["by_budget"] if each["arm"] == arm]
            figure.add_scatter(
                x=[1.0 - each["budget"] for each in told],
                y=[each["diff"] for each in told],
                error_y={"array": [each["diff_hi"] - each["diff"] for each in told]},
                line={"color": COLOURS[role], "dash": "solid" if arm == "auto" else "dash"},
                mode="lines+markers",
                name="auto" if arm == "auto" else "dense, trained for less",
                legendgroup=arm,
                showlegend=place == 0,
                **where,
            )
        figure.add_hline(0.0, line_width=1, **where)
        figure.add_hline(-row["margin"], line_width=1, line_dash="dot", **where)
    figure.update_xaxes(tickformat=".0%", title="compute skipped")
    return _apply_style(figure, 120 + 260 * -(-len(rows) // columns))


def data_faults_figure(rows: StudyRows) -> go.Figure:
    """Return heat maps over copies and wrong labels, a column for each imbalance.

    The upper row is against the whole dense run, the lower against dense of equal compute.
    A ring marks what is not inferior above, and better below.

    Args:
        rows: Rows of ``bench claim``'s second question.
    """
    imbalances = sorted({row["imbalance"] for row in rows})
    words = [f"1 to {value:g}" if value > 1 else "balanced" for value in imbalances]
    figure = make_subplots(
        2, len(imbalances), column_titles=words, row_titles=["against all", "against equal compute"]
    )
    largest = max(abs(row[name]) for row in rows for name in ("diff", "diff_db"))
    for column, imbalance in enumerate(imbalances, start=1):
        own = [row for row in rows if row["imbalance"] == imbalance]
        for place, (name, mark) in enumerate(
            (("diff", "noninferior"), ("diff_db", "beats_db")), start=1
        ):
            _add_heatmap(figure, own, name, mark, largest, row=place, col=column)
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
    """Return time saved over computation skipped by batch, for each size and thread count.

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
            own = [row for row in rows if (row["threads"], row["size"]) == (count, size)]
            ratios = [row["ratio"] for row in own]
            figure.add_scatter(
                x=[str(row["batch_size"]) for row in own],
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
    figure.update_xaxes(title="batch", type="category")
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
    """Return one HTML page with figures under their headings, readable offline."""
    parts = [
        f"<h2>{heading}</h2>" + figure.to_html(full_html=False, include_plotlyjs=place == 0)
        for place, (heading, figure) in enumerate(figures.items())
    ]
    style = "body{font-family:system-ui,sans-serif;max-width:1200px;margin:24px auto}"
    head = f'<meta charset="utf-8"><title>{title}</title><style>{style}</style>'
    body = f"<h1>{title}</h1>" + "\n".join(parts)
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'
