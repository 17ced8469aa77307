"""``bench savings``: every policy against tuned full and same-budget training.

Each variant tries its settings on the validation split, on seeds for tuning. The best setting of
each then trains on fresh seeds, the same for all, and is judged on the test split by its final
parameters. All variants but full training spend the same share of the FLOPs of full training with
their own batch size, and decay their learning rate over that share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from effcore.bench.bench_store import BenchStore, open_bench_store
from effcore.bench.command_line import given_or_default, quick_epochs
from effcore.bench.json_records import (
    JsonRecord,
    difference_columns,
    matched_columns,
    verdict_columns,
)
from effcore.bench.savings_variants import (
    MAX_TRIES,
    SavingsStudy,
    SavingsVariant,
    variants_for,
)
from effcore.bench.tuning import BestSettings, Tuner, tune_dense, tune_policies
from effcore.config import DEFAULT_SIZE, resolve
from effcore.knobs import values_of
from effcore.policies.selection.random import Random
from effcore.records import saved_frac
from effcore.records.settings import Settings
from effcore.runs.summary import energy_record
from effcore.studies.comparison import (
    CompletedRuns,
    PolicyResult,
    StudyResult,
    VariantResult,
    mean_share,
    scores_of,
    study_result,
)
from effcore.studies.difference_table import ANSWER_TEXT
from effcore.studies.plan import BASELINES, RANDOM_SKIPPING, StudyPlan, validate_budget
from effcore.studies.verdict import (
    DENSE_FULL,
    DENSE_MATCHED,
    Outcome,
    PairAnswer,
    compare_pair,
    min_seeds_for,
    too_few_seeds_text,
)
from effcore.tasks.base import TASKS


@dataclass(frozen=True)
class SavingsOptions:
    """The options of ``bench savings``; ``None`` takes the default.

    Attributes:
        size: Size of the models.
        epochs: Epochs of full training.
        device: Where to train.
        arms: Names of the variants besides full and same-budget training, with commas.
        budget: Share of full training's compute.
        tries: Settings that each policy tries.
        tuning_seeds: Number of seeds to try them on.
        seeds: Number of fresh seeds.
        first_seed: The first of them.
        quick: Whether defaults are small and short.
    """

    size: str | None
    epochs: int | None
    device: str
    arms: str
    budget: float
    tries: int | None
    tuning_seeds: int
    seeds: int | None
    first_seed: int
    quick: bool


@dataclass(frozen=True)
class SavingsRow:
    """The result of one variant of a savings study.

    Attributes:
        study: The savings study.
        result: The judged study of all variants on the fresh seeds.
        name: Name of the variant.
        best: The settings that the variant was tuned to.
    """

    study: SavingsStudy
    result: StudyResult
    name: str
    best: BestSettings

    @property
    def variant(self) -> VariantResult:
        """The variant's runs."""
        return next(each for each in self.result.variants if each.name == self.name)

    @property
    def policy(self) -> PolicyResult | None:
        """The policy's result; ``None`` for a baseline, or without two counted seeds."""
        return next((each for each in self.result.policies if each.arm == self.name), None)

    @property
    def seeds(self) -> list[int]:
        """The counted seeds; all where fewer than two count, so that failures are listed."""
        counted = self.result.completed.counted_seeds
        return list(counted if len(counted) >= 2 else self.study.seeds)

    @property
    def metrics(self) -> list[float | None]:
        """The variant's metric on each seed; ``None`` where it broke down."""
        by_seed = {run.seed: run.metric for run in self.variant.runs}
        return [by_seed[seed] for seed in self.seeds]

    @property
    def failures(self) -> list[str]:
        """Why the variant, or a baseline that it is compared with, broke down."""
        baselines = (DENSE_FULL,) if self.name in BASELINES else (DENSE_FULL, DENSE_MATCHED)
        labels = {self.name: "", **{name: f"{name}: " for name in baselines if name != self.name}}
        return sorted(set(_failure_reasons(self.result, labels, self.seeds)))

    @property
    def left_out(self) -> dict[str, str]:
        """Why each seed that does not count was left out, by seed."""
        labels = {name: f"{name}: " for name in (DENSE_FULL, DENSE_MATCHED)}
        return {
            str(seed): "; ".join(sorted(set(_failure_reasons(self.result, labels, [seed]))))
            for seed in self.study.seeds
            if seed not in self.seeds
        }

    @property
    def outcome(self) -> Outcome | None:
        """The outcome of a policy; ``None`` for baselines, and without two counted seeds."""
        return self.policy.outcome if self.policy is not None else None

    @property
    def against_full(self) -> PairAnswer | None:
        """The variant against full training; ``None`` without differences."""
        return self._against(DENSE_FULL)

    @property
    def against_matched(self) -> PairAnswer | None:
        """The variant against same-budget training; ``None`` without differences."""
        return self._against(DENSE_MATCHED)

    def _against(self, baseline: str) -> PairAnswer | None:
        if self.failures or len(self.result.completed.counted_seeds) < 2:
            return None
        if self.policy is not None and (verdict := self.policy.verdict) is not None:
            if baseline == DENSE_FULL:
                return PairAnswer(verdict.against_full.paired, verdict.noninferior, None)
            return PairAnswer(verdict.against_matched.paired, None, verdict.superior)
        own, other = (
            scores_of(self.result.plan, self.result.completed, name)
            for name in (self.name, baseline)
        )
        least = min_seeds_for(len(self.result.plan.arms))
        answer = compare_pair(own, other, self.result.plan.margin, least)
        is_judged = self.name != RANDOM_SKIPPING
        return answer if is_judged else PairAnswer(answer.paired, None, None)

    @property
    def overtrained(self) -> bool | None:
        """Whether same-budget training matches full training; ``None`` with too few seeds."""
        if self.policy is not None and self.policy.verdict is not None:
            return self.policy.verdict.overtrained
        if self.name == RANDOM_SKIPPING or self.failures:
            return None
        completed, plan = self.result.completed, self.result.plan
        if len(completed.counted_seeds) < 2:
            return None
        full, matched = (scores_of(plan, completed, name) for name in (DENSE_FULL, DENSE_MATCHED))
        return compare_pair(matched, full, plan.margin, min_seeds_for(len(plan.arms))).noninferior

    @property
    def below_tuned_full_frac(self) -> float | None:
        """Mean share of the FLOPs of tuned full training that was not spent."""
        completed = self.result.completed
        own, full = completed.snapshots[self.name], completed.snapshots[DENSE_FULL]
        ends = [(own[seed].end, full[seed].end) for seed in completed.ended_seeds(self.name)]
        return mean_share([saved_frac(a.flops_spent, b.flops_spent) for a, b in ends if a and b])

    @property
    def seconds(self) -> float:
        """Mean duration, s."""
        ends = [run.snapshot.end for run in self.variant.runs if run.seed in self.seeds]
        return float(np.mean([end.seconds for end in ends if end is not None]))

    def to_record(self) -> JsonRecord:
        """Return the row as JSON; differences have the sign that makes higher better."""
        row: JsonRecord = {
            "task": self.study.task,
            "model": self.study.model,
            "arm": self.name,
            "settings": _json_settings(self.best.settings),
            "edge": self.best.at_grid_edge,
            "seeds": self.seeds,
            "metrics": self.metrics,
            "left_out": self.left_out,
            "margin": self.result.plan.margin,
            "outcome": self.outcome,
            "verdict": self.outcome,
        }
        if self.failures:
            return row | {"metric": None, "failed": self.failures}
        variant, snapshots = self.variant, {r.seed: r.snapshot for r in self.variant.runs}
        row |= {
            "metric": variant.metric_mean,
            "skipped_compute_frac": variant.skipped_compute_frac,
            "saved_compute_frac": variant.saved_compute_frac,
            "below_tuned_full_frac": self.below_tuned_full_frac,
            "seconds": self.seconds,
            "energy": [energy_record(snapshots[seed].energy) for seed in self.seeds],
        }
        if self.policy is not None and self.policy.verdict is not None:
            return row | verdict_columns(self.policy.verdict)
        full, matched = self.against_full, self.against_matched
        if full is not None and matched is not None:
            row |= {
                **difference_columns(full.paired),
                "noninferior": full.noninferior,
                **matched_columns(matched.paired),
                "beats_db": matched.better,
                "overtrained": self.overtrained,
            }
        return row


def run_savings_study(
    study: SavingsStudy, store: BenchStore, jobs: int, say: Callable[[str], None]
) -> list[SavingsRow]:
    """Tune all variants, train them on the fresh seeds, and judge them.

    Args:
        study: The study.
        store: The store of the runs; only missing runs are trained.
        jobs: Runs at a time.
        say: Takes progress messages.

    Raises:
        ValueError: A variant that does not exist or is not possible with the model.
    """
    variants = chosen_variants(study)
    tuner = Tuner(study, store, jobs, say)
    best = tune_dense(tuner, [variant for variant in variants if variant.is_dense])
    shared = best[DENSE_MATCHED].settings
    best |= tune_policies(tuner, [variant for variant in variants if not variant.is_dense], shared)
    plan = plan_test(study, variants, {name: found.settings for name, found in best.items()})
    if warning := too_few_seeds_text(len(plan.arms), len(study.seeds)):
        say(f"{study.task}: {warning}")
    say(f"{study.task}: the test, {len(variants) * len(study.seeds)} runs")
    ((plan, completed),) = store.complete([plan], jobs, say)
    return savings_rows(study, plan, completed, best)


def plan_test(
    study: SavingsStudy, variants: Sequence[SavingsVariant], settings: Mapping[str, Settings]
) -> StudyPlan:
    """Plan the study of tuned variants on the fresh seeds.

    Args:
        study: The savings study.
        variants: Its variants.
        settings: The tuned settings of each variant, by name.
    """
    own: dict[str, Settings] = {
        variant.name: {**variant.policies._asdict(), **settings[variant.name]}
        for variant in variants
    }
    if RANDOM_SKIPPING in own:  # a study would set its share by the budget
        own[RANDOM_SKIPPING] = {**values_of(Random()), **own[RANDOM_SKIPPING]}
    return StudyPlan(
        shared=study.shared_settings,
        arms={name: each for name, each in own.items() if name not in BASELINES},
        budget=study.budget,
        seeds=tuple(study.seeds),
        margin=TASKS.get(study.task).metric.margin,
        baselines={name: each for name, each in own.items() if name in BASELINES},
    )


def savings_rows(
    study: SavingsStudy,
    plan: StudyPlan,
    completed: CompletedRuns,
    best: Mapping[str, BestSettings],
) -> list[SavingsRow]:
    """Judge the runs of a savings study, and return a row for each variant."""
    result = study_result("", plan, completed)
    return [SavingsRow(study, result, name, best[name]) for name in completed.snapshots]


def plan_savings_studies(
    tasks: Sequence[str], model: str | None, journal: str | None, options: SavingsOptions
) -> tuple[list[SavingsStudy], BenchStore]:
    """Return the study of each task, and the store of all.

    Everything is checked before the first run trains.

    Raises:
        ValueError: A task, model, size, variant or other setting that is not allowed.
    """
    store = open_bench_store(journal)
    if options.first_seed < options.tuning_seeds:
        raise ValueError(
            f"first_seed={options.first_seed} is not allowed: seeds 0 to "
            f"{options.tuning_seeds - 1} are for tuning, and the test needs fresh ones; choose a "
            "higher one"
        )
    return [_plan_savings_study(task, model, options) for task in tasks], store


def _plan_savings_study(task: str, model: str | None, options: SavingsOptions) -> SavingsStudy:
    quick, epochs = options.quick, options.epochs
    size = given_or_default(options.size, quick, "small", DEFAULT_SIZE)
    if quick and epochs is None:
        epochs = quick_epochs(task, model)
    settings: Settings = {"size": size, "epochs": epochs, "device": options.device}
    usual = resolve({"task": task, "model": model, "selection": "dense", **settings})
    study = SavingsStudy(
        task=task,
        model=usual.model,
        budget=options.budget,
        tries=given_or_default(options.tries, quick, 1, MAX_TRIES),
        tuning_seeds=range(options.tuning_seeds),
        seeds=(),
        arms=[name for name in options.arms.split(",") if name],
        settings={**settings, "epochs": usual.epochs},
    )
    validate_budget(options.budget)
    variants = chosen_variants(study)
    for variant in variants:  # refuses impossible settings before the first run
        study.run_config(variant.policies, variant.tuning_grid[0] if variant.tuning_grid else {},
                         variant.budget, options.first_seed)  # fmt: skip
    judged = len([variant for variant in variants if variant.name not in BASELINES])
    seeds = given_or_default(options.seeds, quick, 2, min_seeds_for(judged))
    return replace(study, seeds=range(options.first_seed, options.first_seed + seeds))


def chosen_variants(study: SavingsStudy) -> list[SavingsVariant]:
    """Return the variants of a study.

    Raises:
        ValueError: A variant that does not exist or is not possible with the model.
    """
    choice = TASKS.get(study.task).model_choice(study.model)
    size = str(study.settings.get("size") or DEFAULT_SIZE)
    variants = variants_for(study.task, choice, size, study.budget)
    names = [variant.name for variant in variants]
    for name in study.arms:
        if name not in names:
            raise ValueError(
                f"variant {name!r} is not possible with model {study.model!r} of task "
                f"{study.task!r}: choose of {', '.join(names)}"
            )
    chosen = {DENSE_FULL, DENSE_MATCHED, *(study.arms or names)}
    return [variant for variant in variants if variant.name in chosen]


def _failure_reasons(
    result: StudyResult, labels: Mapping[str, str], seeds: Iterable[int]
) -> list[str]:
    """Return why variants broke down on seeds, each reason behind the variant's label."""
    failures = {variant.name: variant.failures for variant in result.variants}
    return [
        f"{label}{failures[name][seed]}"
        for name, label in labels.items()
        for seed in seeds
        if seed in failures[name]
    ]


def _json_settings(settings: Settings) -> JsonRecord:
    return {name: value for name, value in settings.items() if not isinstance(value, list | tuple)}


def savings_text(rows: Sequence[SavingsRow]) -> str:
    """Return the rows as Markdown; differences have the sign that makes higher better."""
    lines = [
        "| task, model | variant | metric | saved | against full training | matches "
        "| against same-budget training | beats | outcome | s |",
        "|-|-|-|-|-|-|-|-|-|-|",
    ]
    lines += [_savings_line(row) for row in rows]
    if over := sorted({row.study.task for row in rows if row.overtrained}):
        lines.append(
            f"\nOn {', '.join(over)}, same-budget training matches full training. Training for "
            "fewer epochs is enough there."
        )
    left_out = {row.study.task: row.left_out for row in rows if row.left_out}
    lines += [
        f"\nOn {task}, seed {seed} does not count: {why}."
        for task, seeds in left_out.items()
        for seed, why in seeds.items()
    ]
    if edges := [f"{row.name} on {row.study.task}" for row in rows if row.best.at_grid_edge]:
        lines.append(
            f"\nBest at the edge of the batch sizes and learning rates tried: {', '.join(edges)}."
        )
    return "\n".join(lines)


def _savings_line(row: SavingsRow) -> str:
    head = f"| `{row.study.task}`, {row.study.model} | {row.name} | "
    if row.failures:
        return head + f"failed: {'; '.join(row.failures)} | | | | | | {row.outcome or ''} | |"
    cells = [f"{row.variant.metric_mean:.4f}", f"{row.variant.saved_compute_frac:.1%}"]
    if (full := row.against_full) is None or (matched := row.against_matched) is None:
        cells += [""] * 4
    else:
        for paired, shown in (
            (full.paired, full.noninferior),
            (matched.paired, matched.better),
        ):
            cells.append(f"{paired.mean:+.4f} ({paired.lo:+.4f} to {paired.hi:+.4f})")
            cells.append("not judged" if row.name == RANDOM_SKIPPING else ANSWER_TEXT[shown])
    return head + " | ".join([*cells, row.outcome or "", f"{row.seconds:.0f}"]) + " |"
