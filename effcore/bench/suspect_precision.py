"""How many of the labels that a run suspects are wrong, where it is known which were made so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from effcore.config import resolve
from effcore.insight.example_history import ExampleHistory, example_statistics, history_from_losses
from effcore.insight.label_suspects import rank_label_suspects
from effcore.records import RunConfig
from effcore.records.epoch_record import EpochRecord
from effcore.tasks.base import make_task
from effcore.training.trainer import train


class SuspectRow(NamedTuple):
    """One run.

    Attributes:
        policy: Its selection policy.
        seed: Its seed.
        planted: Labels that were made wrong.
        precision: Share of wrong ones among as many suspects.
        by_last_loss: The same where those of the highest last loss are suspected.
        skipped: Share of the passes of all examples that were skipped.
    """

    policy: str
    seed: int
    planted: int
    precision: float
    by_last_loss: float
    skipped: float


def measure_suspects(
    settings: dict[str, Any],
    policies: Sequence[str],
    seeds: Sequence[int],
    say: Callable[[str], None],
) -> list[SuspectRow]:
    """Train with each policy and seed on wrong labels, and see who is suspected.

    Args:
        settings: Task, share of wrong labels, and what else differs from defaults.
        policies: Ids of selection policies.
        seeds: Of the runs, each with wrong labels of its own.
        say: Takes progress messages.

    Raises:
        ValueError: The task plants no wrong labels.
    """
    found = []
    for seed in seeds:
        for policy in policies:
            config = resolve({**settings, "selection": policy, "seed": seed})
            found.append(_suspect_row(config, wrong_labels(config)))
            say(f"{config.task}, {policy}, seed {seed}: {found[-1].precision:.3f}")
    return found


def wrong_labels(config: RunConfig) -> NDArray[np.bool_]:
    """Return which training labels were made wrong.

    Raises:
        ValueError: None were, or the task cannot.
    """
    task: Any = make_task(config)
    wrong: NDArray[np.bool_] | None = getattr(task, "mislabelled_N", None)
    if wrong is None or not wrong.any():
        raise ValueError(
            f"task={config.task!r} has no wrong labels: choose digits or tabular, and noise above 0"
        )
    return wrong


def _suspect_row(config: RunConfig, wrong_N: NDArray[np.bool_]) -> SuspectRow:
    history = train_example_history(config)
    look = example_statistics(history, history.epochs, "cross_entropy")
    last = np.argsort(-np.nan_to_num(look.loss_N, nan=-1.0), kind="stable")
    share = look.skipped_N.sum() / max(look.complete_epochs * history.n_examples, 1)
    return SuspectRow(
        config.selection, config.seed, int(wrong_N.sum()),
        precision_at_planted(rank_label_suspects(look), wrong_N),
        precision_at_planted(last, wrong_N), float(share),
    )  # fmt: skip


def train_example_history(config: RunConfig) -> ExampleHistory:
    """Train, and return what a stored run would have kept of its examples."""
    return history_from_losses([event for event in train(config) if isinstance(event, EpochRecord)])


def precision_at_planted(order: NDArray[np.intp], wrong_N: NDArray[np.bool_]) -> float:
    """Return the share of wrong ones among the first of an order, as many as there are wrong."""
    return float(wrong_N[order[: int(wrong_N.sum())]].mean())


def suspects_text(rows: Sequence[SuspectRow]) -> str:
    """Return a line for each policy, the mean and the least over its seeds, as Markdown."""
    lines = [
        "| policy | skipped | precision, mean (least) | by the last loss | runs |",
        "|-|-|-|-|-|",
    ]
    for policy in dict.fromkeys(row.policy for row in rows):
        own = [row for row in rows if row.policy == policy]
        ours, theirs = ([getattr(r, n) for r in own] for n in ("precision", "by_last_loss"))
        skipped = np.mean([row.skipped for row in own])
        lines.append(
            f"| {policy} | {skipped:.0%} | {np.mean(ours):.3f} ({min(ours):.3f}) | "
            f"{np.mean(theirs):.3f} ({min(theirs):.3f}) | {len(own)} |"
        )
    return "\n".join(lines)
