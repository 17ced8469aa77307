"""Command line: ``python -m effcore run | resume | compare | …``.

Messages and progress go to standard error, results to standard output.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click

from effcore import __version__
from effcore.bench.command_line import bench
from effcore.cli.doctor import machine_report, machine_report_text
from effcore.cli.exchange import export_command, import_command, record
from effcore.cli.knob_options import json_option, knob_options
from effcore.cli.listing import registered_listing, registered_listing_text
from effcore.cli.studies import compare, sweep
from effcore.config import NUMBER_RANGES, ConfigError, resolve
from effcore.records import RunConfig, RunStatus, Snapshot
from effcore.records.settings import Settings
from effcore.runs.manager import RunManager
from effcore.runs.reproduce import changes_not_reached, parse_knob_change, reproduce_command
from effcore.runs.run import Run
from effcore.runs.summary import run_summary, summary_text
from effcore.store import Store, StoreError
from effcore.training.warmup import warm_up_once

#: Interval between updates of the progress bar, seconds.
_REFRESH_S = 0.1
_TEXT_OPTIONS = {
    "task": "Task to learn; `list` shows all of them.",
    "model": "One of the task's models; the first by default.",
    "size": "Size of the model: small, medium or large; medium by default.",
    "policy": "Selection policy: which examples are trained on.",
    "update": "Update policy: how a batch changes the parameters.",
    "intensity": "Intensity policy: how much of the model or of each example is computed.",
    "device": "cpu, cuda or cuda:N; by default a GPU if there is one, else cpu.",
    "optimizer": "adamw or sgd.",
    "precision": "fp32 or bf16.",
}


class EffcoreGroup(click.Group):
    """Command group that builds ``run`` on demand, with the knobs registered by then."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by name."""
        return run_command() if cmd_name == "run" else super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands' names."""
        return ["run", *super().list_commands(ctx)]


@click.group(cls=EffcoreGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Train small models with less computation, and measure what that saves."""


@main.command("list")
@json_option
def list_command(as_json: bool) -> None:
    """List tasks, models, policies and knobs with their ranges."""
    click.echo(json.dumps(registered_listing()) if as_json else registered_listing_text())


@main.command("doctor")
@json_option
def doctor_command(as_json: bool) -> None:
    """Report hardware, libraries, energy meters and the store.

    The report names no user, host or folder.
    """
    click.echo(json.dumps(machine_report()) if as_json else machine_report_text())


main.add_command(bench)
main.add_command(compare)
main.add_command(sweep)
main.add_command(record)
main.add_command(export_command)
main.add_command(import_command)


def run_command() -> click.Command:
    """Return the command ``run``, with an option for each registered knob."""
    params: list[click.Parameter] = [
        click.Option([f"--{name}"], help=text) for name, text in _TEXT_OPTIONS.items()
    ]
    for name, allowed in NUMBER_RANGES.items():
        params.append(click.Option(["--" + name.replace("_", "-")], help=allowed.help))
    params += knob_options()
    change_help = "Replay a knob change: STEP:name=value. Repeatable."
    params.append(click.Option(["--set", "changes"], multiple=True, help=change_help))
    params.append(click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object."))
    return click.Command(
        "run", params=params, callback=_run_from_options, help="Train one model and store the run."
    )


def _run_from_options(
    as_json: bool, changes: tuple[str, ...], policy: str | None, **raw: Any
) -> None:
    config = _resolve_or_usage_error({**raw, "selection": policy}, changes)
    _train_and_exit(lambda runs: runs.start(config)[-1], as_json, lambda runs: config)


@main.command("resume")
@click.argument("run_id")
@json_option
def resume_command(run_id: str, as_json: bool) -> None:
    """Continue an interrupted run from its last checkpoint to its end."""
    _train_and_exit(
        lambda runs: runs.resume(run_id),
        as_json,
        lambda runs: runs.store.load_snapshot(run_id).config,
    )


def _train_and_exit(
    start: Callable[[RunManager], Run], as_json: bool, config_of: Callable[[RunManager], RunConfig]
) -> NoReturn:
    """Train a run to its end, print its summary, and exit with 0 unless it failed."""
    try:
        snapshot, reference = _train_to_end(start, config_of)
    except StoreError as error:
        raise click.ClickException(str(error)) from None
    _print_summary(snapshot, reference, as_json)
    sys.exit(0 if snapshot.status in (RunStatus.FINISHED, RunStatus.STOPPED) else 1)


def _train_to_end(
    start: Callable[[RunManager], Run], config_of: Callable[[RunManager], RunConfig]
) -> tuple[Snapshot, Snapshot | None]:
    """Return the run, and its reference where the store has one."""
    runs = RunManager(Store())
    try:
        config = config_of(runs)
        _warn_of_other_runs(runs.runs_in_other_processes(config.device), config.device)
        warm_up_once(config)  # so that loading is not counted in the run's time and energy
        run = start(runs)
        _wait_with_progress_bar(run)
        reference = runs.reference_of(run.snapshot())
    finally:
        runs.stop_all()
        runs.store.close()
    return run.snapshot(), reference


def _warn_of_other_runs(run_ids: list[str], device: str) -> None:
    if run_ids:
        click.echo(
            f"run {run_ids[0]} is training on {device} in another process: both runs will be "
            "slower, and the energy measured for one includes the other",
            err=True,
        )


def _resolve_or_usage_error(raw: Settings, changes: tuple[str, ...]) -> RunConfig:
    try:
        return resolve({**raw, "changes": [parse_knob_change(text) for text in changes]})
    except ConfigError as error:
        raise click.UsageError(str(error)) from None


def _wait_with_progress_bar(run: Run) -> None:
    """Show progress until the run ends; an interrupt stops the run and keeps it in the store."""
    try:
        with click.progressbar(
            length=1000, label=run.run_id, file=sys.stderr, show_pos=False
        ) as bar:
            shown = 0  # thousandths of the run
            while not run.join(_REFRESH_S):
                now = int(run.snapshot().progress * 1000)
                bar.update(now - shown)
                shown = now
            bar.update(int(run.snapshot().progress * 1000) - shown)
    except KeyboardInterrupt:
        click.echo("\nstopping after this step; the run so far is kept in the store", err=True)
        run.stop()
        run.join()


def _warn_of_late_changes(snapshot: Snapshot) -> None:
    """Warn about changes given by ``--set`` for steps that a finished run never reached."""
    if snapshot.status is not RunStatus.FINISHED:  # the run's own message says that it ended early
        return
    for change in changes_not_reached(snapshot.config, snapshot.changes, snapshot.steps_done):
        click.echo(
            f"--set {change.step}:{change.name}={change.value!r} had no effect: the run ended "
            f"after {snapshot.steps_done} steps, counted from 0",
            err=True,
        )


def _print_summary(snapshot: Snapshot, reference: Snapshot | None, as_json: bool) -> None:
    if snapshot.reason:
        click.echo(snapshot.reason, err=True)
    _warn_of_late_changes(snapshot)
    if as_json:
        click.echo(json.dumps(run_summary(snapshot)))
        return
    click.echo(summary_text(snapshot, reference))
    if not snapshot.steps_done:
        return
    label = "repeat" if snapshot.status is RunStatus.FINISHED else "repeat to the end"
    click.echo(f"{label}: {reproduce_command(snapshot)}")


if __name__ == "__main__":
    main(prog_name="effcore")
