"""The commands ``python -m effcore bench …``: each prints its figures and where they hold."""

from __future__ import annotations

import dataclasses
import json
import platform
from datetime import UTC, datetime
from typing import Any

import click
import psutil
import torch

from effcore import __version__
from effcore.config import ConfigError
from effcore.listing import declared_knobs


def circumstances() -> dict[str, Any]:
    """Return what a figure depends on: machine, versions, date; no paths, no host name."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": _cpu_name(),
        "cores": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "effcore": __version__,
    }


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = [line.split(":", 1)[1] for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return (names[0] if names else platform.processor() or "unknown").strip()


def _say(message: str) -> None:
    click.echo(message, err=True)


def _print(result: dict[str, Any], as_json: bool, text: str) -> None:
    where = circumstances()
    if as_json:
        click.echo(json.dumps({**result, "circumstances": where}, default=dataclasses.asdict))
        return
    click.echo(text)
    click.echo("measured on " + ", ".join(f"{name} {value}" for name, value in where.items()))


def knob_options() -> list[click.Parameter]:
    """Return an option for each registered knob and each setting of a task's data."""
    return [
        click.Option([spec.option], help=f"{spec.help} From {spec.lo:g} to {spec.hi:g}.")
        for spec in declared_knobs().values()
    ]


class KnobCommand(click.Command):
    """A command that also takes every knob; they are looked up when it is called."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's own parameters, those of the knobs, and help last."""
        own, help_option = super().get_params(ctx), self.get_help_option(ctx)
        last = [param for param in own if param is help_option]
        return [*(param for param in own if param not in last), *knob_options(), *last]


@click.group()
def bench() -> None:
    """Measure Effcore itself; README's figures come from here."""


@bench.command()
@click.option("--task", default="digits", help="Task, trained densely at its default size.")
@click.option("--blocks", default=20, help="Pairs of alternating blocks.")
@click.option("--seconds", default=5.0, help="Length of a block.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def overhead(task: str, blocks: int, seconds: float, as_json: bool) -> None:
    """Steps per second of the trainer beside a hand-written loop doing the same work."""
    from effcore.bench.overhead import evaluation_share
    from effcore.bench.overhead import overhead as measure

    interval, ratios, rate = measure(task, blocks, seconds, _say)
    share = evaluation_share(task, rate)
    result = {"task": task, "ratio": interval, "ratios": ratios, "seconds": seconds}
    text = f"{task}: trainer ÷ hand-written loop = {interval}"
    text += f"\nevaluating, left out of both, adds {share:.1%} to a default run"
    _print({**result, "evaluation_share": share}, as_json, text)


@bench.command(cls=KnobCommand)
@click.option("--task", default="photo", help="Task.")
@click.option("--policy", default="confident-skip", help="Selection policy of the third arm.")
@click.option("--model", help="One of the task's models; the first by default.")
@click.option("--update", help="Update policy of the third arm.")
@click.option("--intensity", help="Intensity policy of the third arm.")
@click.option("--size", help="Size of the model, for all arms.")
@click.option("--batch-size", type=int, help="Examples per step, for all arms.")
@click.option("--learning-rate", type=float, help="Peak rate, for all arms.")
@click.option("--epochs", type=int, help="Passes that are 100% of the compute.")
@click.option("--budget", default=0.6, help="Share of the dense FLOPs for D-B and the policy.")
@click.option("--seeds", default=6, type=click.IntRange(2), help="Paired seeds.")
@click.option("--first-seed", default=100, help="The first of them; keep tuning seeds apart.")
@click.option("--jobs", default=1, type=click.IntRange(1), help="Runs at a time.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def matched(
    budget: float,
    seeds: int,
    first_seed: int,
    jobs: int,
    as_json: bool,
    policy: str,
    **settings: Any,
) -> None:
    """A policy against dense training of equal compute and of full length."""
    from effcore.bench.matched import matched as measure
    from effcore.bench.matched import matched_text

    chosen = {**settings, "selection": policy, "device": "cpu", "threads": 1}
    try:
        seeds_range = range(first_seed, first_seed + seeds)
        result = measure(chosen, budget, seeds_range, jobs, _say)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    _print(result, as_json, matched_text(result))


@bench.command()
@click.option("--task", default="digits", help="Task, at its default size.")
@click.option("--model", help="One of its models; the first by default.")
@click.option(
    "--policies",
    default="random,confident-skip,auto,infobatch,stale-pps,el2n-pps",
    help="Selection policies, with commas.",
)
@click.option("--epochs", default=5, type=click.IntRange(1), help="Passes of each run.")
@click.option("--repeats", default=5, type=click.IntRange(3), help="Runs of each, in turn.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def realised(task: str, policies: str, as_json: bool, **options: Any) -> None:
    """Time that skipping saves, beside the computation it skips; a policy's own cost."""
    from effcore.bench.realised import realised as measure
    from effcore.bench.realised import realised_text

    try:
        rows = measure(task, policies=policies.split(","), say=_say, **options)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    result = {"task": task, "rows": [row._asdict() for row in rows]}
    _print(result, as_json, realised_text(rows))


@bench.command()
@click.option("--tasks", default="photo,digits", help="Tasks, with commas.")
@click.option("--model", help="The model of each; its first by default.")
@click.option("--size", help="Size of the models.")
@click.option("--epochs", type=int, help="Passes that are 100% of the compute.")
@click.option("--arms", default="", help="Arms besides the dense ones, with commas; or all.")
@click.option("--budget", default=0.6, help="Share of the dense FLOPs for all arms but D100.")
@click.option("--tries", default=4, type=click.IntRange(1), help="Settings each arm may try.")
@click.option("--tuning-seeds", default=2, type=click.IntRange(1), help="Seeds to try them on.")
@click.option("--seeds", default=6, type=click.IntRange(2), help="Fresh paired seeds.")
@click.option("--first-seed", default=100, help="The first of the fresh ones.")
@click.option("--jobs", default=1, type=click.IntRange(1), help="Runs at a time.")
@click.option("--journal", help="File that results are kept in; one in the store by default.")
@click.option("--quick", is_flag=True, help="Small models, a quarter of the length, no tuning.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def savings(tasks: str, model: str | None, as_json: bool, quick: bool, **options: Any) -> None:
    """Every policy against dense training of full length and of equal compute; resumable."""
    from effcore.bench.savings import savings as measure
    from effcore.bench.savings import savings_text, studies

    rows = []
    try:
        for study, journal in studies(tasks.split(","), model, quick=quick, **options):
            rows += measure(study, journal, options["jobs"], _say)
    except (ValueError, OSError) as error:
        raise click.UsageError(str(error)) from None
    _print({"rows": rows, "quick": quick}, as_json, savings_text(rows))


@bench.command(cls=KnobCommand)
@click.option("--task", default="digits", help="Task, trained densely.")
@click.option("--model", help="One of the task's models; the first by default.")
@click.option("--size", help="Size of the model.")
@click.option("--epochs", default="", help="Lengths to try, with commas.")
@click.option("--batch-size", type=int, help="Examples per step.")
@click.option("--learning-rate", type=float, help="Peak rate.")
@click.option("--seeds", default=2, type=click.IntRange(1), help="Seeds.")
@click.option("--first-seed", default=0, help="The first of them.")
@click.option("--jobs", default=1, type=click.IntRange(1), help="Runs at a time.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def length(
    epochs: str, seeds: int, first_seed: int, jobs: int, as_json: bool, **settings: Any
) -> None:
    """The length of a task's dense reference: the shortest that has reached its plateau."""
    from effcore.bench.length import length as measure
    from effcore.bench.length import length_text

    try:
        numbers = [int(word) for word in epochs.split(",") if word]
        seeds_range = range(first_seed, first_seed + seeds)
        result = measure({**settings, "device": "cpu"}, numbers, seeds_range, jobs, _say)
    except ValueError as error:  # which a ConfigError is, too
        raise click.UsageError(str(error)) from None
    _print(result, as_json, length_text(result))


@bench.command()
@click.option("--task", default="photo", help="Task that trains, at its default size.")
@click.option("--counts", default="1,5,20", help="Numbers of viewers, with commas.")
@click.option("--blocks", default=20, help="Rounds of alternating blocks.")
@click.option("--seconds", default=5.0, help="Length of a block.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def viewers(task: str, counts: str, blocks: int, seconds: float, as_json: bool) -> None:
    """Steps per second with WebSocket viewers at 10 Hz, relative to none."""
    from effcore.bench.viewers import viewers as measure

    numbers = tuple(int(word) for word in counts.split(","))
    result = measure(task, numbers, blocks, seconds, _say)
    text = "\n".join(f"{count} viewers: {interval}" for count, interval in result.items())
    _print({"task": task, "ratios": result, "seconds": seconds}, as_json, text)


@bench.command()
@click.option("--task", default="photo", help="Task that trains, at its default size.")
@click.option("--starts", default=10, help="Fresh servers opened in a fresh browser.")
@click.option("--moves", default=600, help="Mouse movements of the dragged slider.")
@click.option("--blocks", default=20, help="Pairs of alternating blocks.")
@click.option("--seconds", default=5.0, help="Length of a block.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def page(as_json: bool, **settings: Any) -> None:
    """First paint, first point, slider to trainer, and one Chromium's cost, on the real app."""
    from effcore.bench.page import page_figures

    try:
        figures = page_figures(**settings, say=_say)
    except RuntimeError as error:
        raise click.ClickException(str(error)) from None
    _print({**settings, "figures": figures}, as_json, str(figures))


@bench.command()
@click.option("--task", default="digits", help="Task that both sides train.")
@click.option("--model", help="One of the task's models; the first by default.")
@click.option("--size", help="Size of the model.")
@click.option("--epochs", type=int, help="Passes of every run; the model's own by default.")
@click.option("--seeds", type=click.IntRange(1), help="Paired seeds; 6 by default.")
@click.option("--first-seed", default=100, type=click.IntRange(0), help="The first of them.")
@click.option("--quick", is_flag=True, help="A quarter of the passes and 3 seeds; minutes.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def peers(
    task: str,
    model: str | None,
    size: str | None,
    epochs: int | None,
    seeds: int | None,
    first_seed: int,
    quick: bool,
    as_json: bool,
) -> None:
    """Published InfoBatch, Selective-Backprop and KAKURENBO against ours, in the same run."""
    from effcore.bench.race import peers as measure
    from effcore.bench.race import peers_text, quick_epochs

    count = seeds or (3 if quick else 6)
    try:
        passes = quick_epochs(task, model) if quick and epochs is None else epochs
        seeds_range = range(first_seed, first_seed + count)
        result = measure(task, model, size, passes, seeds_range, _say)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    except ArithmeticError as error:
        raise click.ClickException(str(error)) from None
    _print(result, as_json, peers_text(result))
