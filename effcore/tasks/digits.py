"""Task: classify the small handwritten digits of scikit-learn.

1,797 images of 8x8 pixels (E. Alpaydin and C. Kaynak, *Optical Recognition of
Handwritten Digits*, UCI 1998), scaled to twice the size and, in training, shifted at random
by up to one original pixel.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from effcore.records.views import ExampleDisplay, Picture, ViewItem
from effcore.tasks.base import TASKS, Defaults, ModelChoice, ViewInputs
from effcore.tasks.bundled_tables import load_bundled_table
from effcore.tasks.classification import Classification
from effcore.tasks.data_faults import (
    Faults,
    Indices,
    class_shares,
    duplicate_examples,
    flip_labels,
    pick_per_class,
)

SIDE = 16
N_CLASSES = 10
N_IMAGES = 1797
N_VALIDATION, N_TEST = 180, 360
_SHIFT = 3
#: Training images of every digit that exist in each split.
_IMAGES_PER_DIGIT = 120
#: Images in a row of a sheet; rows of the last step's sheet, which the default batch fills; rows
#: of the skipped images' sheet.
_SHEET_COLUMNS, _TRAINED_ROWS, _SKIPPED_ROWS = 8, 2, 4


class Spread(nn.Module):
    """Resizes the feature maps of a smaller image to those of a full one.

    Args:
        side: Side of the resized maps.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, maps_BCHW: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to (B, C, side, side); maps of that size pass unchanged."""
        if maps_BCHW.shape[-1] == self.side:
            return maps_BCHW
        return nn.functional.adaptive_avg_pool2d(maps_BCHW, self.side)


def _build_cnn(size: str) -> nn.Sequential:
    narrow, wide, hidden = {
        "small": (16, 32, 64),
        "medium": (40, 80, 128),
        "large": (64, 128, 256),
    }[size]
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, narrow, 3, padding=1), nn.ReLU(inplace=True)),
        nn.Sequential(
            nn.Conv2d(narrow, wide, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        ),
        nn.Sequential(nn.Conv2d(wide, wide, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        nn.Sequential(
            Spread(SIDE // 4),
            nn.Flatten(),
            nn.Linear(wide * (SIDE // 4) ** 2, hidden),
            nn.ReLU(inplace=True),
        ),
        nn.Linear(hidden, N_CLASSES),
    )


def _build_mlp(size: str) -> nn.Sequential:
    width = {"small": 64, "medium": 256, "large": 512}[size]
    return nn.Sequential(
        nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, width), nn.ReLU(inplace=True)),
        nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True)),
        nn.Linear(width, N_CLASSES),
    )


@TASKS.add
class Digits(Classification):
    """Classify ten handwritten digits."""

    id = "digits"
    title = "Digits"
    summary = "A small network classifies handwritten digits from scikit-learn."
    rank = 1
    groups = tuple("0123456789")
    models = (
        ModelChoice(
            "cnn",
            "Three convolutions and two linear layers.",
            _build_cnn,
            Defaults(
                epochs=38, batch_size=16, learning_rate=1.4e-3, knobs={"mass": 0.35, "revisit": 2}
            ),
            reducible="resolution",
        ),
        ModelChoice(
            "mlp",
            "Two hidden layers on the raw pixels.",
            _build_mlp,
            Defaults(
                epochs=57, batch_size=16, learning_rate=1.4e-3, knobs={"mass": 0.35, "revisit": 2}
            ),
        ),
    )
    settings = Faults
    captions = {
        "trained": "Trained on in the last step",
        "skipped": "Skipped in this epoch, easiest first",
    }

    def __init__(self, seed: int, device: torch.device, data: Faults | None = None) -> None:
        images, labels = load_bundled_table("load_digits")
        parts = _split_rows(labels, seed)
        rng, faults = np.random.default_rng(seed), data or Faults()
        if faults.imbalance > 1:
            counts = _imbalanced_counts(faults.imbalance)
            parts["train"] = parts["train"][pick_per_class(labels[parts["train"]], counts, rng)]
        source = duplicate_examples(labels[parts["train"]], faults.redundancy, rng)
        parts["train"] = parts["train"][source]
        given = {name: labels[rows] for name, rows in parts.items()}
        given["train"], wrong = flip_labels(given["train"], faults.label_noise, N_CLASSES, rng)
        small = torch.from_numpy(images / 16).float().reshape(-1, 1, 8, 8)
        image = nn.functional.interpolate(small, size=(SIDE, SIDE), mode="bilinear")
        self.n_train = len(source)
        self.source_N, self.mislabelled_N = source, wrong
        self._image = {name: image[rows].to(device) for name, rows in parts.items()}
        self._label = {n: torch.from_numpy(own).long().to(device) for n, own in given.items()}
        self._padded = nn.functional.pad(self._image["train"], [_SHIFT] * 4)

    @classmethod
    def count_examples(cls, data: Faults) -> int:
        """Return the number of images not held out; fewer if classes are imbalanced."""
        if data.imbalance > 1:
            return int(_imbalanced_counts(data.imbalance).sum())
        return N_IMAGES - N_VALIDATION - N_TEST

    def batch(
        self, idx_B: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return images (B, 1, 16, 16), each shifted at random, and labels (B,)."""
        shift_2B = torch.randint(
            0, 2 * _SHIFT + 1, (2, len(idx_B), 1, 1), generator=generator, device=idx_B.device
        )
        span = torch.arange(SIDE, device=idx_B.device)
        rows = shift_2B[0] + span[None, :, None]
        columns = shift_2B[1] + span[None, None, :]
        images = self._padded[idx_B[:, None, None], 0, rows, columns]
        return images[:, None], self._label["train"][idx_B]

    def reduce_batch(
        self, idx_B: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor, share: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the images averaged down to a smaller side."""
        side = max(4, round(SIDE * share))
        return nn.functional.interpolate(inputs, size=(side, side), mode="area"), targets

    def held_out_inputs(self, split: str) -> torch.Tensor:
        """Return the images, not shifted."""
        return self._image[split]

    def view(self, inputs: ViewInputs) -> dict[str, ViewItem]:
        """Return a sheet of the images of the last step and one of skipped images."""
        image = self._image["train"]
        return {
            "trained": _image_sheet(
                image[inputs.batch_B[: _TRAINED_ROWS * _SHEET_COLUMNS]], _TRAINED_ROWS
            ),
            "skipped": _image_sheet(
                image[inputs.easiest_skipped(_SKIPPED_ROWS * _SHEET_COLUMNS)], _SKIPPED_ROWS
            ),
        }

    def display_example(self, index: int) -> ExampleDisplay:
        """Return the image, not shifted, and its given label."""
        return ExampleDisplay(_image_pixels(self._image["train"][index]), self.class_name_of(index))


def _split_rows(labels: Indices, seed: int) -> dict[str, Indices]:
    """Return the row indices of each split, stratified by class."""
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(labels))
    train, rest = train_test_split(
        rows, test_size=N_VALIDATION + N_TEST, random_state=seed, stratify=labels
    )
    validation, test = train_test_split(
        rest, test_size=N_TEST, random_state=seed, stratify=labels[rest]
    )
    return {"train": train, "validation": validation, "test": test}


def _imbalanced_counts(imbalance: float) -> Indices:
    """Return the number of training images per digit: most of 0, fewest of 9."""
    shares = class_shares(N_CLASSES, imbalance)
    counts: Indices = np.maximum(np.round(_IMAGES_PER_DIGIT * shares / shares[0]), 1).astype(
        np.int64
    )
    return counts


def _image_sheet(images: torch.Tensor, rows: int) -> Picture:
    """Return images (n, 1, 16, 16) laid out in rows with dark lines; empty cells are dark."""
    cell = SIDE + 1
    sheet = np.zeros((rows * cell + 1, _SHEET_COLUMNS * cell + 1), dtype=np.uint8)
    for i, picture in enumerate(_image_pixels(images)):
        top, left = (i // _SHEET_COLUMNS) * cell + 1, (i % _SHEET_COLUMNS) * cell + 1
        sheet[top : top + SIDE, left : left + SIDE] = picture
    return sheet


def _image_pixels(images: torch.Tensor) -> Picture:
    """Return images (..., 1, 16, 16) as uint8 without the channel dimension."""
    pixels: Picture = (images.squeeze(-3) * 255).round().to(torch.uint8).cpu().numpy()
    return pixels
