"""Tasks on tables: one synthetic table with adjustable faults, and four real tables.

The synthetic table is drawn as scikit-learn's ``make_classification`` draws one (Guyon 2003,
*Design of experiments for the NIPS 2003 variable selection benchmark*), except that its
clusters are always the same. Seed, number of rows and faults thus change the sample but not the
problem, and faults do not change the held-out rows. The real tables are bundled with
scikit-learn.

The models are a multilayer perceptron and the ResNet of Gorishniy et al. 2021, *Revisiting Deep
Learning Models for Tabular Data*, section 3.2, without its dropout.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
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
    ModelChoice,
    Task,
    ViewInputs,
)
from effcore.tasks.bundled_tables import load_bundled_table
from effcore.tasks.classification import ACCURACY, BALANCED_ACCURACY, Classification
from effcore.tasks.data_faults import Faults, Indices, class_counts, duplicate_examples, flip_labels
from effcore.tasks.residual_stage import ResidualStage

# Models -----------------------------------------------------------------------------------


#: Factor on the width of a model at each size.
_WIDTH_SCALES = {"small": 0.5, "medium": 1.0, "large": 2.0}


class RowNorm(nn.BatchNorm1d):
    """Batch normalisation that can train on a single row.

    A single row has no variance, so it is normalised by the running statistics.
    """

    def forward(self, rows_BD: torch.Tensor) -> torch.Tensor:
        """Normalise each of D columns over the batch."""
        if self.training and len(rows_BD) == 1:
            return nn.functional.batch_norm(
                rows_BD, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(rows_BD)


class Residual(ResidualStage):
    """A block x + Linear(ReLU(Linear(RowNorm(x)))).

    Args:
        width: Width of input and output.
        hidden: Width between the two linear layers.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        first, last = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.branch = nn.Sequential(RowNorm(width), first, nn.ReLU(inplace=True), last)
        self._last = (last,)

    def branches(self) -> tuple[nn.Module, ...]:
        """Return the branch."""
        return (self.branch,)

    def last_layers(self) -> tuple[nn.Linear, ...]:
        """Return the second linear layer."""
        return self._last


def build_mlp(columns: int, outputs: int, width: int, depth: int, size: str) -> nn.Sequential:
    """Return ``depth`` hidden layers with ReLU and a linear head."""
    scaled = round(width * _WIDTH_SCALES[size])
    widths = [columns, *[scaled] * depth]
    hidden = [
        nn.Sequential(nn.Linear(fan_in, fan_out), nn.ReLU(inplace=True))
        for fan_in, fan_out in zip(widths, widths[1:], strict=False)
    ]
    return nn.Sequential(*hidden, nn.Linear(scaled, outputs))


def build_resnet(columns: int, outputs: int, width: int, blocks: int, size: str) -> nn.Sequential:
    """Return a linear stem, residual blocks twice as wide inside, and a normalised head."""
    scaled = round(width * _WIDTH_SCALES[size])
    head = nn.Sequential(RowNorm(scaled), nn.ReLU(inplace=True), nn.Linear(scaled, outputs))
    body = [Residual(scaled, 2 * scaled) for _ in range(blocks)]
    return nn.Sequential(nn.Linear(columns, scaled), *body, head)


def table_models(
    columns: int, outputs: int, width: int, plain: Defaults, residual: Defaults
) -> tuple[ModelChoice, ...]:
    """Return both models for a table; the residual one has half the width.

    Args:
        columns: Number of columns.
        outputs: Number of outputs.
        width: Width of the plain network's hidden layers, at size ``medium``.
        plain: Default settings of the plain network.
        residual: Default settings of the residual network.
    """
    return (
        ModelChoice(
            "mlp", "Two hidden layers.", partial(build_mlp, columns, outputs, width, 2), plain
        ),
        ModelChoice(
            "resnet",
            "Two residual blocks with batch normalisation.",
            partial(build_resnet, columns, outputs, width // 2, 2),
            residual,
        ),
    )


# Tasks ------------------------------------------------------------------------------------


Numbers = NDArray[np.float64]

#: Largest number of points on the map.
MAP_POINTS = 2000
#: Points beyond these percentiles are clipped to the edge, so that outliers do not shrink the map.
_MAP_EDGE_PERCENTILES = (1, 99)
_MAP_MARGIN = 0.02
#: Initial knob values of confident skip.
_CONFIDENT_SKIP_DEFAULTS = {"mass": 0.3, "revisit": 4}

R2 = Metric("r2", "R²", "", higher_is_better=True, digits=3, margin=0.01)


def r2(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the explained share of the targets' variance, 0-d; below 0 if worse than the mean."""
    error = (outputs.squeeze(-1).float() - targets).square().sum()
    return 1 - error / (targets - targets.mean()).square().sum()


class TableSplit(NamedTuple):
    """Raw data of one split: columns (N, D) and targets (N,)."""

    columns_ND: Numbers
    target_N: NDArray[Any]


class _MapLayout(NamedTuple):
    """Constant part of the map: indices of its training rows, their points and groups."""

    place_M: torch.Tensor
    xy_M2: NDArray[np.float32]
    group_M: NDArray[np.uint8]


class _TableTask(Task):
    """A table with columns standardised by mean and deviation of the training split.

    Args:
        seed: Seed of the split.
        device: Device of the data.
        data: Data settings, for tables that have them.
    """

    augmented = False
    captions = {"map": "The table in two dimensions; rows skipped in this epoch are faded"}
    #: scikit-learn's function that loads the table; numbers of rows in all and held out.
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
        """Return the number of rows not held out."""
        return cls.n_rows - cls.n_validation - cls.n_test

    def _table_splits(self, seed: int, data: Any) -> dict[str, TableSplit]:
        """Return the table's splits, stratified by group."""
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
        """Return the row in its original units, and its target in words."""
        mean_D, spread_D = self._train_moments
        row_D = self._columns["train"][index].double().cpu().numpy() * spread_D + mean_D
        row = dict(zip(self._column_names(), row_D.round(6).tolist(), strict=True))
        return ExampleDisplay(row, self._target_text(index))

    def _column_names(self) -> list[str]:
        from sklearn import datasets

        return [str(name) for name in getattr(datasets, self.loader)()["feature_names"]]

    @abstractmethod
    def _target_text(self, index: int) -> str:
        """Return the target of a training row, in words."""

    @abstractmethod
    def _group_indices(self, target_N: NDArray[Any]) -> Indices:
        """Return the index in ``groups`` of each row's group."""

    @abstractmethod
    def _target_tensors(self, parts: Mapping[str, TableSplit]) -> dict[str, torch.Tensor]:
        """Return each split's targets as the loss expects them."""

    def batch(
        self, idx_B: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return rows (B, D) and targets (B,); nothing is augmented."""
        return self._columns["train"][idx_B], self._label["train"][idx_B]

    def held_out_inputs(self, split: str) -> torch.Tensor:
        """Return the rows of a split, shape (N, D)."""
        return self._columns[split]

    def view(self, inputs: ViewInputs) -> dict[str, ViewItem]:
        """Return the training rows as points, with those skipped in this epoch marked."""
        place_M, xy_M2, group_M = self._map_layout
        last_M = torch.isin(place_M, inputs.batch_B)
        state_M = inputs.drawn_N[place_M].to(torch.uint8).masked_fill(last_M, 2)
        return {"map": Scatter(xy_M2, group_M, state_M.cpu().numpy(), self.groups)}

    @cached_property
    def _map_layout(self) -> _MapLayout:
        """Return the map of an even choice of training rows; computed when first viewed."""
        by_group_N = np.argsort(self._train_group_N, kind="stable")
        even = np.linspace(0, self.n_train - 1, min(self.n_train, MAP_POINTS)).round()
        row = np.sort(by_group_N[even.astype(np.int64)])
        chosen = torch.from_numpy(row).to(self._label["train"].device)
        columns = self._columns["train"][chosen].double().cpu().numpy()
        target = self._label["train"][chosen].cpu().numpy()
        if self.loss_kind == "cross_entropy":
            target = np.eye(len(self.groups))[target]
        xy = _fit_unit_square(_pls_projection(columns, target.reshape(len(row), -1)))
        return _MapLayout(chosen, xy.astype(np.float32), self._train_group_N[row].astype(np.uint8))


class _TableClassification(_TableTask, Classification):
    """A table whose rows each belong to a class."""

    def _group_indices(self, target_N: NDArray[Any]) -> Indices:
        return target_N.astype(np.int64)

    def _target_text(self, index: int) -> str:
        return self.class_name_of(index)

    def _target_tensors(self, parts: Mapping[str, TableSplit]) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(part.target_N).long() for name, part in parts.items()}


@dataclass(frozen=True)
class SyntheticTableSettings(Faults):
    """Settings of the synthetic table."""

    rows: int = knob(
        32_000, lo=500, hi=100_000, step=500, label="Rows", help="Number of training rows."
    )


@TASKS.add
class Tabular(_TableClassification):
    """Classify rows of a synthetic table: four classes, each of three clusters."""

    id = "tabular"
    title = "Synthetic table"
    summary = (
        "A network classifies rows of a synthetic table; you choose its label noise and imbalance."
    )
    rank = 4
    metric = BALANCED_ACCURACY
    settings = SyntheticTableSettings
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
    def count_examples(cls, data: SyntheticTableSettings) -> int:
        """Return the configured number of rows."""
        return data.rows

    def _table_splits(
        self, seed: int, data: SyntheticTableSettings | None
    ) -> dict[str, TableSplit]:
        """Draw each split from its own generator, so that faults change only training rows."""
        faults, n_classes = data or self.settings(), len(self.groups)
        rng, *held_out_rngs = (np.random.default_rng([seed, stream]) for stream in range(3))
        sizes = {"validation": self.n_validation, "test": self.n_test}
        parts = {}
        for (name, n), split_rng in zip(sizes.items(), held_out_rngs, strict=True):
            label = np.arange(n) % n_classes
            parts[name] = TableSplit(_draw_rows(label, n_classes, split_rng), label)
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
    """Classify cell nuclei as malignant or benign (W. Street et al. 1993)."""

    id = "tabular-cancer"
    title = "Table: breast cancer"
    summary = "A network classifies measured cell nuclei of 569 images as malignant or benign."
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
    """Classify three cultivars by a chemical analysis of their wine (M. Forina et al. 1988)."""

    id = "tabular-wine"
    title = "Table: wine"
    summary = "A network classifies 178 wines by cultivar, one of three, from chemical analyses."
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
    """Classify ten digits by their pixels, taken as unordered columns."""

    id = "tabular-digits"
    title = "Table: digits"
    summary = "A network classifies 1,797 digits from 64 pixels, without knowing their positions."
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
    summary = "A network predicts how diabetes progresses in 442 patients from ten measurements."
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
        """Return a model of the mean training target."""
        return ConstantModel(self._label["train"].mean()[None])


# The synthetic table ---------------------------------------------------------------------

_N_CLUSTERS, _INFORMATIVE_COLUMNS, _MIXED_COLUMNS, _NOISE_COLUMNS = 3, 12, 4, 8
#: Half the distance between neighbouring centres; a cluster's standard deviation is about 2.
_HALF_CENTRE_DISTANCE = 0.95


def _draw_rows(label_N: Indices, n_classes: int, rng: np.random.Generator) -> Numbers:
    """Draw a row for each label: informative columns, mixtures of them, and noise."""
    shared_rng = np.random.default_rng(0)
    corners = shared_rng.permutation(2**_INFORMATIVE_COLUMNS)[: n_classes * _N_CLUSTERS]
    cluster_N = label_N + n_classes * rng.integers(_N_CLUSTERS, size=len(label_N))
    rows = rng.standard_normal((len(label_N), _INFORMATIVE_COLUMNS))
    for cluster, corner in enumerate(corners):
        own = cluster_N == cluster
        shape = shared_rng.uniform(-1, 1, (_INFORMATIVE_COLUMNS, _INFORMATIVE_COLUMNS))
        centre = (2.0 * (corner >> np.arange(_INFORMATIVE_COLUMNS) & 1) - 1) * _HALF_CENTRE_DISTANCE
        rows[own] = rows[own] @ shape + centre
    mixed = rows @ shared_rng.uniform(-1, 1, (_INFORMATIVE_COLUMNS, _MIXED_COLUMNS))
    return np.hstack([rows, mixed, rng.standard_normal((len(label_N), _NOISE_COLUMNS))])


# Standardisation and the map -------------------------------------------------------------


def _standardise(values: NDArray[Any], train: NDArray[Any]) -> torch.Tensor:
    """Return values in standard deviations from the training split's mean, float64."""
    mean, spread = _column_moments(train)
    return torch.from_numpy((values - mean) / spread)


def _column_moments(values: NDArray[Any]) -> tuple[Any, Any]:
    """Return mean and standard deviation of each column; 1 for a constant column."""
    spread = values.std(0)
    return values.mean(0), np.where(spread > 0, spread, 1)


def _pls_projection(columns_MD: Numbers, target_MK: Numbers) -> Numbers:
    """Return the first two components of partial least squares, shape (M, 2).

    They separate classes better than principal components do. scikit-learn's
    ``PLSRegression`` computes the same, but its import takes a second, during a run.
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
    """Return points scaled into the unit square, with a small margin."""
    low_2, high_2 = np.percentile(points_M2, _MAP_EDGE_PERCENTILES, axis=0)
    share_M2 = (np.clip(points_M2, low_2, high_2) - low_2) / (high_2 - low_2)
    scaled: Numbers = _MAP_MARGIN + (1 - 2 * _MAP_MARGIN) * share_M2
    return scaled
