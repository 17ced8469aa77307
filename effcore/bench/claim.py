"""``bench claim``: three open questions of efficient training.

- How much computation can be saved without a loss of quality, by model?
- How does that depend on faults of the data?
- How much of the skipped computation is saved as time, by size, batch size and threads?

The first two are asked of ``auto``, which has no knobs to tune. The third is asked of a policy
whose skipped share does not depend on the run.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product

import numpy as np

from effcore.bench import host_sync_counter as counter_module
from effcore.bench import time_saved as time_saved_module
from effcore.bench.bench_store import BenchStore
from effcore.bench.command_line import ProgressSink, given_or_default, measurement_environment
from effcore.bench.json_records import (
    JsonRecord,
    difference_columns,
    matched_columns,
    verdict_columns,
)
from effcore.bench.time_saved import measure_time_saved
from effcore.config import check_device, resolve
from effcore.knobs import knobs_of
from effcore.records.settings import Settings
from effcore.studies.comparison import StudyResult, scores_of, study_results
from effcore.studies.difference_table import ANSWER_TEXT
from effcore.studies.plan import StudyPlan
from effcore.studies.run_origin import code_version
from effcore.studies.statistics import MedianInterval, PairedDifference, p_value_above
from effcore.studies.verdict import (
    DENSE_FULL,
    DENSE_MATCHED,
    SUPERIORITY_ALPHA,
    Outcome,
    Verdict,
    compare_pair,
    min_seeds_for,
)
from effcore.tasks.base import TASKS

#: Shares of full training's compute that the first question tries.
FAMILY_BUDGETS = (0.3, 0.45, 0.6, 0.8)
#: Values that the second question crosses: shares of copies and of wrong labels, and how many
#: times as common the most common class is as the rarest.
DATA_FAULTS: Mapping[str, Sequence[float]] = {
    "redundancy": (0.0, 0.5, 0.9),
    "label_noise": (0.0, 0.1, 0.2),
    "imbalance": (1, 5, 20),
}
#: Share of full training's compute in the second question.
FAULT_GRID_BUDGET = 0.6
#: Values that the third question crosses; batch sizes are relative to the model's own.
MACHINE_SIZES, BATCH_FACTORS, THREAD_COUNTS = ("small", "medium", "large"), (0.5, 1.0, 4.0), (1, 2)
#: The policy of the third question: its skipped share does not depend on the run.
CONSTANT_SKIP_POLICY = "stale-pps"


@dataclass(frozen=True)
class ClaimQuestions:
    """The options of ``bench claim``.

    Attributes:
        models: ``task/model`` pairs with commas for the first question; all where empty.
        grid_task: Task of the second.
        rows: Its training rows, where it has that setting.
        machine_tasks: Tasks of the third, with commas.
        seeds: Number of paired seeds. Where ``None``, as many as a verdict needs; 2 where quick.
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

    def fresh_seeds(self, judged: int) -> range:
        """Return the seeds for verdicts on so many policies that are judged together."""
        count = given_or_default(self.seeds, self.quick, 2, min_seeds_for(judged))
        return range(self.first_seed, self.first_seed + count)

    @property
    def shared_settings(self) -> Settings:
        """The settings of all runs that differ from the tasks' defaults."""
        shared: dict[str, str | float] = {"device": self.device, "threads": 1}
        return {**shared, "epochs": 2, "size": "small"} if self.quick else shared


# By model ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class BudgetResult:
    """Training with a budget, compared with full training.

    Attributes:
        policy: ``auto``, or ``dense`` for same-budget training.
        budget: Share of full training's compute.
        difference: Difference from full training, with the sign that makes higher better;
            ``None`` without a comparison.
        noninferior: Whether it matches full training; ``None`` with too few seeds.
        better: Whether it is better than full training; likewise.
        verdict: The verdict on ``auto``.
        outcome: Its outcome; ``None`` without a verdict.
    """

    policy: str
    budget: float
    difference: PairedDifference | None
    noninferior: bool | None
    better: bool | None
    verdict: Verdict | None = None
    outcome: Outcome | None = None

    def to_record(self) -> JsonRecord:
        """Return it as JSON."""
        record: JsonRecord = {"arm": self.policy, "budget": self.budget}
        if self.policy == "auto":
            record |= auto_columns(self.verdict, self.outcome)
        else:
            record |= difference_columns(self.difference)
        return record | {"noninferior": self.noninferior, "better": self.better}


@dataclass(frozen=True)
class ModelSavings:
    """What ``auto`` and same-budget training save with a model, without a loss.

    Attributes:
        task: Id of the task.
        model: Id of the model.
        seeds: Paired seeds.
        margin: The difference of no consequence, in the metric's scale.
        auto: Results of ``auto``, by falling budget.
        dense: Results of same-budget training, likewise.
    """

    task: str
    model: str
    seeds: Sequence[int]
    margin: float
    auto: Sequence[BudgetResult]
    dense: Sequence[BudgetResult]

    def to_record(self) -> JsonRecord:
        """Return it as JSON."""
        return {
            "task": self.task,
            "model": self.model,
            "seeds": list(self.seeds),
            "margin": self.margin,
            "by_budget": [result.to_record() for result in (*self.dense, *self.auto)],
            "auto": lossless_saving(self.auto),
            "dense": lossless_saving(self.dense),
        }


def lossless_saving(results: Sequence[BudgetResult]) -> float | None:
    """Return the saving of the last budget, from the largest on, that matches full training.

    Budgets are tested in a fixed order, from the largest to the first that is not shown to match,
    so that each is tested at the level of a single one.

    Args:
        results: Results by falling budget.

    Returns:
        1 − budget; 0 where no budget matches, ``None`` where the seeds are too few for any.
    """
    saving = 0.0
    for result in results:
        if result.noninferior is None:
            return saving or None
        if not result.noninferior:
            break
        saving = 1.0 - result.budget
    return saving


def savings_by_model(
    models: Sequence[tuple[str, str]],
    budgets: Sequence[float],
    seeds: Sequence[int],
    settings: Settings,
    store: BenchStore,
    jobs: int,
    say: ProgressSink,
) -> list[ModelSavings]:
    """Return for each model what is lost at each budget; its budgets are judged as one family.

    Args:
        models: Ids of task and model.
        budgets: Shares of full training's compute.
        seeds: Paired seeds that were not used for tuning.
        settings: Settings that differ from the task's defaults.
        store: The store of the runs.
        jobs: Runs at a time.
        say: Takes progress messages.
    """
    rows = []
    for task, model in models:
        shared = {**settings, "task": task, "model": model}
        falling = sorted(budgets, reverse=True)
        plans = [_plan_auto(shared, budget, seeds) for budget in falling]
        say(f"{task}, {model}: {(1 + 2 * len(plans)) * len(seeds)} runs")
        results = study_results(store.complete(plans, jobs, say))
        rows.append(
            ModelSavings(
                task=task,
                model=model,
                seeds=seeds,
                margin=TASKS.get(task).metric.margin,
                auto=[auto_result(result, len(results)) for result in results],
                dense=[same_budget_result(result, len(results)) for result in results],
            )
        )
    return rows


def _plan_auto(shared: Settings, budget: float, seeds: Sequence[int]) -> StudyPlan:
    return StudyPlan(
        shared=shared,
        arms={"auto": {"selection": "auto"}},
        budget=budget,
        seeds=tuple(seeds),
        margin=TASKS.get(str(shared["task"])).metric.margin,
        baselines={DENSE_FULL: {}, DENSE_MATCHED: {}},
    )


def auto_result(result: StudyResult, family: int = 1) -> BudgetResult:
    """Return what a study of ``auto`` found of it.

    Args:
        result: The study.
        family: How many studies are judged together.
    """
    budget = result.plan.budget
    if not result.policies:
        return BudgetResult("auto", budget, None, None, None)
    (policy,) = result.policies
    if policy.verdict is None:
        return BudgetResult("auto", budget, None, False, None, None, policy.outcome)
    difference, better = policy.verdict.against_full, None
    if policy.verdict.noninferior is not None:
        better = p_value_above(difference.values, 0.0) * family < SUPERIORITY_ALPHA
    return BudgetResult(
        policy="auto",
        budget=budget,
        difference=difference.paired,
        noninferior=policy.verdict.noninferior,
        better=better,
        verdict=policy.verdict,
        outcome=policy.outcome,
    )


def same_budget_result(result: StudyResult, family: int = 1) -> BudgetResult:
    """Return what a study found of same-budget training.

    Args:
        result: The study.
        family: How many studies are judged together, which sets the fewest seeds.
    """
    plan = result.plan
    full, matched = (scores_of(plan, result.completed, n) for n in (DENSE_FULL, DENSE_MATCHED))
    if len(full) < 2:
        return BudgetResult("dense", plan.budget, None, None, None)
    answer = compare_pair(matched, full, plan.margin, min_seeds_for(family))
    return BudgetResult("dense", plan.budget, answer.paired, answer.noninferior, answer.better)


def auto_columns(verdict: Verdict | None, outcome: Outcome | None) -> JsonRecord:
    """Return the columns of ``auto``, also where it has no verdict."""
    if verdict is not None:
        return verdict_columns(verdict)
    shown = False if outcome is Outcome.BROKE_DOWN else None
    return {
        **difference_columns(None),
        "noninferior": shown,
        **matched_columns(None),
        "beats_db": shown,
        "outcome": outcome,
        "verdict": outcome,
    }


def every_task_model() -> list[tuple[str, str]]:
    """Return every task and model of the app, in order."""
    return [(task.id, choice.id) for task in TASKS for choice in task.models]


def model_savings_text(rows: Sequence[ModelSavings]) -> str:
    """Return the answer to the first question as Markdown."""
    heads = [f"`auto` at {result.budget:.0%}" for result in rows[0].auto]
    lines = [
        "| task, model | saved by `auto` | by same-budget training | " + " | ".join(heads) + " |",
        "|-|-|-|" + "-|" * len(heads),
    ]
    for row in rows:
        savings = [_saving_text(lossless_saving(each)) for each in (row.auto, row.dense)]
        differences = [_difference_text(result.difference) for result in row.auto]
        lines.append(f"| `{row.task}`, {row.model} | {' | '.join([*savings, *differences])} |")
    return "\n".join(lines)


def _saving_text(saving: float | None) -> str:
    if saving is None:
        return "too few seeds"
    return f"{saving:.0%}" if saving else "nothing"


def _difference_text(paired: PairedDifference | None) -> str:
    return "none" if paired is None else f"{paired.mean:+.4f} (bound {paired.bound:+.4f})"


# By faults of the data --------------------------------------------------------------------


@dataclass(frozen=True)
class FaultCell:
    """A cell of the grid of data faults.

    Attributes:
        task: Id of the task.
        faults: Value of each fault.
        full: Mean metric of full training; NaN without two seeds that count.
        shortening: Mean difference of same-budget from full training, higher is better; likewise.
        better: Whether ``auto`` is better than full training; ``None`` with too few seeds.
        outcome: The outcome of ``auto``; ``None`` without a verdict.
        verdict: The verdict on ``auto``.
    """

    task: str
    faults: Mapping[str, float]
    full: float
    shortening: float
    better: bool | None
    outcome: Outcome | None
    verdict: Verdict | None

    def to_record(self) -> JsonRecord:
        """Return it as JSON."""
        return {
            "task": self.task,
            **self.faults,
            "full": self.full,
            **auto_columns(self.verdict, self.outcome),
            "better": self.better,
            "shortening": self.shortening,
        }


def fault_grid(
    task: str,
    faults: Mapping[str, Sequence[float]],
    budget: float,
    seeds: Sequence[int],
    settings: Settings,
    store: BenchStore,
    jobs: int,
    say: ProgressSink,
) -> list[FaultCell]:
    """Compare ``auto`` over a grid of data faults; all cells are judged as one family.

    Args:
        task: Id of a task that can have these faults.
        faults: Values to cross, by the setting's name.
        budget: Share of full training's compute.
        seeds: Paired seeds.
        settings: Settings that differ from the task's defaults.
        store: The store of the runs.
        jobs: Runs at a time.
        say: Takes progress messages.
    """
    cells = [dict(zip(faults, values, strict=True)) for values in product(*faults.values())]
    plans = [_plan_auto({**settings, "task": task, **cell}, budget, seeds) for cell in cells]
    say(f"{task}: {len(cells)} cells, {3 * len(cells) * len(seeds)} runs")
    results = study_results(store.complete(plans, jobs, say))
    return [
        _fault_cell(task, cell, result, len(cells))
        for cell, result in zip(cells, results, strict=True)
    ]


def _fault_cell(
    task: str, faults: Mapping[str, float], result: StudyResult, cell_count: int
) -> FaultCell:
    policy = result.policies[0] if result.policies else None
    full = result.completed.metrics_of(DENSE_FULL)
    dense = same_budget_result(result).difference
    return FaultCell(
        task=task,
        faults=faults,
        full=float(np.mean(full)) if dense is not None else float("nan"),
        shortening=dense.mean if dense is not None else float("nan"),
        better=auto_result(result, cell_count).better,
        outcome=policy.outcome if policy is not None else None,
        verdict=policy.verdict if policy is not None else None,
    )


def fault_grid_text(cells: Sequence[FaultCell]) -> str:
    """Return the answer to the second question as Markdown."""
    lines = [
        "| copies | wrong labels | imbalance | full training | `auto` against full training "
        "| matches | against same-budget training | beats | same-budget training | outcome |",
        "|-|-|-|-|-|-|-|-|-|-|",
    ]
    for cell in cells:
        faults, verdict = cell.faults, cell.verdict
        against_full = against_matched = cell.outcome or "none"
        shown: Sequence[bool | None] = (None, None)
        if verdict is not None:
            against_full = _difference_text(verdict.against_full.paired)
            paired = verdict.against_matched.paired
            against_matched = f"{paired.mean:+.4f} ({paired.lo:+.4f} to {paired.hi:+.4f})"
            shown = (verdict.noninferior, verdict.superior)
        lines.append(
            f"| {faults['redundancy']:.0%} | {faults['label_noise']:.0%} | "
            f"{faults['imbalance']:g} | {cell.full:.4f} | {against_full} | "
            f"{ANSWER_TEXT[shown[0]]} | {against_matched} | {ANSWER_TEXT[shown[1]]} | "
            f"{cell.shortening:+.4f} | {cell.outcome or 'none'} |"
        )
    return "\n".join(lines)


# By size, batch size and threads ----------------------------------------------------------


@dataclass(frozen=True)
class TimeSavedCell:
    """A cell of the grid of sizes, batch sizes and threads.

    Attributes:
        task: Id of the task.
        size: Size of the model.
        batch_size: Examples per step.
        threads: Threads of PyTorch.
        epochs: Epochs of each run.
        device: Where it trained.
        policy: Id of the policy.
        skipped: Rate of skipped computation.
        saved: Share of the time that was saved.
        ratio: Time saved ÷ computation skipped.
        own_cost: Share by which a step takes longer than one without the policy.
    """

    task: str
    size: str
    batch_size: int
    threads: int
    epochs: int
    device: str
    policy: str
    skipped: float
    saved: MedianInterval
    ratio: MedianInterval
    own_cost: MedianInterval

    def to_record(self) -> JsonRecord:
        """Return it as JSON."""
        return asdict(self)


def time_saved_grid(
    task: str,
    epochs: int,
    repeats: int,
    quick: bool,
    device: str,
    store: BenchStore,
    say: ProgressSink,
) -> list[TimeSavedCell]:
    """Measure time saved over computation skipped, by size, batch size and threads.

    Args:
        task: Id of the task.
        epochs: Epochs of each run.
        repeats: Runs of each kind.
        quick: Whether to measure two cells only.
        device: Where to train.
        store: The store, whose journal holds the measured cells.
        say: Takes progress messages.
    """
    choice = TASKS.get(task).models[0]
    cells = list(product(MACHINE_SIZES, BATCH_FACTORS, THREAD_COUNTS))
    rows = []
    for size, factor, threads in cells[:2] if quick else cells:
        batch_size = max(1, round(choice.defaults.batch_size * factor))
        settings: dict[str, str | int] = {
            "size": size, "batch_size": batch_size, "threads": threads, "epochs": epochs,
            "device": device,
        }  # fmt: skip
        rows.append(_measure_time_saved_cell(task, settings, repeats, store, say))
    return rows


def _measure_time_saved_cell(
    task: str,
    settings: Mapping[str, str | int],
    repeats: int,
    store: BenchStore,
    say: ProgressSink,
) -> TimeSavedCell:
    """Return a cell from the journal, or measure it."""
    key = f"{_measurement_version()} realised {task} {CONSTANT_SKIP_POLICY} {repeats} {settings}"
    record = store.timings.get(key)
    if record is None:
        store.timings.create_file()
        say(f"{task}: {', '.join(f'{name} {value}' for name, value in settings.items())}")
        row = measure_time_saved(
            task, TASKS.get(task).models[0].id, [CONSTANT_SKIP_POLICY], settings, repeats, say
        )[0]
        record = {**row._asdict(), "ratio": vars(row.ratio), "saved": vars(row.saved),
                  "own_cost": vars(row.own_cost)}  # fmt: skip
        store.timings.append(key, record)
    intervals = {n: MedianInterval(**record[n]) for n in ("saved", "ratio", "own_cost")}
    return TimeSavedCell(task=task, **{**record, **settings, **intervals})


def _measurement_version() -> str:
    """Return a text that is equal for equal code and machine."""
    digest = hashlib.sha256()
    for module in (time_saved_module, counter_module):  # not part of the version of runs
        digest.update(inspect.getsource(module).encode())
    where = measurement_environment()
    machine = ", ".join(str(where[name]) for name in ("cpu", "cores", "python", "torch"))
    return f"{code_version()} {digest.hexdigest()[:16]} {machine}"


def time_saved_grid_text(cells: Sequence[TimeSavedCell]) -> str:
    """Return the answer to the third question as Markdown."""
    lines = [
        "| task | size | batch size | threads | computation skipped | time saved ÷ that |",
        "|-|-|-|-|-|-|",
    ]
    for cell in cells:
        ratio = cell.ratio
        lines.append(
            f"| `{cell.task}` | {cell.size} | {cell.batch_size} | {cell.threads} | "
            f"{cell.skipped:.1%} | {ratio.median:.2f} ({ratio.lo:.2f} to {ratio.hi:.2f}) |"
        )
    return "\n".join(lines)


# All three --------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClaimAnswers:
    """The answers of ``bench claim``; ``None`` for a question that was not asked."""

    families: Sequence[ModelSavings] | None = None
    grid: Sequence[FaultCell] | None = None
    machine: Sequence[TimeSavedCell] | None = None

    def to_record(self) -> JsonRecord:
        """Return the answers as JSON."""
        answers = {"families": self.families, "grid": self.grid, "machine": self.machine}
        return {
            part: [row.to_record() for row in rows]
            for part, rows in answers.items()
            if rows is not None
        }

    def to_text(self) -> str:
        """Return the answers as Markdown."""
        texts = []
        if self.families is not None:
            texts.append(model_savings_text(self.families))
        if self.grid is not None:
            texts.append(fault_grid_text(self.grid))
        if self.machine is not None:
            texts.append(time_saved_grid_text(self.machine))
        return "\n\n".join(texts)


def answer_questions(
    parts: Sequence[str], questions: ClaimQuestions, store: BenchStore, say: ProgressSink
) -> ClaimAnswers:
    """Answer the questions that are asked; all settings are checked before the first run.

    Args:
        parts: Of ``families``, ``grid``, ``machine``.
        questions: The options.
        store: The store of the runs.
        say: Takes progress messages.

    Raises:
        ValueError: A task or model that does not exist, or data that cannot have faults.
    """
    models = _parse_task_models(questions.models) or every_task_model()
    tasks = [TASKS.get(task).id for task in questions.machine_tasks.split(",")]
    check_device(questions.device)
    faults = DATA_FAULTS
    if questions.quick:
        faults = {name: values[:2] for name, values in DATA_FAULTS.items()}
    grid_settings = {**questions.shared_settings, **_row_count_setting(questions)}
    if "grid" in parts:
        worst = {name: values[-1] for name, values in DATA_FAULTS.items()}
        resolve({"task": questions.grid_task, **grid_settings, **worst})
    budgets = FAMILY_BUDGETS[2:3] if questions.quick else FAMILY_BUDGETS
    shared, jobs = questions.shared_settings, questions.jobs
    families = grid = machine = None
    if "families" in parts:
        seeds = questions.fresh_seeds(len(budgets))
        families = savings_by_model(models, budgets, seeds, shared, store, jobs, say)
    if "grid" in parts:
        seeds = questions.fresh_seeds(len(list(product(*faults.values()))))
        task, budget = questions.grid_task, FAULT_GRID_BUDGET
        grid = fault_grid(task, faults, budget, seeds, grid_settings, store, jobs, say)
    if "machine" in parts:
        epochs, repeats = 2 if questions.quick else 4, questions.repeats
        machine = [
            cell
            for task in tasks
            for cell in time_saved_grid(
                task, epochs, repeats, questions.quick, questions.device, store, say
            )
        ]
    return ClaimAnswers(families, grid, machine)


def _row_count_setting(questions: ClaimQuestions) -> Settings:
    """Return the number of rows as a setting, where the task has it."""
    names = {spec.name for spec in knobs_of(TASKS.get(questions.grid_task).settings)}
    return {"rows": questions.rows} if "rows" in names else {}


def _parse_task_models(text: str) -> list[tuple[str, str]]:
    """Return ``task/model`` pairs; refuse names that do not exist."""
    pairs = []
    for word in filter(None, text.split(",")):
        task, _, model = word.partition("/")
        choice = TASKS.get(task).model_choice(model or TASKS.get(task).models[0].id)
        pairs.append((task, choice.id))
    return pairs
