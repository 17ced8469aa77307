"""The parts of ``bench claim`` put together: what is asked of which models, and how it is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from effcore.bench.claim import BUDGETS, FAULTS, every_model, families, grid, machine
from effcore.bench.claim_text import families_text, grid_text, machine_text
from effcore.bench.journal import Journal
from effcore.figures.studies import families_figure, grid_figure, machine_figure
from effcore.knobs import knobs_of
from effcore.tasks.base import TASKS

Answers = dict[str, list[dict[str, Any]]]
#: Share of the dense compute over the grid of faults.
GRID_BUDGET = 0.6


def answers(
    parts: Sequence[str],
    *,
    models: str,
    grid_task: str,
    rows: int,
    machine_tasks: str,
    seeds: int,
    first_seed: int,
    repeats: int,
    jobs: int,
    quick: bool,
    journal: Journal,
    say: Callable[[str], None],
) -> Answers:
    """Return the rows of each part asked for.

    Args:
        parts: Of ``families``, ``grid``, ``machine``.
        models: ``task/model`` pairs with commas for the first; all where empty.
        grid_task: Task of the second.
        rows: Its training rows, where it has that setting.
        machine_tasks: Tasks of the third, with commas.
        seeds: Paired seeds.
        first_seed: The first of them.
        repeats: Timed runs of each kind.
        jobs: Runs at a time.
        quick: Two seeds, few cells and short runs.
        journal: Where runs are kept.
        say: Takes progress messages.

    Raises:
        ValueError: A task or model that does not exist, or data that cannot be spoilt.
    """
    fresh = range(first_seed, first_seed + (2 if quick else seeds))
    short: dict[str, Any] = {"epochs": 2, "size": "small"} if quick else {}
    found: Answers = {}
    if "families" in parts:
        pairs = _pairs(models) or list(every_model())
        budgets = BUDGETS[2:3] if quick else BUDGETS
        found["families"] = families(pairs, budgets, fresh, short, journal, jobs, say)
    if "grid" in parts:
        faults = {name: values[:2] for name, values in FAULTS.items()} if quick else FAULTS
        own = (
            {"rows": rows}
            if "rows" in {spec.name for spec in knobs_of(TASKS.get(grid_task).settings)}
            else {}
        )
        found["grid"] = grid(
            grid_task, faults, GRID_BUDGET, fresh, {**own, **short}, journal, jobs, say
        )
    if "machine" in parts:
        found["machine"] = [
            row
            for task in machine_tasks.split(",")
            for row in machine(task, 2 if quick else 4, repeats, quick, journal, say)
        ]
    return found


def _pairs(text: str) -> list[tuple[str, str]]:
    """Return ``task/model`` pairs, each looked up so that a wrong name is refused early."""
    pairs = []
    for word in filter(None, text.split(",")):
        task, _, model = word.partition("/")
        choice = TASKS.get(task).model_choice(model or TASKS.get(task).models[0].id)
        pairs.append((task, choice.id))
    return pairs


def answers_text(found: Mapping[str, Any]) -> str:
    """Return all parts as Markdown."""
    words = {"families": families_text, "grid": grid_text, "machine": machine_text}
    return "\n\n".join(words[part](rows) for part, rows in found.items())


def answers_figures(found: Mapping[str, Any]) -> dict[str, go.Figure]:
    """Return a figure for each part, by its question."""
    draw = {
        "families": ("What is lost, by how much is skipped", families_figure),
        "grid": ("What selecting loses and wins where data is at fault", grid_figure),
        "machine": ("How much of what is skipped is time saved", machine_figure),
    }
    return {draw[part][0]: draw[part][1](rows) for part, rows in found.items()}
