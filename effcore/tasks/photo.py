"""Task: fit a coordinate network to a photograph; every pixel is an example.

Smooth regions are learned early and edges late, so selection can skip much of the data. The
task is a fit: the metric, PSNR, is over all pixels, the ones trained on.

One family maps random Fourier features of the coordinates to colour (Tancik et al. 2020,
*Fourier Features Let Networks Learn High Frequency Functions*, equation 4), the other is a
SIREN (Sitzmann et al. 2020, *Implicit Neural Representations with Periodic Activation
Functions*, equation 5).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn

from effcore.records.views import ExampleDisplay, Picture, ViewItem
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

HEIGHT, WIDTH = 256, 384
#: During training every fourth pixel in each direction is evaluated; at the end all are.
PREVIEW_STRIDE = 4
_EVALUATION_CHUNK = 16384
#: Side of the region shown around a pixel, and distance of the frame from the pixel, pixels.
_REGION_SIDE, _FRAME_DISTANCE = 48, 3


class Fourier(nn.Module):
    """Random Fourier features of coordinates.

    Args:
        features: Number of frequencies; the output is twice as wide.
        scale: Standard deviation of the frequencies, in cycles per image half.
    """

    frequencies: torch.Tensor

    def __init__(self, features: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("frequencies", 2 * math.pi * scale * torch.randn(2, features))

    def extra_repr(self) -> str:
        """Return the arguments, for ``repr``."""
        return f"features={self.frequencies.shape[1]}, scale={self.scale}"

    def forward(self, xy_B2: torch.Tensor) -> torch.Tensor:
        """Map coordinates in [-1, 1] to waves, shape (B, 2 * features)."""
        phase = xy_B2 @ self.frequencies
        return torch.cat([phase.sin(), phase.cos()], dim=-1)


class Sine(nn.Module):
    """One layer of a SIREN, sin(30 (W x + b)), with its initialisation (section 3.2).

    Args:
        fan_in: Width of the input.
        fan_out: Width of the output.
        first: Whether its input is the coordinates.
    """

    omega = 30.0

    def __init__(self, fan_in: int, fan_out: int, *, first: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(fan_in, fan_out)
        bound = 1 / fan_in if first else math.sqrt(6 / fan_in) / self.omega
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def extra_repr(self) -> str:
        """Return the frequency factor, for ``repr``."""
        return f"omega={self.omega}"

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Map (B, fan_in) to (B, fan_out)."""
        return torch.sin(self.omega * self.linear(inputs))


def build_fourier_mlp(features: int, width: int, depth: int, scale: float) -> nn.Sequential:
    """Return a network from coordinates to colour: Fourier features, then ReLU layers."""
    waves = Fourier(features, scale)
    first = nn.Sequential(waves, nn.Linear(2 * features, width), nn.ReLU(inplace=True))
    hidden = [
        nn.Sequential(nn.Linear(width, width), nn.ReLU(inplace=True)) for _ in range(depth - 1)
    ]
    return nn.Sequential(first, *hidden, nn.Linear(width, 3))


def build_siren(width: int, depth: int) -> nn.Sequential:
    """Return a network of sine layers from coordinates to colour."""
    hidden = [Sine(width, width, first=False) for _ in range(depth - 1)]
    head = nn.Linear(width, 3)
    bound = math.sqrt(6 / width) / Sine.omega
    nn.init.uniform_(head.weight, -bound, bound)
    return nn.Sequential(Sine(2, width, first=True), *hidden, head)


@functools.cache
def _load_photograph() -> np.ndarray[tuple[int, int, int], np.dtype[np.float32]]:
    """Return the sample photograph, area-averaged to (HEIGHT, WIDTH, 3), in [0, 1]."""
    picture = torch.from_numpy(np.array(Image.open(_sample_image_path())))
    rows = picture.permute(2, 0, 1)[None].float() / 255
    small = nn.functional.interpolate(rows, size=(HEIGHT, WIDTH), mode="area")
    return small[0].permute(1, 2, 0).numpy()


def _sample_image_path() -> Path:
    """Return the path of scikit-learn's ``china.jpg``.

    scikit-learn's ``load_sample_image`` would first import modules for a second, which would
    delay the start of a run.
    """
    spec = find_spec("sklearn")
    assert spec is not None, "scikit-learn is a dependency"
    assert spec.submodule_search_locations, "scikit-learn is a package"
    return Path(spec.submodule_search_locations[0], "datasets", "images", "china.jpg")


class _PixelCells(NamedTuple):
    """Pixels averaged over square cells: centre and mean colour of each pixel's cell."""

    xy_N2: torch.Tensor
    rgb_N3: torch.Tensor
    corner_N: torch.Tensor


@TASKS.add
class Photo(Task):
    """Fit one photograph, pixel by pixel."""

    id = "photo"
    title = "Photograph"
    summary = "A small network learns one photograph; every pixel is an example."
    rank = 0
    metric = Metric("psnr", "PSNR", "dB", higher_is_better=True, digits=2, margin=0.1)
    loss_kind = "squared_error"
    loss_label = "Squared error"
    models = (
        ModelChoice(
            "fourier-mlp",
            "Random Fourier features, then three hidden layers.",
            lambda size: build_fourier_mlp(
                64, {"small": 64, "medium": 224, "large": 384}[size], depth=3, scale=5.0
            ),
            Defaults(
                epochs=34, batch_size=128, learning_rate=2e-3, knobs={"mass": 0.3, "revisit": 3}
            ),
            reducible="resolution",
        ),
        ModelChoice(
            "siren",
            "Three hidden layers with sine activations; its output is smooth.",
            lambda size: build_siren({"small": 64, "medium": 160, "large": 320}[size], depth=3),
            Defaults(
                epochs=34, batch_size=128, learning_rate=5e-4, knobs={"mass": 0.3, "revisit": 3}
            ),
            reducible="resolution",
        ),
    )
    n_train = HEIGHT * WIDTH
    augmented = False
    captions = {
        "reconstruction": "Reconstruction: each pixel as last predicted while training on it",
        "compute": "Where computation goes: the brighter a pixel, the more epochs have drawn it",
        "target": "The photograph",
    }
    is_fit = True

    def __init__(self, seed: int, device: torch.device, data: Any = None) -> None:
        picture = torch.from_numpy(_load_photograph())
        y, x = torch.meshgrid(
            torch.linspace(-HEIGHT / WIDTH, HEIGHT / WIDTH, HEIGHT),
            torch.linspace(-1, 1, WIDTH),
            indexing="ij",
        )
        self._xy_N2 = torch.stack([x, y], dim=-1).reshape(-1, 2).to(device)
        self._rgb_N3 = picture.reshape(-1, 3).contiguous().to(device)
        self._canvas_N3 = torch.zeros_like(self._rgb_N3)
        self._unpainted: list[tuple[torch.Tensor, torch.Tensor]] = []  # not painted yet
        self._target = _to_picture(self._rgb_N3.reshape(HEIGHT, WIDTH, 3))
        grid = torch.arange(self.n_train).reshape(HEIGHT, WIDTH)
        self._preview = grid[::PREVIEW_STRIDE, ::PREVIEW_STRIDE].reshape(-1).to(device)
        self._cells: dict[int, _PixelCells] = {}
        self._cell_side = 1  # pixels, of the last batch

    def batch(
        self, idx_B: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return coordinates (B, 2) and colours (B, 3); nothing is augmented."""
        self._cell_side = 1
        return self._xy_N2[idx_B], self._rgb_N3[idx_B]

    def reduce_batch(
        self, idx_B: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor, share: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the centre and mean colour of the cell that each pixel lies in."""
        self._cell_side = round(1 / share)
        cells = self._cells_of_side(self._cell_side)
        return cells.xy_N2[idx_B], cells.rgb_N3[idx_B]

    def active_mask(self, share: float) -> torch.Tensor | None:
        """Return the upper left pixel of each cell, which represents the cell, bool (N,)."""
        side = round(1 / share)
        return self._cells_of_side(side).corner_N if side > 1 else None

    def _cells_of_side(self, side: int) -> _PixelCells:
        """Return square cells of ``side`` pixels, computed at the first call."""
        if side not in self._cells:
            both = torch.cat([self._xy_N2, self._rgb_N3], dim=1).T.reshape(1, 5, HEIGHT, WIDTH)
            mean = nn.functional.avg_pool2d(both, side, ceil_mode=True)
            spread = mean.repeat_interleave(side, 2).repeat_interleave(side, 3)
            mean_N5 = spread[0, :, :HEIGHT, :WIDTH].reshape(5, -1).T.contiguous()
            corner = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool, device=both.device)
            corner[::side, ::side] = True
            cells = _PixelCells(
                mean_N5[:, :2].contiguous(), mean_N5[:, 2:].contiguous(), corner.view(-1)
            )
            self._cells[side] = cells
        return self._cells[side]

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return each pixel's squared error, mean over the three colours."""
        return (outputs.float() - targets).square().mean(-1)

    def evaluate(self, model: nn.Module, split: str) -> Evaluation:
        """Return mean squared error and PSNR: over all pixels for ``test``, else over a grid."""
        xy, rgb = self._xy_N2, self._rgb_N3
        if split != "test":
            xy, rgb = xy[self._preview], rgb[self._preview]
        pairs = zip(
            torch.split(xy, _EVALUATION_CHUNK), torch.split(rgb, _EVALUATION_CHUNK), strict=True
        )
        total = torch.stack([self.losses(model(a), b).sum() for a, b in pairs]).sum()
        loss = total / len(xy)
        return Evaluation(loss, -10 * torch.log10(loss))

    def trivial_model(self) -> nn.Module:
        """Return a model of the mean colour."""
        return ConstantModel(self._rgb_N3.mean(0))

    def record_outputs(self, idx_B: torch.Tensor, outputs: torch.Tensor) -> None:
        """Store the predicted colours, so that the picture costs no forward pass."""
        colours = outputs.detach()
        if self._cell_side > 1:
            idx_B, colours = self._spread_over_cells(idx_B, colours)
        self._unpainted.append((idx_B, colours))

    def _spread_over_cells(
        self, idx_B: torch.Tensor, colours: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return all pixels of the cells with these corners, each with its cell's colour."""
        step = torch.arange(self._cell_side, device=idx_B.device)
        row = (idx_B // WIDTH)[:, None, None] + step[:, None]
        column = (idx_B % WIDTH)[:, None, None] + step
        pixel = row.clamp_max(HEIGHT - 1) * WIDTH + column.clamp_max(WIDTH - 1)
        return pixel.flatten(), colours.repeat_interleave(self._cell_side**2, dim=0)

    def _paint_canvas(self) -> None:
        """Paint the colours stored since the last picture onto the canvas, in one copy."""
        if self._unpainted:
            pixels, colours = zip(*self._unpainted, strict=True)
            self._canvas_N3.index_copy_(0, torch.cat(pixels), torch.cat(colours).float())
            self._unpainted.clear()

    def view_state(self) -> dict[str, torch.Tensor]:
        """Return the canvas."""
        self._paint_canvas()
        return {"canvas_N3": self._canvas_N3}

    def restore_view_state(self, memories: Mapping[str, torch.Tensor]) -> None:
        """Restore the canvas."""
        self._canvas_N3.copy_(memories["canvas_N3"])

    def view(self, inputs: ViewInputs) -> dict[str, ViewItem]:
        """Return the reconstruction, the compute map and the photograph."""
        self._paint_canvas()
        share_N = inputs.trained_N / inputs.trained_N.max().clamp_min(1)
        return {
            "reconstruction": _to_picture(self._canvas_N3.reshape(HEIGHT, WIDTH, 3)),
            "compute": _to_picture(share_N.reshape(HEIGHT, WIDTH)),
            "target": self._target,
        }

    def display_example(self, index: int) -> ExampleDisplay:
        """Return the region around the pixel, and its colour."""
        row, column = divmod(index, WIDTH)
        red, green, blue = self._target[row, column].tolist()
        region = _framed_region(self._target, row, column)
        return ExampleDisplay(region, f"#{red:02x}{green:02x}{blue:02x}", (row, column))


def _framed_region(picture: Picture, row: int, column: int) -> Picture:
    """Return the region around a pixel, with a white and a black frame around the pixel."""
    top = min(max(row - _REGION_SIDE // 2, 0), HEIGHT - _REGION_SIDE)
    left = min(max(column - _REGION_SIDE // 2, 0), WIDTH - _REGION_SIDE)
    region = picture[top : top + _REGION_SIDE, left : left + _REGION_SIDE].copy()
    down, right = np.ogrid[top : top + _REGION_SIDE, left : left + _REGION_SIDE]
    distance = np.maximum(abs(down - row), abs(right - column))
    region[distance == _FRAME_DISTANCE], region[distance == _FRAME_DISTANCE + 1] = 255, 0
    return region


def _to_picture(values: torch.Tensor) -> Picture:
    picture: Picture = values.mul(255).round_().clamp_(0, 255).to(torch.uint8).cpu().numpy()
    return picture
