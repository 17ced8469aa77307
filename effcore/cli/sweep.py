"""The command ``python -m effcore sweep``: which thresholds should I use?"""

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
@click.option("--task", default="digits", help="Task.")
@click.option("--model", help="One of its models; the first by default.")
@click.option("--size", help="Size of the model.")
@click.option("--policy", default="confident-skip", help="Policy whose knobs are searched.")
@click.option("--trials", default=16, type=click.IntRange(1, 1000), help="Settings to try.")
@click.option("--seeds", default=2, type=click.IntRange(1, 100), help="Seeds of each.")
@click.option("--first-seed", default=0, type=click.IntRange(0), help="The first of them.")
@click.option("--margin", type=float, help="Difference of no consequence; the task's by default.")
@click.option("--epochs", type=int, help="Passes that are 100% of the compute.")
@click.option("--batch-size", type=int, help="Examples per step, for all runs.")
@click.option("--learning-rate", type=float, help="Peak rate, for all runs.")
@click.option("--device", default="cpu", help="cpu, cuda or cuda:N.")
@click.option("--threads", default=1, type=click.IntRange(1), help="CPU threads of each run.")
@click.option("--jobs", default=1, type=click.IntRange(1), help="Runs at a time.")
@click.option(
    "--confirm-seeds",
    default=CONFIRMATION_SEEDS,
    type=click.IntRange(0, 1000),
    help=f"Fresh seeds to confirm the candidate on, {MIN_SEEDS} at least; 0 leaves it unconfirmed.",
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
    """Search a policy's knobs for the frontier of metric and cost, and confirm what it finds.

    Knobs that are given are held fixed. What was done is kept: the same command goes on where
    it was stopped, and more --trials join what is there.
    """
    if 0 < confirm_seeds < MIN_SEEDS:
        raise click.UsageError(
            f"confirm-seeds={confirm_seeds} is not allowed: fewer than {MIN_SEEDS} decide "
            "nothing; give more, or 0 to leave the candidate unconfirmed"
        )
    try:
        store = Store()
    except StoreError as error:
        raise click.ClickException(str(error)) from None
    try:
        by = "joules" if measures_joules(str(settings["device"])) else "flops"
        among = range(first_seed, first_seed + seeds)
        plan = plan_sweep(settings, policy, trials, among, margin, by)
        result = _run_sweep(store, plan, jobs, confirm_seeds)
    except ValueError as error:  # which a ConfigError is, and an unknown name
        raise click.UsageError(str(error)) from None
    except StoreError as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        click.echo("stopped; the same command goes on with what is missing", err=True)
        sys.exit(130)
    finally:
        store.close()
    click.echo(json.dumps(sweep_record(result)) if as_json else sweep_text(result))


def _run_sweep(store: Store, plan: SweepPlan, jobs: int, seeds: int) -> SweepResult:
    study, plan = open_sweep(store, plan)
    tried: dict[str, Confirmation] = {}
    for _ in range(MAX_REPLICATIONS):
        whole = print_progress(
            run_sweep(store, study.study_id, plan, jobs), "sweep: {} of at most {}"
        )
        points, before = load_sweep_points(store, study.study_id, plan), tried
        if seeds and whole:
            whole = print_progress(
                run_confirmation(store, plan, points, seeds, jobs), "confirming: {} of {}"
            )
        tried = load_confirmations(store, plan, points)
        if not (seeds and whole) or search_is_settled(plan, points, tried) or tried == before:
            break
    return sweep_result(study.study_id, plan, points, tried)
