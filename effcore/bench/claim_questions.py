"""The parts of ``bench claim`` put together: what is asked of which models, and how it is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from effcore.bench.bench_store import BenchStore
from effcore.bench.claim import (
    DATA_FAULTS,
    FAMILY_BUDGETS,
    every_task_model,
    fault_grid,
    savings_by_family,
    time_saved_grid,
)
from effcore.bench.claim_text import families_text, fault_grid_text, time_saved_grid_text
from effcore.bench.quick_mode import given_or_default
from effcore.config import check_device, resolve
from effcore.figures.bench_charts import (
    data_faults_figure,
    loss_by_budget_figure,
    time_saved_figure,
)
from effcore.knobs import knobs_of
from effcore.tasks.base import TASKS

Rows = list[dict[str, Any]]
ClaimAnswers = dict[str, Rows]
#: Share of the dense compute over the grid of faults.
FAULT_GRID_BUDGET = 0.6


@dataclass(frozen=True)
class ClaimQuestions:
    """What ``bench claim`` is asked.

    Attributes:
        models: ``task/model`` pairs with commas for the first question; all where empty.
        grid_task: Task of the second.
        rows: Its training rows, where it has that setting.
        machine_tasks: Tasks of the third, with commas.
        seeds: Paired seeds; 6 where ``None``, 2 where quick.
        first_seed: The first of them.
        repeats: Timed runs of each kind.
        jobs: Runs at a time.
        device: Where to train.
        quick: Few cells and short runs.
    """

    models: str
    grid_task: str
    rows: int
    machine_tasks: str
    seeds: int | None
    first_seed: int
    repeats: int
    jobs: int
    device: str
    quick: bool

    @property
    def fresh_seeds(self) -> range:
        """The seeds."""
        return range(
            self.first_seed, self.first_seed + given_or_default(self.seeds, self.quick, 2, 6)
        )

    @property
    def shared_settings(self) -> dict[str, Any]:
        """What differs from the tasks' defaults for all runs."""
        short = {"epochs": 2, "size": "small"} if self.quick else {}
        return {"device": self.device, **short}


def answer_questions(
    parts: Sequence[str], questions: ClaimQuestions, store: BenchStore, say: Callable[[str], None]
) -> ClaimAnswers:
    """Return the rows of each part asked for.

    Args:
        parts: Of ``families``, ``grid``, ``machine``.
        questions: What each is asked of.
        store: Where runs are kept.
        say: Takes progress messages.

    Raises:
        ValueError: A task or model that does not exist, or data that cannot be spoilt.
    """
    pairs = _parse_task_models(questions.models) or list(every_task_model())
    tasks = [TASKS.get(task).id for task in questions.machine_tasks.split(",")]
    check_device(questions.device)
    if "grid" in parts:  # asked here, so that nothing is refused after hours of training
        spoilt = {name: values[-1] for name, values in DATA_FAULTS.items()}
        resolve(
            {
                "task": questions.grid_task,
                **_row_count_setting(questions),
                **spoilt,
                **questions.shared_settings,
            }
        )
    ask: dict[str, Callable[[], Rows]] = {
        "families": lambda: savings_by_family(
            pairs,
            FAMILY_BUDGETS[2:3] if questions.quick else FAMILY_BUDGETS,
            questions.fresh_seeds,
            questions.shared_settings,
            store,
            questions.jobs,
            say,
        ),
        "grid": lambda: _answer_fault_grid(questions, store, say),
        "machine": lambda: _answer_machine(tasks, questions, store, say),
    }
    return {part: ask[part]() for part in parts}


def _answer_fault_grid(
    asked: ClaimQuestions, store: BenchStore, say: Callable[[str], None]
) -> Rows:
    faults = (
        {name: values[:2] for name, values in DATA_FAULTS.items()} if asked.quick else DATA_FAULTS
    )
    shared = asked.shared_settings | _row_count_setting(asked)
    fresh, jobs = asked.fresh_seeds, asked.jobs
    return fault_grid(asked.grid_task, faults, FAULT_GRID_BUDGET, fresh, shared, store, jobs, say)


def _row_count_setting(asked: ClaimQuestions) -> dict[str, int]:
    """Return how many rows the spoilt task is to have, where that is for us to say."""
    own = {spec.name for spec in knobs_of(TASKS.get(asked.grid_task).settings)}
    return {"rows": asked.rows} if "rows" in own else {}


def _answer_machine(
    tasks: Sequence[str], asked: ClaimQuestions, store: BenchStore, say: Callable[[str], None]
) -> Rows:
    epochs = 2 if asked.quick else 4
    return [
        row
        for task in tasks
        for row in time_saved_grid(
            task, epochs, asked.repeats, asked.quick, asked.device, store, say
        )
    ]


def _parse_task_models(text: str) -> list[tuple[str, str]]:
    """Return ``task/model`` pairs, each looked up so that a wrong name is refused early."""
    pairs = []
    for word in filter(None, text.split(",")):
        task, _, model = word.partition("/")
        choice = TASKS.get(task).model_choice(model or TASKS.get(task).models[0].id)
        pairs.append((task, choice.id))
    return pairs


def claim_answers_text(found: Mapping[str, Any]) -> str:
    """Return all parts as Markdown."""
    words = {"families": families_text, "grid": fault_grid_text, "machine": time_saved_grid_text}
    return "\n\n".join(words[part](rows) for part, rows in found.items())


def claim_answers_figures(found: Mapping[str, Any]) -> dict[str, go.Figure]:
    """Return a figure for each part, by its question."""
    draw = {
        "families": ("Change of the metric by computation saved", loss_by_budget_figure),
        "grid": ("What selecting loses and wins where data is at fault", data_faults_figure),
        "machine": ("Time saved per computation saved", time_saved_figure),
    }
    return {draw[part][0]: draw[part][1](rows) for part, rows in found.items()}
