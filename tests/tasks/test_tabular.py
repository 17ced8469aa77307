from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, cast

import numpy as np
import pytest
import torch
from sklearn.cross_decomposition import PLSRegression
from sklearn.metrics import r2_score
from torch import nn

from effcore.knobs import knob, knobs_of
from effcore.records.views import Scatter
from effcore.tasks.base import Task, ViewInputs
from effcore.tasks.classification import balanced_accuracy
from effcore.tasks.data_faults import class_counts
from effcore.tasks.tabular import (
    MAP_POINTS,
    Cancer,
    Diabetes,
    DigitsTable,
    RowNorm,
    SyntheticTableSettings,
    Tabular,
    Wine,
    _pls_projection,
)
from effcore.testing import check_task

CPU = torch.device("cpu")
REAL = [Cancer, Wine, DigitsTable, Diabetes]


@dataclass(frozen=True)
class FewRows(SyntheticTableSettings):
    """Contracts look at every row many times over."""

    rows: int = knob(500, lo=500, hi=100_000, step=500, label="Rows", help="Number of rows.")


class SmallTable(Tabular):
    settings = FewRows


class Answers(nn.Module):
    """Answers what it was given to answer, whatever it is asked."""

    def __init__(self, outputs: torch.Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, rows_ND: torch.Tensor) -> torch.Tensor:
        return self.outputs


def table(seed: int = 0, **settings: Any) -> Tabular:
    return Tabular(seed, CPU, SyntheticTableSettings(**{"rows": 500, **settings}))


def train_part(task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    return task.batch(torch.arange(task.n_train), torch.Generator())


def held_out(task: Task, split: str) -> torch.Tensor:
    """The rows that evaluating on a split feeds to the model."""
    seen: list[torch.Tensor] = []
    model = task.build_model("mlp", 0, CPU)
    model.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    task.evaluate(model, split)
    return seen[0]


def shown(task: Task, drawn: torch.Tensor, batch: torch.Tensor) -> Scatter:
    unknown = torch.zeros(task.n_train)
    item = task.view(ViewInputs(batch, drawn, unknown, unknown, nn.Identity()))["map"]
    assert isinstance(item, Scatter)
    return item


# The contract ----------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [SmallTable, *REAL], ids=lambda cls: cls.__name__)
def test_contract(cls: type[Task]) -> None:
    check_task(cls)


@pytest.mark.parametrize("rows", [500, 16_000, 100_000])
def test_the_table_made_up_has_as_many_rows_as_asked_for(rows: int) -> None:
    data = SyntheticTableSettings(rows=rows)
    assert Tabular.count_examples(data) == rows
    assert {field.name for field in fields(data)} == {spec.name for spec in knobs_of(data)}
    if rows < 100_000:
        assert Tabular(0, CPU, data).n_train == rows


# Faults ----------------------------------------------------------------------------------


def test_label_noise_makes_exactly_its_share_of_labels_wrong() -> None:
    clean, noisy = table(), table(label_noise=0.3)
    assert torch.equal(train_part(clean)[0], train_part(noisy)[0])
    wrong = (train_part(clean)[1] != train_part(noisy)[1]).numpy()
    assert wrong.sum() == 150
    np.testing.assert_array_equal(wrong, noisy.mislabelled_N)
    assert not clean.mislabelled_N.any()


def test_redundancy_copies_exactly_its_share_of_rows_with_their_true_labels() -> None:
    task = table(redundancy=0.8, label_noise=0.1)
    columns, label = (part.numpy() for part in train_part(task))
    assert len(np.unique(columns, axis=0)) == 100
    np.testing.assert_array_equal(columns, columns[task.source_N])
    right = ~task.mislabelled_N & ~task.mislabelled_N[task.source_N]
    np.testing.assert_array_equal(label[right], label[task.source_N][right])
    assert (task.source_N != np.arange(500)).sum() == 400


@pytest.mark.parametrize("redundancy", [0.0, 0.9])
@pytest.mark.parametrize("imbalance", [1.0, 10.0, 100.0])
def test_classes_are_as_rare_as_asked_for(imbalance: float, redundancy: float) -> None:
    label = train_part(table(imbalance=imbalance, redundancy=redundancy))[1]
    assert label.bincount().tolist() == class_counts(500, 4, imbalance).tolist()


def test_what_is_held_out_stays_clean_balanced_and_the_same() -> None:
    spoilt: dict[str, Any] = {"label_noise": 0.5, "redundancy": 0.9, "imbalance": 100.0}
    for split, each in (("validation", 2000), ("test", 2000)):
        parts = [
            table(3, **own)._table_splits(3, SyntheticTableSettings(**own))[split]
            for own in ({}, spoilt)
        ]
        for part in parts:
            assert np.bincount(part.target_N).tolist() == [each] * 4
        np.testing.assert_array_equal(parts[0].columns_ND, parts[1].columns_ND)
        np.testing.assert_array_equal(parts[0].target_N, parts[1].target_N)


def test_every_seed_draws_from_the_same_clusters() -> None:
    centres = []
    for seed in (0, 1):
        part = table(seed)._table_splits(seed, SyntheticTableSettings(rows=500))["test"]
        own = [part.columns_ND[part.target_N == k].mean(0) for k in range(4)]
        centres.append(np.stack(own))
    # 2,000 rows a class, whose mean deviates by a few hundredths of their spread.
    np.testing.assert_allclose(centres[0], centres[1], atol=0.5)
    assert np.ptp(centres[0], axis=0).max() > 1


# Numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [SmallTable, *REAL], ids=lambda cls: cls.__name__)
def test_columns_are_standardised_by_the_training_rows_alone(cls: type[Task]) -> None:
    task = cls(0, CPU)
    columns = train_part(task)[0].double()
    varied = columns.std(0) > 0
    torch.testing.assert_close(
        columns.mean(0), torch.zeros(len(varied)).double(), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        columns[:, varied].std(0, correction=0), torch.ones(int(varied.sum())).double()
    )
    for split in ("validation", "test"):
        assert held_out(task, split).mean(0).abs().max() > 1e-3


def test_training_targets_of_a_regression_are_standardised() -> None:
    target = train_part(Diabetes(0, CPU))[1]
    assert float(target.mean()) == pytest.approx(0, abs=1e-6)
    assert float(target.std(correction=0)) == pytest.approx(1, abs=1e-6)


def test_r2_is_1_for_what_is_perfect_and_not_above_0_for_the_mean() -> None:
    task = Diabetes(0, CPU)
    target = task._label["test"]
    perfect = task.evaluate(Answers(target[:, None]), "test")
    assert (float(perfect.loss), float(perfect.metric)) == (0, 1)
    trivial = task.evaluate(task.trivial_model(), "test")
    assert -0.1 < float(trivial.metric) <= 0
    guess = target[:, None] * 0.5 + 0.1
    found = task.evaluate(Answers(guess), "test").metric
    assert float(found) == pytest.approx(r2_score(target.numpy(), guess[:, 0].numpy()), abs=1e-6)


def test_balanced_accuracy_is_the_mean_recall() -> None:
    task = Cancer(0, CPU)
    benign = torch.tensor([[0.0, 1.0]]).expand(len(task._label["test"]), 2)
    found = task.evaluate(Answers(benign), "test")
    assert float(found.metric) == 0.5  # although most are benign
    target = torch.tensor([0] * 7 + [1] * 2 + [3])
    guess = torch.tensor([0, 0, 0, 1, 1, 2, 3, 1, 0, 3])
    outputs = nn.functional.one_hot(guess, 4).float()
    recalls = [3 / 7, 1 / 2, 1 / 1]  # nothing is of class 2
    assert float(balanced_accuracy(outputs, target)) == pytest.approx(sum(recalls) / 3)


# Models ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [SmallTable, Diabetes], ids=lambda cls: cls.__name__)
def test_a_batch_of_one_row_trains(cls: type[Task]) -> None:
    task = cls(0, CPU)
    model = task.build_model("resnet", 0, CPU).train()
    for batch in (torch.arange(8), torch.tensor([9])):
        inputs, targets = task.batch(batch, torch.Generator())
        losses_B = task.losses(model(inputs), targets)
        torch.autograd.backward(losses_B.mean())
        assert losses_B.shape == (len(batch),)
        assert losses_B.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_one_row_is_normalised_by_what_was_seen_before() -> None:
    norm = RowNorm(3).train()
    rows = torch.randn(16, 3) * 4 + 2
    torch.testing.assert_close(norm(rows), nn.BatchNorm1d(3).train()(rows))
    alone = norm(rows[:1])
    seen = cast(torch.Tensor, norm.running_mean).clone()
    torch.testing.assert_close(alone, norm.eval()(rows[:1]))
    torch.testing.assert_close(norm.running_mean, seen)


# The map ---------------------------------------------------------------------------------


def test_the_map_fades_exactly_what_is_skipped_and_keeps_its_arrays() -> None:
    task = Wine(0, CPU)
    drawn = torch.arange(task.n_train) % 3 > 0
    batch = torch.tensor([1, 4, 7])
    first = shown(task, drawn, batch)
    wanted = drawn.numpy().astype(np.uint8)
    wanted[batch] = 2
    np.testing.assert_array_equal(first.state_N, wanted)  # it is small: every row is shown
    second = shown(task, ~drawn, batch - 1)
    assert second.xy_N2 is first.xy_N2
    assert second.group_N is first.group_N
    assert second.state_N is not first.state_N
    np.testing.assert_array_equal(first.state_N, wanted)
    np.testing.assert_array_equal(first.group_N, train_part(task)[1].numpy())


def test_a_large_table_shows_an_even_choice_with_every_class_in_it() -> None:
    task = table(rows=6000, imbalance=100.0)
    found = shown(task, torch.ones(6000, dtype=torch.bool), torch.arange(4))
    assert len(found.xy_N2) == MAP_POINTS
    shares = np.bincount(found.group_N) / MAP_POINTS
    np.testing.assert_allclose(shares, class_counts(6000, 4, 100.0) / 6000, atol=1e-3)
    again = shown(table(rows=6000, imbalance=100.0), torch.ones(6000) > 0, torch.arange(4))
    np.testing.assert_array_equal(found.xy_N2, again.xy_N2)


def test_the_map_of_a_regression_shows_fifths_of_the_target() -> None:
    task = Diabetes(0, CPU)
    found = shown(task, torch.ones(task.n_train, dtype=torch.bool), torch.arange(4))
    target = train_part(task)[1].numpy()
    assert len(found.groups) == 5
    np.testing.assert_allclose(np.bincount(found.group_N), task.n_train / 5, atol=3)
    highest = [target[found.group_N == band].max() for band in range(5)]
    assert highest == sorted(highest)


@pytest.mark.parametrize("cls", REAL, ids=lambda cls: cls.__name__)
def test_the_plane_is_that_of_partial_least_squares(cls: type[Task]) -> None:
    task = cls(0, CPU)
    columns, target = (part.double().numpy() for part in train_part(task))
    if task.loss_kind == "cross_entropy":
        target = np.eye(len(cast(Any, task).groups))[target.astype(int)]
    target = target.reshape(len(columns), -1)
    ours = _pls_projection(columns, target)
    known = PLSRegression(2, scale=False, max_iter=10_000, tol=1e-12).fit(columns, target)
    for mine, theirs in zip(ours.T, known.x_scores_.T, strict=True):
        assert abs(np.corrcoef(mine, theirs)[0, 1]) == pytest.approx(1, abs=1e-6)
