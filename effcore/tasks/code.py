"""Task: a byte-level language model of the Python standard library's source.

An example is a window of 64 bytes; each byte of it is predicted from those before it. Whole
modules are held out for validation and test. In training, a window is shifted by a random offset
and one input byte in ten is replaced by a random one; the targets are not. Otherwise a model
would memorise so small a text.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from effcore.records.views import ExampleDisplay, ShadedText, ViewItem
from effcore.tasks import stdlib_text
from effcore.tasks.base import (
    TASKS,
    ConstantModel,
    Defaults,
    Evaluation,
    Metric,
    ModelChoice,
    Provenance,
    Task,
    ViewInputs,
    class_logits,
)
from effcore.tasks.text_layers import CausalConvolution, Tokens, TransformerBlock

VOCABULARY, WINDOW = 128, 64
N_TRAIN, N_VALIDATION, N_TEST = 1536, 256, 512
#: Characters read of each module.
_MODULE_CHARS = {"train": 7000, "validation": 6400, "test": 6400}
#: Share of the input bytes that are replaced in training.
_REPLACED_SHARE = 0.1
MODULES = {
    "train": (
        "argparse", "ast", "configparser", "dataclasses", "difflib", "doctest", "enum", "inspect",
        "mailbox", "pickle", "shutil", "statistics", "subprocess", "tarfile", "threading", "typing",
    ),
    "validation": ("functools", "smtplib", "bdb"),
    "test": ("optparse", "pdb", "fractions", "heapq", "plistlib", "contextlib"),
}  # fmt: skip
_SPLIT_WINDOWS = {"train": N_TRAIN + 1, "validation": N_VALIDATION, "test": N_TEST}
_EVALUATION_CHUNK = 128
#: The training windows in the view; length of the model's sample, and characters added per view.
_SHOWN_WINDOWS = slice(700, 722)
_SAMPLE_CHARS, _CHARS_PER_VIEW, _TEMPERATURE = 320, 8, 0.7
#: Loss of guessing among all characters; it has the strongest shade.
_GUESSING_LOSS = math.log(VOCABULARY)


@functools.cache
def _split_texts() -> dict[str, str]:
    """Return each split's text; cached."""
    read = {
        split: stdlib_text.read_library_files(
            [f"{name}.py" for name in names], _MODULE_CHARS[split]
        )
        for split, names in MODULES.items()
    }
    for split, text in read.items():
        if len(text) <= _SPLIT_WINDOWS[split] * WINDOW:
            raise stdlib_text.MissingSourceError(
                f"the library's {split} modules are shorter than usual"
            )
    return {split: text[: _SPLIT_WINDOWS[split] * WINDOW + 1] for split, text in read.items()}


def _output_head(width: int) -> nn.Module:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, VOCABULARY))


def _build_transformer(size: str) -> nn.Sequential:
    width, depth = {"small": (32, 2), "medium": (48, 2), "large": (96, 4)}[size]
    blocks = [TransformerBlock(width, 4, WINDOW) for _ in range(depth)]
    return nn.Sequential(Tokens(VOCABULARY, width, WINDOW), *blocks, _output_head(width))


def _build_convolution(size: str) -> nn.Sequential:
    width, depth = {"small": (32, 4), "medium": (48, 5), "large": (96, 5)}[size]
    blocks = [CausalConvolution(width, 2**level) for level in range(depth)]
    return nn.Sequential(Tokens(VOCABULARY, width), *blocks, _output_head(width))


@TASKS.add
class Code(Task):
    """Predict the next character of Python's standard library."""

    id = "code"
    title = "Code"
    summary = (
        "A small language model learns to predict the source code of Python's standard library."
    )
    rank = 2
    metric = Metric(
        "bits_per_byte", "Bits per byte", "bits", higher_is_better=False, digits=3, margin=0.027
    )
    loss_kind = "cross_entropy"
    loss_label = "Cross-entropy"
    models = (
        ModelChoice(
            "transformer",
            "A small transformer; each byte attends to the bytes before it.",
            _build_transformer,
            Defaults(
                epochs=45, batch_size=8, learning_rate=4e-3, knobs={"mass": 0.4, "revisit": 3}
            ),
            reducible="length",
        ),
        ModelChoice(
            "convolution",
            "Gated convolutions; each layer reaches further back.",
            _build_convolution,
            Defaults(epochs=8, batch_size=8, learning_rate=4e-3, knobs={"mass": 0.4, "revisit": 3}),
            reducible="length",
        ),
    )
    n_train = N_TRAIN
    fixed_split = True
    captions = {
        "losses": "Training text, each character shaded by its last loss",
        "sample": "Text that the model writes, a few characters at a time",
    }

    def __init__(self, seed: int, device: torch.device, data: Any = None) -> None:
        raw = {name: text.encode("ascii") for name, text in _split_texts().items()}
        self._bytes = {
            name: torch.from_numpy(np.frombuffer(text, np.uint8).astype(np.int64)).to(device)
            for name, text in raw.items()
        }
        self._span = torch.arange(WINDOW + 1, device=device)
        self._batch_idx_B = self._target_positions_BT = self._token_losses_BT = torch.empty(
            0, device=device
        )
        self._shown_losses = torch.zeros(len(self._bytes["train"]), device=device)
        self._sample = self._bytes["train"][:4].clone()
        self._sample_generator = torch.Generator(device=device).manual_seed(seed)
        codes = torch.arange(VOCABULARY, device=device)
        self._unprintable = ((codes < 32) | (codes == 127)) & (codes != 10)

    @classmethod
    def provenance(cls) -> Provenance:
        """Return the Python version of the library, its size and its hash."""
        return stdlib_text.text_provenance(lambda: _split_texts().values())

    def batch(
        self, idx_B: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return input characters, some replaced, and next characters, int64 (B, 64) each."""
        shift_B = torch.randint(0, WINDOW, (len(idx_B),), generator=generator, device=idx_B.device)
        places = (idx_B * WINDOW + shift_B)[:, None] + self._span
        window = self._bytes["train"][places]
        self._batch_idx_B, self._target_positions_BT = idx_B, places[:, 1:]
        seen_BT = stdlib_text.replace_tokens(window[:, :-1], _REPLACED_SHARE, VOCABULARY, generator)
        return seen_BT, window[:, 1:]

    def reduce_batch(
        self, idx_B: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor, share: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the first characters of each window."""
        length = max(1, round(WINDOW * share))
        return inputs[:, :length], targets[:, :length]

    def losses(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return each window's mean cross-entropy per character, in nats."""
        self._token_losses_BT = _token_losses(outputs, targets)
        return self._token_losses_BT.mean(-1)

    def evaluate(self, model: nn.Module, split: str) -> Evaluation:
        """Return mean cross-entropy in nats and in bits, over windows that do not overlap."""
        text = self._bytes[split][: _SPLIT_WINDOWS[split] * WINDOW + 1]
        inputs, targets = (part.view(-1, WINDOW) for part in (text[:-1], text[1:]))
        pairs = zip(
            torch.split(inputs, _EVALUATION_CHUNK),
            torch.split(targets, _EVALUATION_CHUNK),
            strict=True,
        )
        loss = torch.stack([_token_losses(model(x), y).sum() for x, y in pairs]).sum()
        loss = loss / targets.numel()
        return Evaluation(loss, loss / math.log(2))

    def trivial_model(self) -> nn.Module:
        """Return a model of the character frequencies."""
        return ConstantModel(class_logits(self._bytes["train"], VOCABULARY), places=2)

    def record_outputs(self, idx_B: torch.Tensor, outputs: torch.Tensor) -> None:
        """Store the losses of single characters, so that the view costs no forward pass."""
        losses_BT = self._token_losses_BT.detach()
        # Of the last batch, scored candidates included, the rows that were trained on.
        row_B = (self._batch_idx_B[None, :] == idx_B[:, None]).int().argmax(1)
        places_BT = self._target_positions_BT[row_B, : losses_BT.shape[1]]
        self._shown_losses.index_copy_(0, places_BT.flatten(), losses_BT.flatten())

    def view_state(self) -> dict[str, torch.Tensor]:
        """Return character losses, the written sample, and the state of its generator."""
        return {
            "losses": self._shown_losses,
            "written": self._sample,
            "writer": self._sample_generator.get_state(),
        }

    def restore_view_state(self, memories: Mapping[str, torch.Tensor]) -> None:
        """Restore character losses, sample and generator."""
        self._shown_losses.copy_(memories["losses"])
        self._sample = memories["written"].to(self._sample.device)
        self._sample_generator.set_state(memories["writer"])

    def view(self, inputs: ViewInputs) -> dict[str, ViewItem]:
        """Return a part of the training text shaded by loss, and a sample written by the model."""
        drawn_T = inputs.drawn_N[_SHOWN_WINDOWS].repeat_interleave(WINDOW)
        first = _SHOWN_WINDOWS.start * WINDOW
        skipped = _split_texts()["train"].index("\n", first) + 1 - first  # an incomplete first line
        stretch = slice(first + skipped, _SHOWN_WINDOWS.stop * WINDOW)
        shade_T = (self._shown_losses[stretch] * (255 / _GUESSING_LOSS)).clamp(0, 255)
        losses = ShadedText(
            _split_texts()["train"][stretch],
            shade_T.to(torch.uint8).cpu().numpy(),
            (~drawn_T[skipped:]).to(torch.uint8).cpu().numpy(),
            "loss of predicting this character",
        )
        return {"losses": losses, "sample": self._write_sample(inputs.model)}

    def display_example(self, index: int) -> ExampleDisplay:
        """Return the window without its random offset."""
        return ExampleDisplay(_split_texts()["train"][index * WINDOW : (index + 1) * WINDOW])

    def _write_sample(self, model: nn.Module) -> ShadedText:
        """Extend the sample by a few characters and return it."""
        for _ in range(_CHARS_PER_VIEW):
            logits = model(self._sample[None, -WINDOW:])[0, -1].float() / _TEMPERATURE
            # A diverged model has NaN outputs, which must not raise an error here.
            logits = logits.nan_to_num(0.0, 0.0, 0.0).masked_fill(self._unprintable, -torch.inf)
            new = torch.multinomial(logits.softmax(-1), 1, generator=self._sample_generator)
            self._sample = torch.cat([self._sample[-_SAMPLE_CHARS:], new])
        text = bytes(self._sample.tolist()).decode("ascii")
        plain = np.zeros(len(text), np.uint8)
        return ShadedText(text, plain, plain, "")


def _token_losses(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    flat = outputs.float().flatten(0, -2)
    losses = nn.functional.cross_entropy(flat, targets.flatten(), reduction="none")
    return losses.view(targets.shape)
