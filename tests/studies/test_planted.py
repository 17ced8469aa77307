"""A learner whose truth is known: each verdict in turn is right, and is the one given.

It learns by being shown the first half of its examples; the other half teaches nothing. So what
a policy truly loses follows from whom it draws, and what is found of it must agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
import torch
from torch import nn

from effcore.knobs import knob
from effcore.policies.selection.base import SELECTIONS, Decision, ExampleState, SelectionPolicy
from effcore.records.settings import Settings
from effcore.store import Store
from effcore.studies.comparison import load_completed_runs, open_study, run_study, study_record
from effcore.studies.plan import plan_study
from effcore.studies.verdict import Outcome
from effcore.tasks.base import TASKS, Evaluation
from effcore.testing.tiny_task import TinyTask

MARGIN = TinyTask.metric.margin
EPOCHS, BUDGET = 5, 0.6
FIRST_SEED = 100


class Truth(NamedTuple):
    """What is planted, in margins.

    Attributes:
        slope: What all of the teaching is worth.
        noise: Scatter of every arm, independent between arms and seeds.
        matched: Further scatter of dense training of the budget.
        breaks: Whether who is taught nothing breaks down.
    """

    slope: float
    noise: float = 0.1
    matched: float = 0.0
    breaks: bool = False


class Planted(TinyTask):
    """Knows how often each example was trained on, and answers with the planted truth."""

    id = "planted"
    truth: ClassVar[Truth]

    def __init__(self, seed: int, device: torch.device, data: Any = None) -> None:
        super().__init__(seed, device, data)
        self._seed = seed
        self._visits_N = torch.zeros(self.n_train)

    def record_outputs(self, idx_B: torch.Tensor, outputs: torch.Tensor) -> None:
        """Count the visits."""
        self._visits_N.index_add_(0, idx_B, torch.ones(len(idx_B)))

    def evaluate(self, model: nn.Module, split: str) -> Evaluation:
        """Answer with what was planted, whatever the model."""
        half = self.n_train // 2
        useful, useless = (float(v.mean()) / EPOCHS for v in self._visits_N.view(2, half))
        # One draw for each seed and way of training, whatever came before it.
        way = self._seed * 10_000 + round(100 * useful) * 100 + round(10 * useless)
        own, dense = torch.randn(2, generator=torch.Generator().manual_seed(way)).tolist()
        alike = useful == pytest.approx(useless, abs=0.02) and useful < 0.7
        scatter = self.truth.noise * own + self.truth.matched * dense * alike
        if self.truth.breaks and useless > 0.1 > useful:
            scatter = math.nan
        margins = self.truth.slope * min(useful, 1.0) + scatter
        loss = super().evaluate(model, split).loss
        return Evaluation(loss, torch.tensor(0.5 + MARGIN * margins))


@dataclass(frozen=True)
class Halves(SelectionPolicy):
    """Draw each half of the examples with a probability of its own."""

    id = "halves"
    title = "Halves"
    summary = "Draws what teaches and what does not."
    biased = True

    useful: float = knob(1.0, lo=0.0, hi=1.0, step=0.1, label="Useful", help="Of the first.")
    useless: float = knob(0.0, lo=0.0, hi=1.0, step=0.1, label="Useless", help="Of the rest.")

    def inclusion_probabilities(self, examples: ExampleState) -> Decision:
        """Return the two probabilities."""
        first_N = torch.arange(len(examples.last_loss_N)) < len(examples.last_loss_N) // 2
        return Decision(torch.where(first_N, self.useful, self.useless))


@pytest.fixture(autouse=True)
def planted() -> Iterator[None]:
    TASKS.add(Planted)
    SELECTIONS.add(Halves)
    yield
    SELECTIONS.remove(Halves.id)
    TASKS.remove(Planted.id)


TEACHES, HALF, WASTES = (1.0, 0.0), (1.0, 0.5), (0.0, 1.0)
CASES = [
    (Outcome.WIN, Truth(slope=5), TEACHES, 6),
    (Outcome.TIE, Truth(slope=1, matched=4.0), TEACHES, 6),
    (Outcome.BETTER_FOR_LESS, Truth(slope=10), HALF, 6),
    (Outcome.LOSS, Truth(slope=5), WASTES, 6),
    (Outcome.OVERTRAINED, Truth(slope=0), TEACHES, 6),
    (Outcome.INCONCLUSIVE, Truth(slope=5, noise=8.0), TEACHES, 6),
    (Outcome.TOO_FEW_SEEDS, Truth(slope=5), TEACHES, 3),
    (Outcome.BROKE_DOWN, Truth(slope=5, breaks=True), WASTES, 6),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "truth", "drawn", "seeds"), CASES)
def test_what_is_planted_is_what_is_found(
    kind: Outcome,
    truth: Truth,
    drawn: tuple[float, float],
    seeds: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Trained, stored, read back, judged."""
    monkeypatch.setattr(Planted, "truth", truth, raising=False)
    settings: Settings = {"task": "planted", "device": "cpu", "threads": 1, "epochs": EPOCHS}
    knobs = dict(zip(("useful", "useless"), drawn, strict=True))
    own = range(FIRST_SEED, FIRST_SEED + seeds)
    store = Store(tmp_path / "home")
    study, plan = open_study(store, plan_study({**settings, **knobs}, ["halves"], BUDGET, own))
    for _ in run_study(store, study.study_id, plan, jobs=1):
        pass
    told = study_record(study.study_id, plan, load_completed_runs(store, study.study_id, plan))
    store.close()
    assert told["verdict"] == {"halves": kind.value}
    if kind is Outcome.BROKE_DOWN:
        assert told["diffs"] == []
        return
    taught = {"D100": 1.0, "D-B": BUDGET, "halves": min(1.0, 2 * BUDGET * drawn[0] / sum(drawn))}
    for row in told["diffs"]:
        true = MARGIN * truth.slope * (taught["halves"] - taught[row["against"]])
        scatter = math.hypot(2**0.5 * truth.noise, truth.matched * (row["against"] == "D-B"))
        error = 4 * MARGIN * scatter / seeds**0.5 + 0.02 * MARGIN * truth.slope
        assert row["mean"] == pytest.approx(true, abs=error)
