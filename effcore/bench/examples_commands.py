"""The benches of what is told of examples: suspected labels, and the Examples page."""

from __future__ import annotations

from typing import Any

import click

from effcore.bench.commands import bench, echo_progress, print_result
from effcore.bench.quick_mode import given_or_default, quick_epochs


@bench.command()
@click.option("--task", default="digits", help="Task that can plant wrong labels.")
@click.option("--model", help="One of its models; the first by default.")
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
@click.option("--first-seed", default=0, type=click.IntRange(0), help="The first of them.")
@click.option("--quick", is_flag=True, help="A quarter of the passes and one seed.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def suspects(
    policies: str, seeds: int | None, first_seed: int, quick: bool, as_json: bool, **settings: Any
) -> None:
    """How many suspected labels are wrong, where it is known which were made so; not resumable."""
    from effcore.bench.suspect_precision import measure_suspects, suspects_text

    if quick:
        settings["epochs"] = quick_epochs(settings["task"], settings["model"])
    settings["device"] = "cpu"
    fresh = range(first_seed, first_seed + given_or_default(seeds, quick, 1, 3))
    rows = measure_suspects(settings, policies.split(","), fresh, echo_progress)
    result = {**settings, "rows": [row._asdict() for row in rows]}
    print_result(result, as_json, suspects_text(rows))


@bench.command()
@click.option("--repeats", default=5, type=click.IntRange(1), help="Fresh browsers.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def examples(repeats: int, as_json: bool) -> None:
    """The Examples page with 100,000 examples and a million steps in Chromium; not resumable."""
    from effcore.bench.examples_page_latency import measure_examples_page

    figures = measure_examples_page(repeats, echo_progress)
    print_result({"repeats": repeats, "figures": figures._asdict()}, as_json, str(figures))
