"""Layers of the text tasks, made of operations whose FLOPs can be counted.

Attention is written out, since the fused operation has no FLOP count on a CPU; see
:mod:`effcore.training.ledger`. T tokens, D width.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from effcore.tasks.residual_stage import ResidualStage


class Tokens(nn.Module):
    """Embedding of tokens and, if ``length`` is given, of their positions.

    Args:
        vocabulary: Number of distinct tokens.
        width: Width per token.
        length: Longest sequence; 0 for no position embedding.
    """

    def __init__(self, vocabulary: int, width: int, length: int = 0) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.place = nn.Parameter(torch.zeros(length, width)) if length else None

    def extra_repr(self) -> str:
        """Return further arguments, for ``repr``."""
        return f"length={0 if self.place is None else len(self.place)}"

    def forward(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        """Map int64 (B, T) to (B, T, D)."""
        embedded: torch.Tensor = self.embedding(tokens_BT)
        return embedded if self.place is None else embedded + self.place[: tokens_BT.shape[1]]


class SelfAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, *Attention Is All You Need*, section 3.2).

    Args:
        width: Width per token.
        heads: Number of heads.
        length: Longest sequence with causal attention; 0 for attention to all tokens.
    """

    mask: torch.Tensor

    def __init__(self, width: int, heads: int, length: int) -> None:
        super().__init__()
        self.heads = heads
        self.causal = length > 0
        self.in_projection = nn.Linear(width, 3 * width)
        self.out_projection = nn.Linear(width, width)
        ahead = torch.full((length, length), -math.inf).triu(1)
        self.register_buffer("mask", ahead, persistent=False)

    def extra_repr(self) -> str:
        """Return further arguments, for ``repr``."""
        return f"heads={self.heads}, length={len(self.mask)}"

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        """Map (B, T, D) to (B, T, D)."""
        batch, length, width = x_BTD.shape
        head = width // self.heads
        parts = self.in_projection(x_BTD).view(batch, length, 3, self.heads, head)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        scores = (q * head**-0.5) @ k.transpose(-1, -2)
        if self.causal:
            scores = scores + self.mask[:length, :length]
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, width)
        out: torch.Tensor = self.out_projection(mixed)
        return out


class TransformerBlock(ResidualStage):
    """Attention and a two-layer network, each a residual branch with layer norm first.

    Both branches are initialised to zero output, so that a new block is the identity.

    Args:
        width: Width per token.
        heads: Number of heads.
        length: As for :class:`SelfAttention`.
    """

    def __init__(self, width: int, heads: int, length: int = 0) -> None:
        super().__init__()
        attention = SelfAttention(width, heads, length)
        out = nn.Linear(4 * width, width)
        self.attention = nn.Sequential(nn.LayerNorm(width), attention)
        self.network = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.ReLU(inplace=True), out
        )
        self._out = (attention.out_projection, out)
        for last in self._out:
            nn.init.zeros_(last.weight)

    def branches(self) -> tuple[nn.Module, ...]:
        """Return attention and network."""
        return self.attention, self.network

    def last_layers(self) -> tuple[nn.Linear, ...]:
        """Return the output projections of both branches."""
        return self._out


class Gated(nn.Module):
    """A gated causal convolution over a token and the two before it, ``dilation`` apart.

    As in van den Oord et al. 2016, *WaveNet*, section 2, with a gated linear unit (Dauphin et
    al. 2017, equation 1). It is one matrix product with the shifted sequences concatenated.

    Args:
        width: Width per token.
        dilation: Distance between its input tokens.
    """

    taps = 3

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Linear(self.taps * width, 2 * width)
        self.out = nn.Linear(width, width)
        nn.init.zeros_(self.out.weight)

    def extra_repr(self) -> str:
        """Return further arguments, for ``repr``."""
        return f"taps={self.taps}, dilation={self.dilation}"

    def forward(self, x_BTD: torch.Tensor) -> torch.Tensor:
        """Map (B, T, D) to (B, T, D)."""
        length, reach = x_BTD.shape[1], (self.taps - 1) * self.dilation
        padded = functional.pad(self.norm(x_BTD), (0, 0, reach, 0))
        shifted = [
            padded[:, tap * self.dilation : tap * self.dilation + length]
            for tap in range(self.taps)
        ]
        mixed: torch.Tensor = self.out(functional.glu(self.mix(torch.cat(shifted, -1)), -1))
        return mixed


class CausalConvolution(ResidualStage):
    """A gated convolution as a residual stage.

    Args:
        width: Width per token.
        dilation: Distance between its input tokens.
    """

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.branch = Gated(width, dilation)

    def branches(self) -> tuple[nn.Module, ...]:
        """Return the convolution."""
        return (self.branch,)

    def last_layers(self) -> tuple[nn.Linear, ...]:
        """Return the output projection of the convolution."""
        return (self.branch.out,)
