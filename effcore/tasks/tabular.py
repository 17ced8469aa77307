"""Tables of numbers: one made up, to be spoilt at will, and four real ones.

The made-up table is drawn as scikit-learn's ``make_classification`` draws one (Guyon 2003,
*Design of experiments for the NIPS 2003 variable selection benchmark*), except that its
clusters are always the same ones. A seed, a number of rows or a fault thus changes the
sample and never the problem, and what is held out stays as it was. The real tables come
with scikit-learn.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from effcore.knobs import knob
from effcore.records.views import ExampleDisplay, Scatter, ViewItem
from effcore.tasks.base import (
    TASKS,
    ConstantModel,
    Defaults,
    Evaluation,
    Metric,
    Task,
    ViewInputs,
)
from effcore.tasks.bundled_tables import load_bundled_table
from effcore.tasks.classification import ACCURACY, BALANCED_ACCURACY, Classification
from effcore.tasks.data_faults import Faults, Indices, class_counts, duplicate_examples, flip_labels
from effcore.tasks.tabular_models import table_models

Numbers = NDArray[np.float64]

#: Points on the map, at most.
MAP_POINTS = 2000
#: What lies beyond these percentiles is put on the map's edge, lest it squash the rest.
_MAP_EDGE_PERCENTILES = (1, 99)
_MAP_MARGIN = 0.02
#: How much confident skip leaves out.
_CONFIDENT_SKIP_DEFAULTS = {"mass": 0.3, "revisit": 4}

R2 = Metric("r2", "R²", "", higher_is_better=True, digits=3, margin=0.01)


def r2(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the share of the targets' variance that is explained, 0-d; below 0 if misled."""
    missed = (outputs.squeeze(-1).float() - targets).square().sum()
    return 1 - missed / (targets - targets.mean()).square().sum()


class TableSplit(NamedTuple):
    """One split as it was found or made: columns of shape (N, D) and N targets."""

    columns_ND: Numbers
    target_N: NDArray[Any]


class _MapLayout(NamedTuple):
    """What of the map stays the same for a run: which training rows, where, and what they are."""

    place_M: torch.Tensor
    xy_M2: NDArray[np.float32]
    group_M: NDArray[np.uint8]


class _TableTask(Task):
    """A table, its columns standardised by what the training part says about them.

    Args:
        seed: Seed of the split.
        device: Where the data lives for the whole run.
        data: How the data is made, where that may vary.
    """

    augmented = False
    captions = {"map": "The table in two dimensions; what this pass skips fades"}
    #: scikit-learn's function that reads the table, and what is split off its rows.
    loader: ClassVar[str]
    n_rows: ClassVar[int]
    n_validation: ClassVar[int]
    n_test: ClassVar[int]

    def __init__(self, seed: int, device: torch.device, data: Any = None) -> None:
        parts = self._table_splits(seed, data)
        train = parts["train"]
        self.n_train = len(train.columns_ND)
        self._train_group_N = self._group_indices(train.target_N)
        self._train_target_N, self._train_moments = (
            train.target_N,
            _column_moments(train.columns_ND),
        )
        targets = self._target_tensors(parts)
        self._columns = {
            name: _standardise(part.columns_ND, train.columns_ND).float().to(device)
            for name, part in parts.items()
        }
        self._label = {name: target.to(device) for name, target in targets.items()}

    @classmethod
    def count_examples(cls, data: Any) -> int:
        """Return all rows that are not held out."""
        return cls.n_rows - cls.n_validation - cls.n_test

    def _table_splits(self, seed: int, data: Any) -> dict[str, TableSplit]:
        """Return the table's splits; every one has all groups in proportion."""
        from sklearn.model_selection import train_test_split  # slow to import

        columns, target = load_bundled_table(self.loader)
        group, rows = self._group_indices(target), np.arange(len(target))
        train, rest = train_test_split(
            rows, test_size=self.n_validation + self.n_test, random_state=seed, stratify=group
        )
        validation, test = train_test_split(
            rest, test_size=self.n_test, random_state=seed, stratify=group[rest]
        )
        split = {"train": train, "validation": validation, "test": test}
        return {name: TableSplit(columns[own], target[own]) for name, own in split.items()}

    def display_example(self, index: int) -> ExampleDisplay:
        """Return the row in its own units, and what is to be told of it."""
        mean_D, spread_D = self._train_moments
        row_D = self._columns["train"][index].double().cpu().numpy() * spread_D + mean_D
        row = dict(zip(self._column_names(), row_D.round(6).tolist(), strict=True))
        return ExampleDisplay(row, self._target_text(index))

    def _column_names(self) -> list[str]:
        """Return what the columns are called."""
        from sklearn import datasets

        return [str(name) for name in getattr(datasets, self.loader)()["feature_names"]]

    @abstractmethod
    def _target_text(self, index: int) -> str:
        """Return what is to be told of a training row, in words."""

    @abstractmethod
    def _group_indices(self, target_N: NDArray[Any]) -> Indices:
        """Return which of ``groups`` each row belongs to."""

    @abstractmethod
    def _target_tensors(self, parts: Mapping[str, TableSplit]) -> dict[str, torch.Tensor]:
        """Return each split's targets as the loss takes them."""

    def batch(
        self, idx_B: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return rows (B, D) and targets (B,); nothing is augmented."""
        return self._columns["train"][idx_B], self._label["train"][idx_B]

    def held_out_inputs(self, split: str) -> torch.Tensor:
        """Return the rows of a split, shape (N, D)."""
        return self._columns[split]

    def view(self, inputs: ViewInputs) -> dict[str, ViewItem]:
        """Return the training rows as points, those skipped in this pass marked so."""
        place_M, xy_M2, group_M = self._map_layout
        last_M = torch.isin(place_M, inputs.batch_B)
        state_M = inputs.drawn_N[place_M].to(torch.uint8).masked_fill(last_M, 2)
        return {"map": Scatter(xy_M2, group_M, state_M.cpu().numpy(), self.groups)}

    @cached_property
    def _map_layout(self) -> _MapLayout:
        """Lay out an even choice of training rows; only a run that is looked at needs it."""
        by_group_N = np.argsort(self._train_group_N, kind="stable")
        even = np.linspace(0, self.n_train - 1, min(self.n_train, MAP_POINTS)).round()
        place = np.sort(by_group_N[even.astype(np.int64)])
        chosen = torch.from_numpy(place).to(self._label["train"].device)
        columns = self._columns["train"][chosen].double().cpu().numpy()
        target = self._label["train"][chosen].cpu().numpy()
        if self.loss_kind == "cross_entropy":
            target = np.eye(len(self.groups))[target]
        xy = _fit_unit_square(_pls_projection(columns, target.reshape(len(place), -1)))
        return _MapLayout(
            chosen, xy.astype(np.float32), self._train_group_N[place].astype(np.uint8)
        )


class _TableClassification(_TableTask, Classification):
    """A table whose rows are of one class or another."""

    def _group_indices(self, target_N: NDArray[Any]) -> Indices:
        return target_N.astype(np.int64)

    def _target_text(self, index: int) -> str:
        return self.class_name_of(index)

    def _target_tensors(self, parts: Mapping[str, TableSplit]) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(part.target_N).long() for name, part in parts.items()}


@dataclass(frozen=True)
class MadeTableSettings(Faults):
    """How the made-up table is made."""

    rows: int = knob(
        32_000, lo=500, hi=100_000, step=500, label="Rows", help="Number of training rows."
    )


@TASKS.add
class Tabular(_TableClassification):
    """Tell four classes apart, each of three clusters, in a table that may be spoilt."""

    id = "tabular"
    title = "Table, made up"
    summary = "Four classes of three clusters each, in a made-up table whose faults you choose."
    rank = 4
    metric = BALANCED_ACCURACY
    settings = MadeTableSettings
    n_validation, n_test = 8000, 8000
    groups = ("class 1", "class 2", "class 3", "class 4")
    models = table_models(
        24,
        4,
        128,
        Defaults(20, 16, 1.2e-2, _CONFIDENT_SKIP_DEFAULTS),
        Defaults(20, 32, 8e-3, _CONFIDENT_SKIP_DEFAULTS),
    )
    source_N: Indices
    mislabelled_N: NDArray[np.bool_]

    @classmethod
    def count_examples(cls, data: MadeTableSettings) -> int:
        """Return the number of rows asked for."""
        return data.rows

    def _table_splits(self, seed: int, data: MadeTableSettings | None) -> dict[str, TableSplit]:
        """Draw the splits; from a generator for each, so that faults move nothing else."""
        faults, n_classes = data or self.settings(), len(self.groups)
        rng, *others = (np.random.default_rng([seed, place]) for place in range(3))
        sizes = {"validation": self.n_validation, "test": self.n_test}
        parts = {}
        for (name, n), own in zip(sizes.items(), others, strict=True):
            label = np.arange(n) % n_classes
            parts[name] = TableSplit(_draw_rows(label, n_classes, own), label)
        counts = class_counts(faults.rows, n_classes, faults.imbalance)
        label = rng.permutation(np.repeat(np.arange(n_classes), counts))
        columns = _draw_rows(label, n_classes, rng)
        self.source_N = duplicate_examples(label, faults.redundancy, rng)
        given, self.mislabelled_N = flip_labels(
            label[self.source_N], faults.label_noise, n_classes, rng
        )
        return parts | {"train": TableSplit(columns[self.source_N], given)}

    def _column_names(self) -> list[str]:
        return [f"x{column + 1}" for column in range(self._columns["train"].shape[1])]


@TASKS.add
class Cancer(_TableClassification):
    """Tell malignant from benign cell nuclei (W. Street et al. 1993)."""

    id = "tabular-cancer"
    title = "Table: breast cancer"
    summary = "Cell nuclei in 569 images, measured; a network tells malignant from benign."
    rank = 5
    metric = BALANCED_ACCURACY
    loader = "load_breast_cancer"
    n_rows, n_validation, n_test = 569, 85, 142
    groups = ("malignant", "benign")
    models = table_models(
        30,
        2,
        32,
        Defaults(20, 32, 2e-3, _CONFIDENT_SKIP_DEFAULTS),
        Defaults(20, 32, 2e-3, _CONFIDENT_SKIP_DEFAULTS),
    )


@TASKS.add
class Wine(_TableClassification):
    """Tell three cultivars by an analysis of their wine (M. Forina et al. 1988)."""

    id = "tabular-wine"
    title = "Table: wine"
    summary = "Chemical analyses of 178 wines; a network tells the three cultivars apart."
    rank = 6
    metric = ACCURACY
    loader = "load_wine"
    n_rows, n_validation, n_test = 178, 27, 45
    groups = ("cultivar 1", "cultivar 2", "cultivar 3")
    models = table_models(
        13,
        3,
        32,
        Defaults(20, 16, 2e-3, _CONFIDENT_SKIP_DEFAULTS),
        Defaults(20, 16, 3e-3, _CONFIDENT_SKIP_DEFAULTS),
    )


@TASKS.add
class DigitsTable(_TableClassification):
    """Tell ten digits apart by their pixels, as if these were any columns."""

    id = "tabular-digits"
    title = "Table: digits"
    summary = "The 64 pixels of 1,797 small digits as columns; nothing is known of their places."
    rank = 7
    metric = ACCURACY
    loader = "load_digits"
    n_rows, n_validation, n_test = 1797, 180, 360
    groups = tuple("0123456789")
    models = table_models(
        64,
        10,
        64,
        Defaults(13, 16, 2e-3, _CONFIDENT_SKIP_DEFAULTS),
        Defaults(13, 16, 2e-3, _CONFIDENT_SKIP_DEFAULTS),
    )


@TASKS.add
class Diabetes(_TableTask):
    """Predict how far diabetes progresses in a year (B. Efron et al. 2004)."""

    id = "tabular-diabetes"
    title = "Table: diabetes"
    summary = "Ten measurements of 442 patients; a network predicts how their illness progresses."
    rank = 8
    metric = R2
    loss_kind = "squared_error"
    loss_label = "Squared error"
    loader = "load_diabetes"
    n_rows, n_validation, n_test = 442, 66, 110
    groups = ("lowest fifth", "second fifth", "middle fifth", "fourth fifth", "highest fifth")
    models = table_models(
        10,
        1,
        32,
        Defaults(20, 32, 2e-3, _CONFIDENT_SKIP_DEFAULTS),
        Defaults(13, 32, 2e-3, _CONFIDENT_SKIP_DEFAULTS),
    )

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return each row's squared error, in variances of the training targets."""
        return (outputs.squeeze(-1).float() - targets).square()

    def evaluate(self, model: nn.Module, split: str) -> Evaluation:
        """Return the mean squared error and R² over a split."""
        outputs, target_N = model(self.held_out_inputs(split)), self._label[split]
        return Evaluation(self.losses(outputs, target_N).mean(), r2(outputs, target_N))

    def _target_text(self, index: int) -> str:
        return f"{self._train_target_N[index]:g}"

    def _group_indices(self, target_N: NDArray[Any]) -> Indices:
        edges = np.quantile(target_N, np.arange(1, 5) / 5)
        return np.searchsorted(edges, target_N, side="right").astype(np.int64)

    def _target_tensors(self, parts: Mapping[str, TableSplit]) -> dict[str, torch.Tensor]:
        train = parts["train"].target_N
        return {name: _standardise(p.target_N, train).float() for name, p in parts.items()}

    def trivial_model(self) -> nn.Module:
        """Return the mean of the training targets, whatever the row."""
        return ConstantModel(self._label["train"].mean()[None])


# The made-up table -----------------------------------------------------------------------

_N_CLUSTERS, _INFORMATIVE_COLUMNS, _MIXED_COLUMNS, _NOISE_COLUMNS = 3, 12, 4, 8
#: Half the distance between neighbouring centres; a cluster's own spread is about 2.
_HALF_CENTRE_DISTANCE = 0.95


def _draw_rows(label_N: Indices, n_classes: int, rng: np.random.Generator) -> Numbers:
    """Draw a row for each label: columns that tell the class, mixtures of them, and noise."""
    fixed = np.random.default_rng(0)
    corners = fixed.permutation(2**_INFORMATIVE_COLUMNS)[: n_classes * _N_CLUSTERS]
    cluster_N = label_N + n_classes * rng.integers(_N_CLUSTERS, size=len(label_N))
    rows = rng.standard_normal((len(label_N), _INFORMATIVE_COLUMNS))
    for cluster, corner in enumerate(corners):
        own = cluster_N == cluster
        shape = fixed.uniform(-1, 1, (_INFORMATIVE_COLUMNS, _INFORMATIVE_COLUMNS))
        centre = (2.0 * (corner >> np.arange(_INFORMATIVE_COLUMNS) & 1) - 1) * _HALF_CENTRE_DISTANCE
        rows[own] = rows[own] @ shape + centre
    mixed = rows @ fixed.uniform(-1, 1, (_INFORMATIVE_COLUMNS, _MIXED_COLUMNS))
    return np.hstack([rows, mixed, rng.standard_normal((len(label_N), _NOISE_COLUMNS))])


# Where things lie ------------------------------------------------------------------------


def _standardise(values: NDArray[Any], train: NDArray[Any]) -> torch.Tensor:
    """Return values in standard deviations from the training part's mean, float64."""
    mean, spread = _column_moments(train)
    return torch.from_numpy((values - mean) / spread)


def _column_moments(values: NDArray[Any]) -> tuple[Any, Any]:
    """Return mean and standard deviation of each column; of one that is constant, 1."""
    spread = values.std(0)
    return values.mean(0), np.where(spread > 0, spread, 1)


def _pls_projection(columns_MD: Numbers, target_MK: Numbers) -> Numbers:
    """Return the first two components of partial least squares, shape (M, 2).

    They separate classes better than principal components do. scikit-learn's
    ``PLSRegression`` finds the same ones, but takes a second to import, in the middle of
    a run.
    """
    rest_MD = columns_MD - columns_MD.mean(0)
    goal_MK = target_MK - target_MK.mean(0)
    scores = []
    for _ in range(2):
        weights_D = np.linalg.svd(rest_MD.T @ goal_MK)[0][:, 0]
        score_M = rest_MD @ weights_D
        scores.append(score_M)
        rest_MD = rest_MD - np.outer(score_M, score_M @ rest_MD / (score_M @ score_M))
    return np.stack(scores, axis=1)


def _fit_unit_square(points_M2: Numbers) -> Numbers:
    """Return points moved into the unit square, a small margin left around them."""
    low_2, high_2 = np.percentile(points_M2, _MAP_EDGE_PERCENTILES, axis=0)
    share_M2 = (np.clip(points_M2, low_2, high_2) - low_2) / (high_2 - low_2)
    moved: Numbers = _MAP_MARGIN + (1 - 2 * _MAP_MARGIN) * share_M2
    return moved
