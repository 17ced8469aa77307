"""The commands ``bench …`` that train whole runs over seeds; their runs are stored and resumed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from effcore.bench.bench_store import open_bench_store
from effcore.bench.command_line import (
    echo_progress,
    given_or_default,
    parse_whole_numbers,
    print_result,
    quick_epochs,
)
from effcore.bench.commands import bench
from effcore.bench.environment import measurement_environment
from effcore.bench.savings_variants import MAX_TRIES
from effcore.cli.knob_options import KnobCommand
from effcore.home import default_home
from effcore.records.settings import Settings

if TYPE_CHECKING:
    import plotly.graph_objects as go


def _require_folder(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Refuse a file in a missing folder before anything trains."""
    if path is not None and not path.parent.is_dir():
        raise click.BadParameter(f"there is no folder for {path.name!r}: create it first")
    return path


figure_option = click.option(
    "--figure",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    callback=_require_folder,
    help="Write the result as a figure to this HTML file, readable offline.",
)
journal_option = click.option(
    "--journal",
    metavar="FOLDER",
    help="Store of the runs, from which a bench resumes; bench/store in EFFCORE_HOME by default. "
    "Result files of earlier versions are not read.",
)
device_option = click.option("--device", default="cpu", help="cpu, cuda or cuda:N.")


def shared_setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add options for the other policies, and for settings that all variants share."""
    options = (
        click.option("--update", help="Update policy."),
        click.option("--intensity", help="Intensity policy."),
        click.option("--size", help="Size of the model, for all variants."),
        click.option("--batch-size", type=int, help="Examples per step, for all variants."),
        click.option("--learning-rate", type=float, help="Peak learning rate, for all variants."),
        click.option("--epochs", type=int, help="Epochs of full training."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _quick_settings(settings: Settings, quick: bool) -> Settings:
    """Return the settings with a small model and few epochs, unless given, for ``--quick``."""
    if not quick:
        return settings
    epochs = settings["epochs"]
    if epochs is None:
        epochs = quick_epochs(settings["task"], settings["model"])
    return {**settings, "size": settings["size"] or "small", "epochs": epochs}


def _write_figures(
    path: Path | None, title: str, figures: Callable[[], dict[str, go.Figure]]
) -> None:
    if path is not None:
        from effcore.bench.charts import figures_page

        path.write_text(figures_page(title, figures()), encoding="utf-8")


@bench.command(cls=KnobCommand)
@click.option("--task", default="photo", help="Task.")
@click.option("--policy", default="confident-skip", help="Selection policy.")
@click.option("--model", help="One of the task's models; the first by default.")
@shared_setting_options
@click.option(
    "--budget",
    default=0.6,
    help="Budget of the policy and of same-budget training, as a share of full training's FLOPs.",
)
@click.option("--seeds", type=click.IntRange(2), help="Paired seeds; 6 by default.")
@click.option("--first-seed", default=100, help="The first of the seeds; tune on other seeds.")
@device_option
@click.option("--jobs", default=1, type=click.IntRange(1), help="Runs at a time.")
@journal_option
@click.option("--quick", is_flag=True, help="A small model, a quarter of the epochs, two seeds.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def matched(
    budget: float,
    seeds: int | None,
    first_seed: int,
    jobs: int,
    journal: str | None,
    quick: bool,
    as_json: bool,
    policy: str,
    **settings: Any,
) -> None:
    """Compare one policy with dense training.

    The references are full training and same-budget training. Resumable.
    """
    from effcore.bench.matched_comparison import compare_matched as measure
    from effcore.bench.matched_comparison import matched_comparison_text

    chosen = _quick_settings({**settings, "selection": policy, "threads": 1}, quick)
    fresh = range(first_seed, first_seed + given_or_default(seeds, quick, 2, 6))
    result = measure(chosen, budget, fresh, open_bench_store(journal), jobs, echo_progress)
    record = {**result.to_record(), "quick": quick}
    print_result(record, as_json, matched_comparison_text(result))


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
@click.option("--jobs", default=1, type=click.IntRange(1), help="Runs at a time.")
@journal_option
@click.option(
    "--quick",
    is_flag=True,
    help="Small models, a quarter of the epochs, two seeds, no tuning, each unless it is given.",
)
@figure_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
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
    from effcore.bench.charts import savings_figure
    from effcore.bench.savings_study import SavingsOptions, plan_savings_studies, savings_text
    from effcore.bench.savings_study import run_savings_study as measure

    chosen = SavingsOptions(**options, quick=quick)
    planned, store = plan_savings_studies(tasks.split(","), model, journal, chosen)
    rows = [row for study in planned for row in measure(study, store, jobs, echo_progress)]
    _write_figures(
        figure,
        "What every policy saves",
        lambda: {"Differences and their intervals": savings_figure(rows)},
    )
    record = {"rows": [row.to_record() for row in rows], "quick": quick}
    print_result(record, as_json, savings_text(rows))


@bench.command(cls=KnobCommand)
@click.option("--task", default="digits", help="Task, trained densely.")
@click.option("--model", help="One of the task's models; the first by default.")
@click.option("--size", help="Size of the model.")
@click.option(
    "--epochs", default="", callback=parse_whole_numbers, help="Epochs to try, with commas."
)
@click.option("--batch-size", type=int, help="Examples per step.")
@click.option("--learning-rate", type=float, help="Peak learning rate.")
@click.option("--seeds", type=click.IntRange(1), help="Seeds; 2 by default.")
@click.option("--first-seed", default=0, help="The first of the seeds.")
@device_option
@click.option("--jobs", default=1, type=click.IntRange(1), help="Runs at a time.")
@journal_option
@click.option("--quick", is_flag=True, help="A small model, a quarter of the epochs, one seed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def length(
    epochs: tuple[int, ...],
    seeds: int | None,
    first_seed: int,
    jobs: int,
    journal: str | None,
    quick: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Find how many epochs full training needs.

    These are the fewest that more epochs do not improve on. Resumable.
    """
    from effcore.bench.reference_length import measure_reference_length as measure
    from effcore.bench.reference_length import reference_length_text

    chosen = _quick_settings({**settings, "epochs": None}, quick)
    among = range(first_seed, first_seed + given_or_default(seeds, quick, 1, 2))
    result = measure(chosen, epochs, among, open_bench_store(journal), jobs, echo_progress)
    record = {**result.to_record(), "quick": quick}
    print_result(record, as_json, reference_length_text(result))


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
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def claim(
    part: str, journal: str | None, figure: Path | None, as_json: bool, **options: Any
) -> None:
    """Measure savings by model, faults in the data and machine.

    The parts are families (over budgets, for each task and model), grid (over copies, wrong labels
    and imbalance in the data of one task) and machine (time saved, over model sizes, batch sizes
    and threads). Resumable.
    """
    from effcore.bench.charts import claim_figures
    from effcore.bench.claim import ClaimQuestions, answer_questions

    parts = ("families", "grid", "machine") if part == "all" else (part,)
    answers = answer_questions(
        parts, ClaimQuestions(**options), open_bench_store(journal), echo_progress
    )
    _write_figures(figure, "Three questions", lambda: claim_figures(answers))
    record = {**answers.to_record(), "quick": options["quick"]}
    print_result(record, as_json, answers.to_text())


@bench.command(cls=KnobCommand)
@click.option("--task", help="Task on which to try settings; without it, the log is shown.")
@click.option("--model", help="One of the task's models; the first by default.")
@click.option("--policy", default="auto", help="Selection policy.")
@shared_setting_options
@click.option("--budget", default=0.6, help="Budget, as a share of full training's FLOPs.")
@click.option("--seeds", default=1, type=click.IntRange(1), help="Tuning seeds, from 0 on.")
@device_option
@click.option("--jobs", default=1, type=click.IntRange(1), help="Runs at a time.")
@journal_option
@click.option("--quick", is_flag=True, help="A small model, a quarter of the epochs.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def search(
    task: str | None,
    policy: str,
    budget: float,
    seeds: int,
    jobs: int,
    journal: str | None,
    quick: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Try settings, and show the log of all that were tried.

    The log has metrics on the validation split only. Resumable.
    """
    from effcore.bench.tuning_log import try_settings, tuning_log, tuning_log_text

    store = open_bench_store(journal)  # the log also shows what other benches tuned
    if task:
        chosen = {**settings, "task": task, "selection": policy, "threads": 1}
        rows = try_settings(
            _quick_settings(chosen, quick), budget, range(seeds), store, jobs, echo_progress
        )
    else:
        rows = tuning_log(store)
    text = tuning_log_text(rows) if rows else "nothing was tried yet: try settings with --task"
    print_result({"rows": [row.to_record() for row in rows]}, as_json, text)


@bench.command()
@click.option("--task", default="digits", help="Task.")
@click.option("--model", help="One of the task's models; the first by default.")
@click.option("--policy", default="auto", help="Selection policy.")
@click.option("--epochs", type=int, help="Epochs; the model's own by default.")
@device_option
@click.option("--seeds", type=click.IntRange(1), help="Paired seeds; 3 by default.")
@click.option("--first-seed", default=100, type=click.IntRange(0), help="The first of the seeds.")
@click.option("--quick", is_flag=True, help="A quarter of the epochs, two seeds: minutes.")
@journal_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def ladder(
    policy: str,
    epochs: int | None,
    seeds: int | None,
    first_seed: int,
    quick: bool,
    journal: str | None,
    as_json: bool,
    **settings: Any,
) -> None:
    """Measure savings at three sizes of a model.

    The Energy page shows the result. Resumable.
    """
    from effcore.bench.scale_ladder import ladder_text, measure_ladder
    from effcore.impact.scale_ladder_file import ladder_path, save_ladder

    fresh = range(first_seed, first_seed + given_or_default(seeds, quick, 2, 3))
    if quick and epochs is None:
        epochs = quick_epochs(settings["task"], settings["model"])
    chosen = {**settings, "selection": policy, "epochs": epochs, "threads": 1}
    given = {name: value for name, value in chosen.items() if value is not None}
    measured = measure_ladder(
        given, fresh, open_bench_store(journal), measurement_environment(), echo_progress
    )
    print_result(dataclasses.asdict(measured), as_json, ladder_text(measured))
    try:
        save_ladder(ladder_path(default_home()), measured)
    except OSError as error:
        raise click.ClickException(
            f"the ladder could not be kept for the Energy page ({error.strerror}): set "
            "EFFCORE_HOME to a writable folder"
        ) from None


@bench.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def power(as_json: bool) -> None:
    """Print how often the verdicts show a true effect."""
    from effcore.bench.statistical_power import power_table, power_table_text

    rows = power_table()
    print_result({"rows": [row._asdict() for row in rows]}, as_json, power_table_text(rows))
