"""The commands ``python -m effcore compare`` and ``sweep``: studies, with their progress."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import click

from effcore.cli.knob_options import KnobCommand, study_options
from effcore.config import ConfigError
from effcore.runs.descriptions import time_left_text
from effcore.runs.summary import metric_text
from effcore.store import Store, StoreError
from effcore.studies.candidates import MAX_REPLICATIONS
from effcore.studies.comparison import (
    StudyResult,
    VariantResult,
    difference_formatter,
    exploratory_texts,
    load_completed_runs,
    open_study,
    policy_text,
    result_record,
    run_study,
    study_result,
    variant_savings,
)
from effcore.studies.difference_table import difference_table
from effcore.studies.executor import StudyProgress, measures_joules
from effcore.studies.frontier import (
    CONFIRMATION_SEEDS,
    Confirmation,
    SweepResult,
    search_is_settled,
    sweep_record,
    sweep_result,
    sweep_text,
)
from effcore.studies.plan import StudyPlan, plan_study
from effcore.studies.savings import savings_sentence
from effcore.studies.sweep import SweepPlan, plan_sweep
from effcore.studies.sweep_executor import (
    load_confirmations,
    load_sweep_points,
    open_sweep,
    run_confirmation,
    run_sweep,
)
from effcore.studies.verdict import MIN_SEEDS, too_few_seeds_text
from effcore.tasks.base import Metric


def print_progress(steps: Iterable[StudyProgress], line_format: str) -> bool:
    """Print a line per progress report; return whether all runs are done.

    Less is done where another process cancelled the study, which is then printed.

    Args:
        steps: Progress reports, as they come.
        line_format: Format of a line, with places for the runs done and the runs in total.
    """
    progress = None
    for progress in steps:
        line = line_format.format(progress.done, progress.total) + time_left_text(
            progress.seconds_left
        )
        click.echo(line, err=True)
    completed = progress is None or progress.done == progress.total
    if not completed:
        click.echo("cancelled by another process; run the same command again to continue", err=True)
    return completed


@click.command(cls=KnobCommand)
@click.option("--task", default="digits", help="Task to learn.")
@click.option("--model", help="One of the task's models; the first by default.")
@click.option("--size", help="Size of the model: small, medium or large; medium by default.")
@click.option(
    "--policy",
    default="auto",
    help="Policies to compare, separated by commas. Join policies of different kinds with +, "
    "as in auto+depth-growth.",
)
@click.option(
    "--budget",
    default=0.6,
    help="Compute of every variant but full training, as a share of full training's FLOPs.",
)
@click.option(
    "--seeds",
    default=6,
    type=click.IntRange(1, 1000),
    help="Number of seeds; every variant trains on each of them.",
)
@click.option("--first-seed", default=100, type=click.IntRange(0), help="First seed.")
@click.option("--seed-list", help="Seeds separated by commas, instead of --seeds and --first-seed.")
@study_options
def compare(
    policy: str,
    budget: float,
    seeds: int,
    first_seed: int,
    seed_list: str | None,
    margin: float | None,
    jobs: int,
    as_json: bool,
    **settings: Any,
) -> None:
    """Compare policies with full and same-budget training.

    The verdict says whether a policy is as good as full training, and whether it is better than
    training on everything with the same budget. Finished runs are stored: the same command
    continues a stopped study, and more --seeds extend it.
    """
    names = [name for name in policy.split(",") if name]
    try:
        seed_values = (
            range(first_seed, first_seed + seeds)
            if seed_list is None
            else _parse_seed_list(seed_list)
        )
        plan = plan_study(settings, names, budget, seed_values, margin)
        result = _run_study(plan, jobs)
    except ValueError as error:  # a ConfigError, or an unknown policy or task
        raise click.UsageError(str(error)) from None
    except StoreError as error:
        raise click.ClickException(str(error)) from None
    click.echo(json.dumps(result_record(result)) if as_json else compare_text(result))


def _parse_seed_list(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise ConfigError(
            "seeds",
            f"seed-list={text!r} is not allowed: give whole numbers separated by commas, "
            "as in 1,2,3",
        ) from None


def _run_study(plan: StudyPlan, jobs: int) -> StudyResult:
    store = Store()
    try:
        study, plan = open_study(store, plan)
        if warning := too_few_seeds_text(len(plan.arms), len(plan.seeds)):
            click.echo(warning, err=True)
        try:
            print_progress(run_study(store, study.study_id, plan, jobs), "{} of {} runs")
        except KeyboardInterrupt:
            click.echo("stopped; run the same command again to continue", err=True)
            sys.exit(130)
        return study_result(study.study_id, plan, load_completed_runs(store, study.study_id, plan))
    finally:
        store.close()


def compare_text(result: StudyResult) -> str:
    """Return a study's result as text."""
    plan, metric = result.plan, result.metric
    write, unit = difference_formatter(metric)
    margin = f"margin {write(plan.margin)[1:]} {unit}".rstrip()
    lines = [
        f"{plan.shared['task']}, {metric.label}, {len(result.completed.counted_seeds)} seeds, "
        f"{plan.budget:.0%} of the compute, {margin}",
        "D100 is full training, D-B same-budget training",
    ]
    lines += [f"exploratory: {why}" for why in exploratory_texts(result)]
    lines += [_variant_line(metric, variant) for variant in result.variants]
    lines += [_difference_line(row) for row in difference_table(result.verdicts, write)]
    for policy in result.policies:
        saved = savings_sentence(variant_savings(result.completed, policy.arm))
        lines.append(f"{policy.arm}: {policy_text(policy, metric)} {saved}".rstrip())
    if not result.policies:
        lines.append("fewer than two seeds have a result in every variant: nothing can be compared")
    return "\n".join(lines)


def _difference_line(cells: Mapping[str, str]) -> str:
    """Return one difference: first the statistics that decide, then the supplementary ones."""
    return (
        f"  {cells['policy']} against {cells['against']}: {cells['mean']} "
        f"({cells['95% t interval']}; bound {cells['one-sided 95% bound']}, p {cells['p']}; "
        f"also: BCa {cells['95% bootstrap (BCa)']}, sign-flip p {cells['sign-flip p']})"
    )


def _share_text(share: float | None) -> str:
    return f"{'–' if share is None else f'{share:z.1%}':>6}"


def _variant_line(metric: Metric, variant: VariantResult) -> str:
    failed = "; ".join(f"seed {seed} failed: {why}" for seed, why in variant.failures.items())
    if variant.metric_mean is None:
        return f"  {variant.name:<28} no result  {failed}".rstrip()
    line = f"  {variant.name:<28} {metric_text(metric, variant.metric_mean):>10}"
    line += f"  {_share_text(variant.saved_compute_frac)} saved"
    line += f"  {_share_text(variant.skipped_compute_frac)} skipped"
    line += f"  {variant.seconds:6.1f} s"
    labels = {"worst_class": "worst class", "calibration_error": "calibration error"}
    known = [name for name in labels if name in variant.details]
    line += "".join(f"  {labels[name]} {variant.details[name]:.1%}" for name in known)
    return f"{line}  {failed}".rstrip()


@click.command(cls=KnobCommand)
@click.option("--task", default="digits", help="Task to learn.")
@click.option("--model", help="One of the task's models; the first by default.")
@click.option("--size", help="Size of the model: small, medium or large; medium by default.")
@click.option("--policy", default="confident-skip", help="Policy whose knobs are searched.")
@click.option("--trials", default=16, type=click.IntRange(1, 1000), help="Knob settings to try.")
@click.option("--seeds", default=2, type=click.IntRange(1, 100), help="Seeds for each setting.")
@click.option("--first-seed", default=0, type=click.IntRange(0), help="First seed.")
@click.option(
    "--confirm-seeds",
    default=CONFIRMATION_SEEDS,
    type=click.IntRange(0, 1000),
    help=f"Fresh seeds that confirm the candidate, at least {MIN_SEEDS}; 0 skips confirmation.",
)
@study_options
def sweep(
    policy: str,
    trials: int,
    seeds: int,
    first_seed: int,
    margin: float | None,
    jobs: int,
    confirm_seeds: int,
    as_json: bool,
    **settings: Any,
) -> None:
    """Search for a policy's best knob values.

    The sweep looks for the best trade-offs of metric and cost, and confirms the best candidate on
    fresh seeds. Knobs given as options stay fixed. Finished runs are stored: the same command
    continues a stopped sweep, and more --trials extend it.
    """
    if 0 < confirm_seeds < MIN_SEEDS:
        raise click.UsageError(
            f"confirm-seeds={confirm_seeds} is not allowed: fewer than {MIN_SEEDS} seeds cannot "
            "confirm anything; give more, or 0 to skip confirmation"
        )
    try:
        store = Store()
    except StoreError as error:
        raise click.ClickException(str(error)) from None
    try:
        cost = "joules" if measures_joules(str(settings["device"])) else "flops"
        seed_values = range(first_seed, first_seed + seeds)
        plan = plan_sweep(settings, policy, trials, seed_values, margin, cost)
        result = _run_sweep(store, plan, jobs, confirm_seeds)
    except ValueError as error:  # a ConfigError, or an unknown policy or task
        raise click.UsageError(str(error)) from None
    except StoreError as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        click.echo("stopped; run the same command again to continue", err=True)
        sys.exit(130)
    finally:
        store.close()
    click.echo(json.dumps(sweep_record(result)) if as_json else sweep_text(result))


def _run_sweep(store: Store, plan: SweepPlan, jobs: int, seeds: int) -> SweepResult:
    study, plan = open_sweep(store, plan)
    confirmations: dict[str, Confirmation] = {}
    for _ in range(MAX_REPLICATIONS):
        completed = print_progress(
            run_sweep(store, study.study_id, plan, jobs), "sweep: {} of at most {}"
        )
        points, before = load_sweep_points(store, study.study_id, plan), confirmations
        if seeds and completed:
            completed = print_progress(
                run_confirmation(store, plan, points, seeds, jobs), "confirming: {} of {}"
            )
        confirmations = load_confirmations(store, plan, points)
        if not (seeds and completed) or search_is_settled(plan, points, confirmations):
            break
        if confirmations == before:
            break
    return sweep_result(study.study_id, plan, points, confirmations)
