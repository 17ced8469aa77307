"""The commands ``python -m effcore bench …``: each prints its figures and where they hold."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import click

from effcore.bench.circumstances import circumstances
from effcore.bench.left import counted
from effcore.bench.parsing import BenchGroup, seconds_option, whole_numbers
from effcore.bench.quick import quick_epochs, unless_given


def say(message: str) -> None:
    """Tell how far a measurement has got."""
    click.echo(message, err=True)


def print_result(result: dict[str, Any], as_json: bool, text: str) -> None:
    """Print a result, as JSON or as text, and where it holds."""
    where = circumstances()
    if as_json:
        click.echo(json.dumps(_known({**result, "circumstances": where}), allow_nan=False))
        return
    click.echo(text)
    click.echo("measured on " + ", ".join(f"{name} {value}" for name, value in where.items()))


def _known(data: Any) -> Any:
    """Return what is no number, such as the metric of a run that broke down, as ``None``."""
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        data = dataclasses.asdict(data)
    if isinstance(data, dict):
        return {key: _known(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_known(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


@click.group(cls=BenchGroup)
def bench() -> None:
    """Measure Effcore itself; README's figures come from here.

    Benches that train whole runs keep their results and go on where they were stopped. Those that
    time blocks against each other do not: only what ran in turn, on the same machine in the
    same minutes, can be compared.
    """


@bench.command()
@click.option("--task", default="digits", help="Task at its default size.")
@click.option("--blocks", type=click.IntRange(3), help="Pairs of alternating blocks; 20.")
@seconds_option(None)
@click.option("--policies", is_flag=True, help="What each policy adds to a step, instead.")
@click.option("--quick", is_flag=True, help="Three pairs of blocks of half a second.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def overhead(
    task: str,
    blocks: int | None,
    seconds: float | None,
    policies: bool,
    quick: bool,
    as_json: bool,
) -> None:
    """Speed of the trainer beside a hand-written loop, or of each policy beside dense.

    Not resumable: only blocks that follow each other directly can be compared.
    """
    from effcore.bench import overhead as measure

    blocks = unless_given(blocks, quick, 3, 20)
    seconds = unless_given(seconds, quick, 0.5, 5.0)
    if policies:
        costs = measure.policy_costs(task, blocks, seconds, say)
        result = {"task": task, "costs": costs, "seconds": seconds}
        print_result(result, as_json, measure.costs_text(costs))
        return
    interval, ratios, rate = measure.overhead(task, blocks, seconds, say)
    share = measure.evaluation_share(task, rate)
    result = {"task": task, "ratio": interval, "ratios": ratios, "seconds": seconds}
    text = f"{task}: trainer ÷ hand-written loop = {interval}"
    text += f"\nevaluating, left out of both, adds {share:.1%} to a default run"
    print_result({**result, "evaluation_share": share}, as_json, text)


@bench.command()
@click.option("--task", default="digits", help="Task, at its default size.")
@click.option("--policy", "selection", default="stale-pps", help="Selection policy.")
@click.option("--blocks", default=10, type=click.IntRange(3), help="Pairs of alternating blocks.")
@click.option("--seconds", default=15.0, help="Length of a block.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def checkpoints(task: str, as_json: bool, **options: Any) -> None:
    """What checkpoints cost a run, and how large one is.

    Not resumable: only blocks that follow each other directly can be compared.
    """
    from effcore.bench.checkpoints import saving_cost, saving_text

    cost = saving_cost(task, say=say, **options)
    print_result({"task": task, **cost._asdict()}, as_json, saving_text(task, cost))


@bench.command()
@click.option("--task", default="digits", help="Task, at its default size.")
@click.option("--model", help="One of its models; the first by default.")
@click.option(
    "--policies",
    default="random,confident-skip,auto,infobatch,stale-pps,el2n-pps",
    help="Selection policies, with commas.",
)
@click.option("--epochs", type=click.IntRange(1), help="Passes of each run; 5.")
@click.option("--repeats", type=click.IntRange(3), help="Runs of each; 5.")
@click.option("--quick", is_flag=True, help="Two passes, three repeats.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def realised(
    task: str,
    model: str | None,
    policies: str,
    epochs: int | None,
    repeats: int | None,
    quick: bool,
    as_json: bool,
) -> None:
    """Time that skipping saves, beside the computation it skips; a policy's own cost.

    Not resumable: only runs that train side by side, a stretch of each in turn, can be
    compared.
    """
    from effcore.bench.realised import realised as measure
    from effcore.bench.realised import realised_text

    settings = {"epochs": unless_given(epochs, quick, 2, 5)}
    times = unless_given(repeats, quick, 3, 5)
    rows = measure(task, model, policies.split(","), settings, times, counted(say, times))
    result = {"task": task, "rows": [row._asdict() for row in rows]}
    print_result(result, as_json, realised_text(rows))


@bench.command()
@click.option("--task", default="photo", help="Task that trains, at its default size.")
@click.option("--counts", default="1,5,20", callback=whole_numbers, help="Viewers, with commas.")
@click.option("--blocks", default=20, type=click.IntRange(3), help="Rounds of alternating blocks.")
@seconds_option(5.0)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def viewers(task: str, counts: tuple[int, ...], blocks: int, seconds: float, as_json: bool) -> None:
    """Steps per second with WebSocket viewers at 10 Hz, relative to none; not resumable."""
    from effcore.bench.viewers import viewers as measure

    result = measure(task, counts, blocks, seconds, counted(say, blocks))
    text = "\n".join(f"{count} viewers: {interval}" for count, interval in result.items())
    print_result({"task": task, "ratios": result, "seconds": seconds}, as_json, text)


@bench.command()
@click.option("--task", default="photo", help="Task that trains, at its default size.")
@click.option("--starts", default=10, type=click.IntRange(1), help="Fresh servers and browsers.")
@click.option("--moves", default=600, type=click.IntRange(1), help="Movements of the slider.")
@click.option("--blocks", default=20, type=click.IntRange(3), help="Pairs of alternating blocks.")
@seconds_option(5.0)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def page(as_json: bool, **settings: Any) -> None:
    """First paint, first point, slider to trainer, and one Chromium's cost, on the real app."""
    from effcore.bench.page import page_figures

    figures = page_figures(**settings, say=say)
    print_result({**settings, "figures": figures}, as_json, str(figures))


@bench.command()
@click.option("--task", default="digits", help="Task that both sides train.")
@click.option("--model", help="One of the task's models; the first by default.")
@click.option("--size", help="Size of the model.")
@click.option("--epochs", type=int, help="Passes of every run; the model's own by default.")
@click.option("--seeds", type=click.IntRange(1), help="Paired seeds; 6 by default.")
@click.option("--first-seed", default=100, type=click.IntRange(0), help="The first of them.")
@click.option("--device", default="cpu", help="cpu, cuda or cuda:N.")
@click.option("--quick", is_flag=True, help="A quarter of the passes and 3 seeds; minutes.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def peers(
    task: str,
    model: str | None,
    size: str | None,
    epochs: int | None,
    seeds: int | None,
    first_seed: int,
    device: str,
    quick: bool,
    as_json: bool,
) -> None:
    """Published InfoBatch, Selective-Backprop and KAKURENBO against ours, in the same run.

    Not resumable: only runs that follow each other directly can be compared.
    """
    from effcore.bench.race import peers as measure
    from effcore.bench.race_text import peers_text

    passes = quick_epochs(task, model) if quick and epochs is None else epochs
    fresh = range(first_seed, first_seed + unless_given(seeds, quick, 3, 6))
    result = measure(task, model, size, passes, fresh, device, say)
    print_result(result, as_json, peers_text(result))


@bench.command()
@click.option("--task", default="digits", help="Task, trained densely at its default size.")
@click.option("--blocks", default=20, type=click.IntRange(3), help="Pairs of alternating blocks.")
@seconds_option(5.0)
@click.option("--device", default="cpu", help="cpu, cuda or cuda:N.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def sampler(task: str, blocks: int, seconds: float, device: str, as_json: bool) -> None:
    """Steps per second with the energy meter over those without; aim: 0.995. Not resumable."""
    from effcore.bench.sampler import sampler_cost

    interval, ratios, meter = sampler_cost(task, blocks, seconds, counted(say, blocks), device)
    result = {"task": task, "meter": meter, "ratio": interval, "ratios": ratios}
    print_result(result, as_json, f"{task}, {meter}: metered ÷ not = {interval}")


@bench.command()
@click.option("--task", default="digits", help="Task, trained densely at its default size.")
@click.option("--epochs", type=int, help="Passes of each training; the task's own by default.")
@click.option("--pairs", default=8, type=click.IntRange(8), help="Pairs of equal trainings.")
@click.option("--device", default="cuda", help="cpu, cuda or cuda:N.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def aa(task: str, epochs: int | None, pairs: int, device: str, as_json: bool) -> None:
    """Joules of equal trainings in pairs: a meter must find no saving. Not resumable."""
    from effcore.bench.aa import aa as measure

    result = measure(task, epochs, pairs, device, say)
    print_result(dataclasses.asdict(result) | {"null": result.null}, as_json, str(result))
