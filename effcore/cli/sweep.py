"""The command ``python -m effcore sweep``: a search for the best knob values of a policy."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from effcore.cli.knob_options import KnobCommand
from effcore.cli.progress import print_progress
from effcore.store import Store, StoreError
from effcore.studies.candidates import MAX_REPLICATIONS
from effcore.studies.executor import measures_joules
from effcore.studies.frontier import (
    CONFIRMATION_SEEDS,
    Confirmation,
    SweepResult,
    search_is_settled,
    sweep_record,
    sweep_result,
    sweep_text,
)
from effcore.studies.sweep import SweepPlan, plan_sweep
from effcore.studies.sweep_executor import (
    load_confirmations,
    load_sweep_points,
    open_sweep,
    run_confirmation,
    run_sweep,
)
from effcore.studies.verdict import MIN_SEEDS


@click.command(cls=KnobCommand)
@click.option("--task", default="digits", help="Task to learn.")
@click.option("--model", help="One of the task's models; the first by default.")
@click.option("--size", help="Size of the model: small, medium or large; medium by default.")
@click.option("--policy", default="confident-skip", help="Policy whose knobs are searched.")
@click.option("--trials", default=16, type=click.IntRange(1, 1000), help="Knob settings to try.")
@click.option("--seeds", default=2, type=click.IntRange(1, 100), help="Seeds for each setting.")
@click.option("--first-seed", default=0, type=click.IntRange(0), help="First seed.")
@click.option(
    "--margin",
    type=float,
    help="Largest deficit of the metric that still counts as equally good; by default the task's.",
)
@click.option("--epochs", type=int, help="Epochs of full training, which is 100% of the compute.")
@click.option("--batch-size", type=int, help="Examples per step, in all runs.")
@click.option("--learning-rate", type=float, help="Peak learning rate, in all runs.")
@click.option("--device", default="cpu", help="cpu, cuda or cuda:N.")
@click.option("--threads", default=1, type=click.IntRange(1), help="CPU threads of each run.")
@click.option("--jobs", default=1, type=click.IntRange(1), help="Runs that train at the same time.")
@click.option(
    "--confirm-seeds",
    default=CONFIRMATION_SEEDS,
    type=click.IntRange(0, 1000),
    help=f"Fresh seeds that confirm the candidate, at least {MIN_SEEDS}; 0 skips confirmation.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
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
