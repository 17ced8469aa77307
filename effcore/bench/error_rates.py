"""Error rates of Effcore's own measurements and verdicts.

An A/A test of the energy meter must find no saving between identical trainings. The two trainings
of a pair follow each other, and which of them comes first alternates, so that a constant error of
the meter cancels in the ratio. The power of a verdict is computed for true effects of given size,
and the precision of label suspects is counted on planted wrong labels.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import click
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from effcore.bench.command_line import (
    ProgressSink,
    bench,
    echo_progress,
    given_or_default,
    print_result,
    quick_epochs,
    with_eta,
)
from effcore.cli.knob_options import json_option
from effcore.config import resolve
from effcore.energy.meter import RunMeter
from effcore.insight.example_filters import rank_label_suspects
from effcore.insight.example_history import example_statistics, history_from_losses
from effcore.records import Energy, EnergyQuality, RunConfig
from effcore.records.epoch_record import EpochRecord
from effcore.records.settings import Settings
from effcore.studies.statistics import paired_difference
from effcore.studies.verdict import NONINFERIORITY_ALPHA, SUPERIORITY_ALPHA
from effcore.tasks.base import make_task
from effcore.training.trainer import train

# A/A test of the energy meter -------------------------------------------------------------


#: Fewer pairs estimate their variance too poorly.
MIN_PAIRS = 8


@dataclass(frozen=True, slots=True)
class AATest:
    """Result of an A/A test.

    Attributes:
        meter: Energy source and what it covers.
        quality: Whether the joules are measured or estimated.
        pairs: Joules of both trainings of each pair.
        seconds: Duration of the shortest training.
        ratio: Geometric mean of the second training's joules ÷ the first's.
        lo: Lower end of the ratio's 95% t interval.
        hi: Upper end of the interval.
    """

    meter: str
    quality: EnergyQuality
    pairs: tuple[tuple[float, float], ...]
    seconds: float
    ratio: float
    lo: float
    hi: float

    @property
    def holds_one(self) -> bool:
        """Whether the interval contains 1, which it should in 95% of A/A tests."""
        return self.lo <= 1.0 <= self.hi

    def __str__(self) -> str:
        """Describe the ratio, its interval and the meter in one sentence."""
        verdict = "holds 1, as it should" if self.holds_one else "does not hold 1: find out why"
        return (
            f"joules of equal trainings, second ÷ first: {self.ratio:.4f} ({self.lo:.4f} to "
            f"{self.hi:.4f}) over {len(self.pairs)} pairs of {self.seconds:.1f} s at least, "
            f"{self.quality.value.upper()} · {self.meter}; the interval {verdict}"
        )


def run_aa_test(
    task: str,
    epochs: int | None,
    pairs: int,
    device: str,
    say: ProgressSink,
    open_meter: Callable[[str], RunMeter] = RunMeter.open,
) -> AATest:
    """Repeat the same dense training, at the task's default size, and compare joules in pairs.

    Raises:
        RuntimeError: Nothing measures the device, or another process used it during a training.
        ValueError: There are too few pairs.
    """
    if pairs < MIN_PAIRS:
        raise ValueError(f"pairs={pairs} is not allowed: expected {MIN_PAIRS} or more")
    config = resolve({"task": task, "selection": "dense", "epochs": epochs, "device": device})
    _refuse_unmeasured(open_meter(device), device)
    _train_to_end(config)  # warm-up
    say, energies = with_eta(say, pairs), []
    for pair in range(pairs):
        first, second = (_train_metered(config, open_meter(device)) for _ in range(2))
        energies.append((first, second) if pair % 2 == 0 else (second, first))
        texts = ", ".join(energy.short_text() for energy in energies[-1])
        say(f"{task}: pair {pair + 1}/{pairs} {texts}")
    return _aa_result(energies)


def _aa_result(energies: Sequence[tuple[Energy, Energy]]) -> AATest:
    joules = [(first.joules or 0.0, second.joules or 0.0) for first, second in energies]
    first_logs, second_logs = ([math.log(j) for j in side] for side in zip(*joules, strict=True))
    log_ratio = paired_difference(second_logs, first_logs)
    sample = energies[0][0]
    return AATest(
        meter=f"{sample.scope} · {sample.source}",
        quality=sample.quality,
        pairs=tuple(joules),
        seconds=min(energy.seconds for pair in energies for energy in pair),
        ratio=math.exp(log_ratio.mean),
        lo=math.exp(log_ratio.lo),
        hi=math.exp(log_ratio.hi),
    )


def _refuse_unmeasured(meter: RunMeter, device: str) -> None:
    energy = meter.stop()  # closes the energy source
    if not meter.has_source:
        raise RuntimeError(f"nothing meters {device!r}: {'; '.join(energy.notes)}")
    if not meter.is_measured:
        raise RuntimeError(
            f"nothing measures {device!r}: {energy.source} is no measurement, so an A/A test of it "
            "shows nothing; python -m effcore doctor shows how to get a meter"
        )


def _train_metered(config: RunConfig, meter: RunMeter) -> Energy:
    with meter:
        _train_to_end(config)
    energy = meter.energy()
    if energy.quality is not EnergyQuality.MEASURED or energy.joules is None or energy.contended:
        why = "other processes used the device" if energy.contended else energy.short_text()
        raise RuntimeError(f"a training has no joules of its own ({why}): {energy.notes}")
    return energy


def _train_to_end(config: RunConfig) -> None:
    for _ in train(config):
        pass


# Power of the verdicts --------------------------------------------------------------------


#: Rows and columns of the table: true differences and standard deviations, in margins.
TRUE_EFFECTS, SCATTERS, SEED_COUNTS = (-0.5, 0.0, 0.5), (0.25, 0.5, 1.0, 2.0), (6, 10, 20)


class PowerRow(NamedTuple):
    """Power of both tests with a number of seeds.

    Attributes:
        seeds: Paired seeds.
        scatter: Standard deviation of the paired difference between seeds, in margins.
        noninferior: Power of "as good as full training", by true difference.
        superior: Power of "better than same-budget training" at a true difference of one margin.
    """

    seeds: int
    scatter: float
    noninferior: tuple[float, ...]
    superior: float


def power_table(
    seeds: Sequence[int] = SEED_COUNTS,
    scatters: Sequence[float] = SCATTERS,
    effects: Sequence[float] = TRUE_EFFECTS,
) -> list[PowerRow]:
    """Return the power of both tests, from the noncentral t distribution.

    ``scatters`` are standard deviations of paired differences, and ``effects`` true differences
    from full training, both in margins.
    """
    return [
        PowerRow(
            n,
            scatter,
            tuple(
                detection_probability(effect + 1.0, scatter, n, NONINFERIORITY_ALPHA)
                for effect in effects
            ),
            detection_probability(1.0, scatter, n, SUPERIORITY_ALPHA),
        )
        for n in seeds
        for scatter in scatters
    ]


def detection_probability(distance: float, scatter: float, n: int, alpha: float) -> float:
    """Return the power of a one-sided t test for a true mean this far above the limit."""
    critical = stats.t.ppf(1.0 - alpha, n - 1)
    return float(stats.nct.sf(critical, n - 1, distance / scatter * np.sqrt(n)))


def power_table_text(rows: Sequence[PowerRow], effects: Sequence[float] = TRUE_EFFECTS) -> str:
    """Return the table as Markdown."""
    heads = [f"as good as full training, truly {effect:+g} margins" for effect in effects]
    lines = [
        f"| seeds | scatter in margins | {' | '.join(heads)} | better than same-budget training, "
        "truly +1 margin |",
        "|-" * (len(effects) + 3) + "|",
    ]
    for row in rows:
        chances = " | ".join(f"{chance:.0%}" for chance in (*row.noninferior, row.superior))
        lines.append(f"| {row.seeds} | {row.scatter:g} | {chances} |")
    return "\n".join(lines)


# Precision of label suspects --------------------------------------------------------------


class SuspectRow(NamedTuple):
    """Result of one run.

    Attributes:
        policy: Id of its selection policy.
        seed: Its seed.
        planted: Number of labels that were made wrong.
        precision: Share of wrong labels among as many suspects.
        by_last_loss: The same where the examples of the highest last loss are the suspects.
        skipped: Share of examples skipped, over all complete epochs.
    """

    policy: str
    seed: int
    planted: int
    precision: float
    by_last_loss: float
    skipped: float


def measure_suspects(
    settings: Settings, policies: Sequence[str], seeds: Sequence[int], say: ProgressSink
) -> list[SuspectRow]:
    """Train with each policy and seed on planted wrong labels, and rank the suspects.

    Each seed plants other wrong labels.

    Raises:
        ValueError: The task plants no wrong labels.
    """
    rows = []
    for seed in seeds:
        for policy in policies:
            config = resolve({**settings, "selection": policy, "seed": seed})
            rows.append(_suspect_row(config, _wrong_labels(config)))
            say(f"{config.task}, {policy}, seed {seed}: {rows[-1].precision:.3f}")
    return rows


def _wrong_labels(config: RunConfig) -> NDArray[np.bool_]:
    task: Any = make_task(config)
    wrong: NDArray[np.bool_] | None = getattr(task, "mislabelled_N", None)
    if wrong is None or not wrong.any():
        raise ValueError(
            f"task={config.task!r} has no wrong labels: choose digits or tabular, and noise above 0"
        )
    return wrong


def _suspect_row(config: RunConfig, wrong_N: NDArray[np.bool_]) -> SuspectRow:
    records = [event for event in train(config) if isinstance(event, EpochRecord)]
    history = history_from_losses(records)
    statistics = example_statistics(history, history.epochs, "cross_entropy")
    by_last_loss = np.argsort(-np.nan_to_num(statistics.loss_N, nan=-1.0), kind="stable")
    planted = int(wrong_N.sum())
    skipped = statistics.skipped_N.sum() / max(statistics.complete_epochs * history.n_examples, 1)
    return SuspectRow(
        policy=config.selection,
        seed=config.seed,
        planted=planted,
        precision=float(wrong_N[rank_label_suspects(statistics)[:planted]].mean()),
        by_last_loss=float(wrong_N[by_last_loss[:planted]].mean()),
        skipped=float(skipped),
    )


def suspects_text(rows: Sequence[SuspectRow]) -> str:
    """Return mean and lowest precision of each policy over its seeds, as Markdown."""
    lines = [
        "| policy | skipped | precision, mean (least) | by the last loss | runs |",
        "|-|-|-|-|-|",
    ]
    for policy in dict.fromkeys(row.policy for row in rows):
        policy_rows = [row for row in rows if row.policy == policy]
        precision = [row.precision for row in policy_rows]
        by_loss = [row.by_last_loss for row in policy_rows]
        skipped = np.mean([row.skipped for row in policy_rows])
        lines.append(
            f"| {policy} | {skipped:.0%} | {np.mean(precision):.3f} ({min(precision):.3f}) | "
            f"{np.mean(by_loss):.3f} ({min(by_loss):.3f}) | {len(policy_rows)} |"
        )
    return "\n".join(lines)


# Commands ---------------------------------------------------------------------------------


@bench.command()
@click.option("--task", default="digits", help="Task, trained densely at its default size.")
@click.option("--epochs", type=int, help="Epochs of each training; the task's own by default.")
@click.option("--pairs", default=8, type=click.IntRange(8), help="Pairs of identical trainings.")
@click.option("--device", default="cuda", help="cpu, cuda or cuda:N.")
@json_option
def aa(task: str, epochs: int | None, pairs: int, device: str, as_json: bool) -> None:
    """Compare the joules of identical trainings.

    The energy meter must find no saving between them. Not resumable.
    """
    result = run_aa_test(task, epochs, pairs, device, echo_progress)
    print_result(dataclasses.asdict(result) | {"null": result.holds_one}, as_json, str(result))


@bench.command()
@json_option
def power(as_json: bool) -> None:
    """Print how often the verdicts show a true effect."""
    rows = power_table()
    print_result({"rows": [row._asdict() for row in rows]}, as_json, power_table_text(rows))


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
@json_option
def suspects(
    policies: str, seeds: int | None, first_seed: int, quick: bool, as_json: bool, **settings: Any
) -> None:
    """Measure the precision of label suspects.

    Wrong labels are planted in the training data. Not resumable.
    """
    if quick:
        settings["epochs"] = quick_epochs(settings["task"], settings["model"])
    settings["device"] = "cpu"
    fresh = range(first_seed, first_seed + given_or_default(seeds, quick, 1, 3))
    rows = measure_suspects(settings, policies.split(","), fresh, echo_progress)
    record = {**settings, "rows": [row._asdict() for row in rows]}
    print_result(record, as_json, suspects_text(rows))
