"""Task: classify pieces of Python code by the standard-library package they come from.

The source of eight packages is cut into pieces of 32 tokens (names, numbers, signs) that do not
overlap; the pieces are split by seed. A model sees 24 of these tokens. In training they start at
a random position and one token in eight is replaced, since a model could memorise so small a
text. Held-out pieces come from the same files as training pieces, so the task is to recognise a
package by its vocabulary and style.
"""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from effcore.records.views import ExampleDisplay, ShadedText, ViewItem
from effcore.tasks import stdlib_text
from effcore.tasks.base import (
    TASKS,
    Defaults,
    ModelChoice,
    Provenance,
    ViewInputs,
)
from effcore.tasks.classification import Classification
from effcore.tasks.text_layers import Tokens, TransformerBlock

PACKAGES = ("asyncio", "email", "http", "logging", "multiprocessing", "unittest", "urllib", "xml")
#: Tokens per piece, and how many of them a model sees.
PIECE_TOKENS, SEEN_TOKENS = 32, 24
VOCABULARY, PAIR_VOCABULARY = 4096, 8192
#: Pieces per package in each split, and the most files and characters per package to read.
_PIECES_PER_PACKAGE = {"train": 480, "validation": 80, "test": 120}
_MAX_FILES, _MAX_CHARS = 24, 500_000
#: Share of the input tokens that are replaced in training.
_REPLACED_SHARE = 0.125
_TOKEN = re.compile(r"\w+|[^\w\s]")
_SHOWN_PIECES, _SHOWN_CHARS = 6, 160
_STRONGEST_SHADE_LOSS = 3.0  # losses above it have the strongest shade


class Pieces(NamedTuple):
    """All pieces: tokens (N, PIECE_TOKENS), package indices (N,), and texts."""

    tokens_NT: NDArray[np.int64]
    label_N: NDArray[np.int64]
    texts: list[str]


@functools.cache
def _package_sources() -> dict[str, str]:
    """Return each package's source, up to ``_MAX_CHARS`` characters; cached."""
    files = {package: stdlib_text.package_files(package)[:_MAX_FILES] for package in PACKAGES}
    return {
        p: stdlib_text.read_library_files(names, _MAX_CHARS // len(names))
        for p, names in files.items()
    }


@functools.cache
def _load_pieces() -> Pieces:
    tokens: list[list[int]] = []
    labels: list[int] = []
    texts: list[str] = []
    known_windows: set[tuple[int, ...]] = set()
    count = sum(_PIECES_PER_PACKAGE.values())
    for label, source in enumerate(_package_sources().values()):
        pieces = [
            piece for piece in _cut_into_pieces(source) if _is_new_piece(piece[0], known_windows)
        ]
        if len(pieces) < count:
            raise stdlib_text.MissingSourceError(f"package {PACKAGES[label]} is shorter than usual")
        # Spread evenly over the source, so that every file is represented.
        for i in np.linspace(0, len(pieces) - 1, count).astype(int):
            tokens.append(pieces[i][0])
            texts.append(pieces[i][1])
        labels += [label] * count
    return Pieces(np.array(tokens), np.array(labels), texts)


def _cut_into_pieces(source: str) -> Iterator[tuple[list[int], str]]:
    """Yield pieces that do not overlap, as token ids and as text."""
    spans = [match.span() for match in _TOKEN.finditer(source)]
    for start in range(0, len(spans) - PIECE_TOKENS + 1, PIECE_TOKENS):
        piece = spans[start : start + PIECE_TOKENS]
        yield [_token_id(source[a:b]) for a, b in piece], source[piece[0][0] : piece[-1][1]]


def _is_new_piece(piece: list[int], known_windows: set[tuple[int, ...]]) -> bool:
    """Return whether no window that a model may see of a piece occurs in an earlier piece.

    Licences and the like are repeated from file to file; without this check, some held-out text
    would also be training text.
    """
    windows = {tuple(piece[i : i + SEEN_TOKENS]) for i in range(PIECE_TOKENS - SEEN_TOKENS + 1)}
    is_new = not windows & known_windows
    known_windows |= windows
    return is_new


@functools.cache
def _token_id(token: str) -> int:
    """Return the hash of a token in 0 to ``VOCABULARY`` - 1, the same on every machine."""
    return zlib.crc32(token.encode("ascii")) % VOCABULARY


class NGrams(nn.Module):
    """Mean of the embeddings of single tokens and of neighbouring pairs.

    Args:
        width: Embedding width.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.single = nn.Embedding(VOCABULARY, width)
        self.pair = nn.Embedding(PAIR_VOCABULARY, width)
        for table in (self.single, self.pair):
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        """Map int64 (B, T) to (B, D)."""
        pairs = (tokens_BT[:, :-1] * 31 + tokens_BT[:, 1:]) % PAIR_VOCABULARY
        mean: torch.Tensor = self.single(tokens_BT).mean(1) + self.pair(pairs).mean(1)
        return mean


class MeanHead(nn.Module):
    """Mean over the tokens, then a linear map to the packages.

    Args:
        width: Width per token.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, len(PACKAGES))

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        """Map (B, T, D) to logits (B, C)."""
        logits: torch.Tensor = self.linear(self.norm(x_BTD).mean(1))
        return logits


def _build_transformer(size: str) -> nn.Sequential:
    width, depth = {"small": (32, 1), "medium": (64, 2), "large": (128, 3)}[size]
    blocks = [TransformerBlock(width, 4) for _ in range(depth)]
    return nn.Sequential(Tokens(VOCABULARY, width, SEEN_TOKENS), *blocks, MeanHead(width))


def _build_bag_of_n_grams(size: str) -> nn.Sequential:
    width = {"small": 32, "medium": 64, "large": 128}[size]
    hidden = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(inplace=True))
    return nn.Sequential(NGrams(width), hidden, nn.Linear(2 * width, len(PACKAGES)))


@TASKS.add
class Snippets(Classification):
    """Classify a piece of code by its package, one of eight."""

    id = "snippets"
    title = "Snippets"
    summary = "A model names the standard-library package that each piece of Python code is from."
    rank = 3
    groups = PACKAGES
    models = (
        ModelChoice(
            "transformer",
            "A small transformer over the tokens; the output is their mean.",
            _build_transformer,
            Defaults(epochs=18, batch_size=16, learning_rate=4e-3, knobs={"mass": 0.3}),
            reducible="length",
        ),
        ModelChoice(
            "bag-of-n-grams",
            "Mean embedding of tokens and token pairs, then one hidden layer.",
            _build_bag_of_n_grams,
            Defaults(epochs=40, batch_size=16, learning_rate=1e-2, knobs={"mass": 0.3}),
            reducible="length",
        ),
    )
    captions = {
        "trained": "Trained on in the last step",
        "skipped": "Skipped in this epoch, easiest first",
    }
    n_train = _PIECES_PER_PACKAGE["train"] * len(PACKAGES)

    def __init__(self, seed: int, device: torch.device, data: Any = None) -> None:
        pieces = _load_pieces()
        rows = _split_rows(pieces.label_N, seed)
        self._texts = [pieces.texts[row] for row in rows["train"]]
        tokens, label = (torch.from_numpy(part).to(device) for part in pieces[:2])
        self._tokens = {name: tokens[own] for name, own in rows.items()}
        self._label = {name: label[own] for name, own in rows.items()}
        self._span = torch.arange(SEEN_TOKENS, device=device)

    @classmethod
    def provenance(cls) -> Provenance:
        """Return the Python version of the library, its size and its hash."""
        return stdlib_text.text_provenance(lambda: _package_sources().values())

    def batch(
        self, idx_B: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return 24 tokens of each piece, some replaced, int64 (B, 24), and its package (B,)."""
        shift_B = torch.randint(
            0,
            PIECE_TOKENS - SEEN_TOKENS + 1,
            (len(idx_B),),
            generator=generator,
            device=idx_B.device,
        )
        columns = shift_B[:, None] + self._span
        tokens_BT = self._tokens["train"][idx_B[:, None], columns]
        seen_BT = stdlib_text.replace_tokens(tokens_BT, _REPLACED_SHARE, VOCABULARY, generator)
        return seen_BT, self._label["train"][idx_B]

    def reduce_batch(
        self, idx_B: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor, share: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the first tokens of each piece, at least two."""
        return inputs[:, : max(2, round(SEEN_TOKENS * share))], targets

    def held_out_inputs(self, split: str) -> torch.Tensor:
        """Return the middle tokens of each piece."""
        first = (PIECE_TOKENS - SEEN_TOKENS) // 2
        return self._tokens[split][:, first : first + SEEN_TOKENS]

    def view(self, inputs: ViewInputs) -> dict[str, ViewItem]:
        """Return some pieces of the last step and some skipped pieces."""
        skipped, loss_N = inputs.easiest_skipped(_SHOWN_PIECES), inputs.last_loss_N
        return {
            "trained": self._pieces_text(inputs.batch_B[:_SHOWN_PIECES], loss_N, dim=False),
            "skipped": self._pieces_text(skipped, loss_N, dim=True),
        }

    def display_example(self, index: int) -> ExampleDisplay:
        """Return the piece and the name of its package."""
        return ExampleDisplay(self._texts[index], self.class_name_of(index))

    def _pieces_text(self, indices: torch.Tensor, loss_N: torch.Tensor, *, dim: bool) -> ShadedText:
        """Return pieces as text, each below its package name and shaded by its last loss."""
        parts: list[str] = []
        shades: list[int] = []
        labels = self._label["train"][indices].tolist()
        losses = loss_N[indices].tolist()
        for index, label, loss in zip(indices.tolist(), labels, losses, strict=True):
            loss_text = "not seen yet" if loss == float("inf") else f"loss {loss:.3f}"
            parts.append(f"{PACKAGES[label]}, {loss_text}\n")
            shades += [0] * len(parts[-1])
            parts.append(" ".join(self._texts[index].split())[:_SHOWN_CHARS] + "\n\n")
            shades += [int(255 * min(loss, _STRONGEST_SHADE_LOSS) / _STRONGEST_SHADE_LOSS)] * len(
                parts[-1]
            )
        shade_T = np.array(shades, dtype=np.uint8)
        return ShadedText("".join(parts), shade_T, np.full_like(shade_T, dim), "last loss")


def _split_rows(label_N: NDArray[np.int64], seed: int) -> dict[str, NDArray[np.int64]]:
    """Return the row indices of each split, the same number for every package."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[NDArray[np.int64]]] = {name: [] for name in _PIECES_PER_PACKAGE}
    ends = np.cumsum(list(_PIECES_PER_PACKAGE.values()))
    for label in range(len(PACKAGES)):
        own = rng.permutation(np.flatnonzero(label_N == label))
        for name, part in zip(rows, np.split(own, ends[:-1]), strict=True):
            rows[name].append(part)
    return {name: np.concatenate(parts) for name, parts in rows.items()}
