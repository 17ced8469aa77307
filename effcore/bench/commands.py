"""The commands ``bench …`` that measure Effcore itself; those over seeds are in study_commands."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from effcore.bench.command_line import (
    BenchGroup,
    echo_progress,
    given_or_default,
    parse_whole_numbers,
    print_result,
    quick_epochs,
    seconds_option,
)
from effcore.bench.eta import with_eta


@click.group(cls=BenchGroup)
def bench() -> None:
    """Measure Effcore itself. The figures in RESULTS.md come from these commands.

    Benches that train whole runs store them, and continue where they were interrupted. Benches
    that time alternating blocks do not: only blocks that follow each other directly on one
    machine are comparable.
    """


@bench.command()
@click.option("--task", default="digits", help="Task, at its default size.")
@click.option("--blocks", type=click.IntRange(3), help="Pairs of blocks; 20 by default.")
@seconds_option(None)
@click.option("--policies", is_flag=True, help="Measure what each policy adds to a step instead.")
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
    """Measure what the trainer or each policy adds to a step.

    The trainer is compared with a hand-written loop, and policies with dense training.

    Not resumable: only blocks that follow each other directly are comparable.
    """
    from effcore.bench import step_overhead

    blocks = given_or_default(blocks, quick, 3, 20)
    seconds = given_or_default(seconds, quick, 0.5, 5.0)
    if policies:
        costs = step_overhead.policy_step_costs(task, blocks, seconds, echo_progress)
        record = {"task": task, "costs": costs, "seconds": seconds}
        print_result(record, as_json, step_overhead.policy_step_costs_text(costs))
        return
    speed = step_overhead.trainer_speed_ratio(task, blocks, seconds, echo_progress)
    share = step_overhead.evaluation_time_share(task, speed.steps_per_s)
    text = f"{task}: trainer ÷ hand-written loop = {speed.ratio}"
    text += f"\nevaluations, left out of both, add {share:.1%} to a default run"
    record = {"task": task, "ratio": speed.ratio, "ratios": speed.ratios, "seconds": seconds}
    print_result({**record, "evaluation_share": share}, as_json, text)


@bench.command()
@click.option("--task", default="digits", help="Task, at its default size.")
@click.option("--policy", "selection", default="stale-pps", help="Selection policy.")
@click.option("--blocks", default=10, type=click.IntRange(3), help="Pairs of alternating blocks.")
@click.option("--seconds", default=15.0, help="Length of a block.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def checkpoints(task: str, as_json: bool, **options: Any) -> None:
    """Measure the cost and the size of checkpoints.

    Not resumable: only blocks that follow each other directly are comparable.
    """
    from effcore.bench.step_overhead import checkpoint_cost_text, measure_checkpoint_cost

    cost = measure_checkpoint_cost(task, say=echo_progress, **options)
    print_result({"task": task, **cost._asdict()}, as_json, checkpoint_cost_text(task, cost))


@bench.command()
@click.option("--task", default="digits", help="Task, at its default size.")
@click.option("--model", help="One of the task's models; the first by default.")
@click.option(
    "--policies",
    default="random,confident-skip,auto,infobatch,stale-pps,el2n-pps",
    help="Selection policies, with commas.",
)
@click.option("--epochs", type=click.IntRange(1), help="Epochs of each run; 5 by default.")
@click.option("--repeats", type=click.IntRange(3), help="Runs of each policy; 5 by default.")
@click.option("--quick", is_flag=True, help="Two epochs, three repeats.")
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
    """Compare the time each policy saves with what it skips.

    Not resumable: only runs that take turns on one machine are comparable.
    """
    from effcore.bench.time_saved import measure_time_saved, time_saved_text

    settings = {"epochs": given_or_default(epochs, quick, 2, 5)}
    repeats = given_or_default(repeats, quick, 3, 5)
    rows = measure_time_saved(
        task, model, policies.split(","), settings, repeats, with_eta(echo_progress, repeats)
    )
    record = {"task": task, "rows": [row._asdict() for row in rows]}
    print_result(record, as_json, time_saved_text(rows))


@bench.command()
@click.option("--task", default="photo", help="Task, at its default size.")
@click.option(
    "--counts", default="1,5,20", callback=parse_whole_numbers, help="Viewers, with commas."
)
@click.option("--blocks", default=20, type=click.IntRange(3), help="Rounds of alternating blocks.")
@seconds_option(5.0)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def viewers(task: str, counts: tuple[int, ...], blocks: int, seconds: float, as_json: bool) -> None:
    """Measure what viewers cost the trainer.

    Viewers are WebSocket clients at 10 Hz. Steps per second are relative to those with no viewer.
    Not resumable.
    """
    from effcore.bench.viewer_overhead import viewer_speed_ratios

    ratios = viewer_speed_ratios(task, counts, blocks, seconds, with_eta(echo_progress, blocks))
    text = "\n".join(f"{count} viewers: {interval}" for count, interval in ratios.items())
    print_result({"task": task, "ratios": ratios, "seconds": seconds}, as_json, text)


@bench.command()
@click.option("--task", default="photo", help="Task, at its default size.")
@click.option("--starts", default=10, type=click.IntRange(1), help="Fresh servers and browsers.")
@click.option("--moves", default=600, type=click.IntRange(1), help="Movements of the slider.")
@click.option("--blocks", default=20, type=click.IntRange(3), help="Pairs of alternating blocks.")
@seconds_option(5.0)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def page(as_json: bool, **settings: Any) -> None:
    """Measure the Live page of the app in Chromium.

    Measured are the first paint, the first point, the latency of a slider and the cost of one
    viewer.
    """
    from effcore.bench.page_latency import measure_page

    latencies = measure_page(**settings, say=echo_progress)
    print_result({**settings, "figures": latencies}, as_json, str(latencies))


@bench.command()
@click.option("--repeats", default=5, type=click.IntRange(1), help="Fresh browsers.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def examples(repeats: int, as_json: bool) -> None:
    """Measure the Examples page of the app in Chromium.

    The page shows a run of 100,000 examples and a million steps. Not resumable.
    """
    from effcore.bench.examples_page_latency import measure_examples_page

    latencies = measure_examples_page(repeats, echo_progress)
    print_result({"repeats": repeats, "figures": latencies._asdict()}, as_json, str(latencies))


@bench.command()
@click.option("--task", default="digits", help="Task that both sides train.")
@click.option("--model", help="One of the task's models; the first by default.")
@click.option("--size", help="Size of the model.")
@click.option("--epochs", type=int, help="Epochs of every run; the model's own by default.")
@click.option("--seeds", type=click.IntRange(1), help="Paired seeds; 6 by default.")
@click.option("--first-seed", default=100, type=click.IntRange(0), help="The first of the seeds.")
@click.option("--device", default="cpu", help="cpu, cuda or cuda:N.")
@click.option("--quick", is_flag=True, help="A quarter of the epochs and 3 seeds; minutes.")
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
    """Compare published methods with Effcore's policies.

    The methods are InfoBatch, Selective-Backprop and KAKURENBO. Not resumable: only runs that
    follow each other directly are comparable.
    """
    from effcore.bench.published_baselines import (
        compare_published_baselines,
        published_baselines_text,
    )

    if quick and epochs is None:
        epochs = quick_epochs(task, model)
    fresh = range(first_seed, first_seed + given_or_default(seeds, quick, 3, 6))
    comparison = compare_published_baselines(
        task, model, size, epochs, fresh, device, echo_progress
    )
    print_result(dataclasses.asdict(comparison), as_json, published_baselines_text(comparison))


@bench.command()
@click.option("--task", default="digits", help="Task that can plant wrong labels.")
@click.option("--model", help="One of the task's models; the first by default.")
@click.option(
    "--noise",
    "label_noise",
    default=0.1,
    type=click.FloatRange(0.01, 0.5),
    help="Share of the labels that are made wrong.",
)
@click.option(
    "--policies", default="dense,confident-skip,auto", help="Selection policies, with commas."
)
@click.option("--seeds", type=click.IntRange(1), help="Runs of each policy; 3 by default.")
@click.option("--first-seed", default=0, type=click.IntRange(0), help="The first of the seeds.")
@click.option("--quick", is_flag=True, help="A quarter of the epochs and one seed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def suspects(
    policies: str, seeds: int | None, first_seed: int, quick: bool, as_json: bool, **settings: Any
) -> None:
    """Measure the precision of label suspects.

    Wrong labels are planted in the training data. Not resumable.
    """
    from effcore.bench.suspect_precision import measure_suspects, suspects_text

    if quick:
        settings["epochs"] = quick_epochs(settings["task"], settings["model"])
    settings["device"] = "cpu"
    fresh = range(first_seed, first_seed + given_or_default(seeds, quick, 1, 3))
    rows = measure_suspects(settings, policies.split(","), fresh, echo_progress)
    record = {**settings, "rows": [row._asdict() for row in rows]}
    print_result(record, as_json, suspects_text(rows))


@bench.command()
@click.option("--task", default="digits", help="Task, trained densely at its default size.")
@click.option("--blocks", default=20, type=click.IntRange(3), help="Pairs of alternating blocks.")
@seconds_option(5.0)
@click.option("--device", default="cpu", help="cpu, cuda or cuda:N.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def sampler(task: str, blocks: int, seconds: float, device: str, as_json: bool) -> None:
    """Measure what the energy meter costs the trainer.

    The ratio of steps per second with and without it should be at least 0.995. Not resumable.
    """
    from effcore.bench.step_overhead import meter_speed_ratio

    speed = meter_speed_ratio(task, blocks, seconds, with_eta(echo_progress, blocks), device)
    text = f"{task}, {speed.meter}: metered ÷ not = {speed.ratio}"
    print_result({"task": task, **speed._asdict()}, as_json, text)


@bench.command()
@click.option("--task", default="digits", help="Task, trained densely at its default size.")
@click.option("--epochs", type=int, help="Epochs of each training; the task's own by default.")
@click.option("--pairs", default=8, type=click.IntRange(8), help="Pairs of identical trainings.")
@click.option("--device", default="cuda", help="cpu, cuda or cuda:N.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def aa(task: str, epochs: int | None, pairs: int, device: str, as_json: bool) -> None:
    """Compare the joules of identical trainings.

    The energy meter must find no saving between them. Not resumable.
    """
    from effcore.bench.aa_test import run_aa_test

    result = run_aa_test(task, epochs, pairs, device, echo_progress)
    print_result(dataclasses.asdict(result) | {"null": result.holds_one}, as_json, str(result))
