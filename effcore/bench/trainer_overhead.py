"""What the trainer costs beside a hand-written loop: alternating blocks of wall time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from effcore.bench.eta import with_eta
from effcore.bench.reference_loop import reference_loop
from effcore.config import resolve
from effcore.knobs import Controls
from effcore.policies.selection.base import SELECTIONS
from effcore.records import Event, StepEvent
from effcore.records.run_clock import RunClock
from effcore.studies.statistics import MedianInterval, median_interval
from effcore.training.reporter import EVALUATIONS
from effcore.training.training_loop import TrainingLoop

#: Passes no measurement reaches, so that neither loop ends under the clock.
_ENDLESS_EPOCHS = 1000


def steps_per_second(steps: Iterator[Any], seconds: float) -> float:
    """Advance ``steps`` for about ``seconds`` and return its rate."""
    start = time.perf_counter()
    count = 0
    while (elapsed := time.perf_counter() - start) < seconds:
        next(steps)
        count += 1
    return count / elapsed


def relative_slowdowns(
    own: Iterator[Any], other: Iterator[Any], blocks: int, seconds: float
) -> Iterator[float]:
    """Yield by how much more time a step of one training takes than one of another.

    Args:
        own: Steps of the one.
        other: Steps of the other.
        blocks: Pairs of blocks; which of the two goes first alternates, after a warm-up.
        seconds: Length of a block.
    """
    steps_per_second(own, seconds), steps_per_second(other, seconds)  # warm-up
    for block in range(blocks):
        order = (own, other) if block % 2 == 0 else (other, own)
        rates = {id(steps): steps_per_second(steps, seconds) for steps in order}
        yield rates[id(other)] / rates[id(own)] - 1.0


class _UnpreparedLoop(TrainingLoop):
    """A run that begins with its first step; what others would find before it is made up."""

    def prepare_policy(self) -> Iterator[Event]:
        """Take all irreducible losses for 0: steps cost alike, whatever they are."""
        if self.sampler.policy.needs_irreducible:
            self.sampler.memory["irreducible_N"] = torch.zeros_like(self.sampler.trained_N)
        yield from ()


def _step_events(task: str, selection: str = "dense") -> Iterator[Any]:
    config = resolve(
        {"task": task, "selection": selection, "epochs": _ENDLESS_EPOCHS, "device": "cpu"}
    )
    loop = _UnpreparedLoop(config, Controls(), RunClock())
    return (event for event in loop.run() if isinstance(event, StepEvent))


def evaluation_time_share(task: str, steps_per_s: float) -> float:
    """Return what the evaluations of a default run add to its time, as a fraction.

    They are no part of :func:`trainer_speed_ratio`: a loop written by hand would evaluate likewise.
    """
    config = resolve({"task": task, "selection": "dense", "device": "cpu"})
    loop = TrainingLoop(config, Controls(), RunClock())
    loop.reporter.validation_event()  # warm-up
    start = time.perf_counter()
    for _ in range(EVALUATIONS):
        loop.reporter.validation_event()
    spent = time.perf_counter() - start
    steps = config.epochs * loop.n / config.batch_size
    return spent / (steps / steps_per_s)


def trainer_speed_ratio(
    task: str, blocks: int, seconds: float, say: Callable[[str], None]
) -> tuple[MedianInterval, list[float], float]:
    """Return the ratio of Effcore's steps per second to the hand-written loop's, and each.

    Evaluations are next to none in such long runs; see :func:`evaluation_time_share`.

    Args:
        task: Id of the task, trained densely at its default size.
        blocks: Pairs of blocks; which of the two goes first alternates.
        seconds: Length of a block.
        say: Takes progress messages.

    Returns:
        The ratio, its values by block, and our steps per second in the last one.
    """
    config = resolve(
        {"task": task, "selection": "dense", "epochs": _ENDLESS_EPOCHS, "device": "cpu"}
    )
    ours, plain = _step_events(task), reference_loop(config)
    steps_per_second(ours, seconds), steps_per_second(plain, seconds)  # warm-up
    ratios, tell = [], with_eta(say, blocks)
    for block in range(blocks):
        pair = (ours, plain) if block % 2 == 0 else (plain, ours)
        rates = [steps_per_second(loop, seconds) for loop in pair]
        ratios.append(rates[0] / rates[1] if block % 2 == 0 else rates[1] / rates[0])
        tell(f"{task}: block {block + 1}/{blocks} ratio {ratios[-1]:.3f}")
    return median_interval(ratios), ratios, rates[block % 2]


def policy_step_costs(
    task: str, blocks: int, seconds: float, say: Callable[[str], None]
) -> dict[str, MedianInterval]:
    """Return, by selection policy, what a step takes longer than a dense one, as a fraction.

    Deciding, keeping losses and scoring candidates are in it, models of a policy's own, which
    train before the first step, are not; a step trains on a full batch with each of them.

    Args:
        task: Id of the task, at its default size.
        blocks: Pairs of blocks, three at least; which of the two goes first alternates.
        seconds: Length of a block.
        say: Takes progress messages.
    """
    names = [name for name in SELECTIONS.ids() if name != "dense"]
    costs: dict[str, MedianInterval] = {}
    tell = with_eta(say, len(names))
    for name in names:
        own, dense = _step_events(task, name), _step_events(task)
        costs[name] = median_interval(list(relative_slowdowns(own, dense, blocks, seconds)))
        tell(f"{task}: {name} {costs[name].median:+.1%}")
    return costs


def policy_step_costs_text(costs: Mapping[str, MedianInterval]) -> str:
    """Return the policies' own costs as Markdown."""
    lines = ["| policy | a step takes longer by |", "|-|-|"]
    lines += [
        f"| `{name}` | {cost.median:+.1%} ({cost.lo:+.1%} to {cost.hi:+.1%}) |"
        for name, cost in costs.items()
    ]
    return "\n".join(lines)
