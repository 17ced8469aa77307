"""Precision of label suspects on training data with planted wrong labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from effcore.bench.eta import ProgressSink
from effcore.config import resolve
from effcore.insight.example_history import example_statistics, history_from_losses
from effcore.insight.label_suspects import rank_label_suspects
from effcore.records import RunConfig
from effcore.records.epoch_record import EpochRecord
from effcore.records.settings import Settings
from effcore.tasks.base import make_task
from effcore.training.trainer import train


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
