"""The commands ``python -m effcore bench …``: each prints its figures and where they hold."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import click

from effcore.bench.command_line import BenchGroup, parse_whole_numbers, seconds_option
from effcore.bench.environment import measurement_environment
from effcore.bench.eta import with_eta
from effcore.bench.quick_mode import given_or_default, quick_epochs


def echo_progress(message: str) -> None:
    """Tell how far a measurement has got."""
    click.echo(message, err=True)


def print_result(result: dict[str, Any], as_json: bool, text: str) -> None:
    """Print a result, as JSON or as text, and where it holds."""
    where = measurement_environment()
    if as_json:
        click.echo(json.dumps(_json_safe({**result, "circumstances": where}), allow_nan=False))
        return
    click.echo(text)
    click.echo("measured on " + ", ".join(f"{name} {value}" for name, value in where.items()))


def _json_safe(data: Any) -> Any:
    """Return what is no number, such as the metric of a run that broke down, as ``None``."""
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        data = dataclasses.asdict(data)
    if isinstance(data, dict):
        return {key: _json_safe(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_json_safe(value) for value in data]
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
    from effcore.bench import trainer_overhead as measure

    blocks = given_or_default(blocks, quick, 3, 20)
    seconds = given_or_default(seconds, quick, 0.5, 5.0)
    if policies:
        costs = measure.policy_step_costs(task, blocks, seconds, echo_progress)
        result = {"task": task, "costs": costs, "seconds": seconds}
        print_result(result, as_json, measure.policy_step_costs_text(costs))
        return
    interval, ratios, rate = measure.trainer_speed_ratio(task, blocks, seconds, echo_progress)
    share = measure.evaluation_time_share(task, rate)
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
    from effcore.bench.checkpoint_cost import checkpoint_cost_text, measure_checkpoint_cost

    cost = measure_checkpoint_cost(task, say=echo_progress, **options)
    print_result({"task": task, **cost._asdict()}, as_json, checkpoint_cost_text(task, cost))


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
    from effcore.bench.time_saved import measure_time_saved as measure
    from effcore.bench.time_saved import time_saved_text

    settings = {"epochs": given_or_default(epochs, quick, 2, 5)}
    times = given_or_default(repeats, quick, 3, 5)
    rows = measure(
        task, model, policies.split(","), settings, times, with_eta(echo_progress, times)
    )
    result = {"task": task, "rows": [row._asdict() for row in rows]}
    print_result(result, as_json, time_saved_text(rows))


@bench.command()
@click.option("--task", default="photo", help="Task that trains, at its default size.")
@click.option(
    "--counts", default="1,5,20", callback=parse_whole_numbers, help="Viewers, with commas."
)
@click.option("--blocks", default=20, type=click.IntRange(3), help="Rounds of alternating blocks.")
@seconds_option(5.0)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def viewers(task: str, counts: tuple[int, ...], blocks: int, seconds: float, as_json: bool) -> None:
    """Steps per second with WebSocket viewers at 10 Hz, relative to none; not resumable."""
    from effcore.bench.viewer_overhead import viewer_speed_ratios as measure

    result = measure(task, counts, blocks, seconds, with_eta(echo_progress, blocks))
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
    from effcore.bench.page_latency import measure_page

    figures = measure_page(**settings, say=echo_progress)
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
    from effcore.bench.published_baselines import compare_published_baselines as measure
    from effcore.bench.published_baselines_text import published_baselines_text

    passes = quick_epochs(task, model) if quick and epochs is None else epochs
    fresh = range(first_seed, first_seed + given_or_default(seeds, quick, 3, 6))
    result = measure(task, model, size, passes, fresh, device, echo_progress)
    print_result(result, as_json, published_baselines_text(result))


@bench.command()
@click.option("--task", default="digits", help="Task, trained densely at its default size.")
@click.option("--blocks", default=20, type=click.IntRange(3), help="Pairs of alternating blocks.")
@seconds_option(5.0)
@click.option("--device", default="cpu", help="cpu, cuda or cuda:N.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def sampler(task: str, blocks: int, seconds: float, device: str, as_json: bool) -> None:
    """Steps per second with the energy meter over those without; aim: 0.995. Not resumable."""
    from effcore.bench.meter_overhead import meter_speed_ratio

    interval, ratios, meter = meter_speed_ratio(
        task, blocks, seconds, with_eta(echo_progress, blocks), device
    )
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
    from effcore.bench.aa_test import run_aa_test as measure

    result = measure(task, epochs, pairs, device, echo_progress)
    print_result(dataclasses.asdict(result) | {"null": result.holds_one}, as_json, str(result))
