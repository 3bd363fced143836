"""A decoder with the matrices of an `Architecture`: embeddings, causal attention, MLP, a head for the next token.

Decoder(ARCHITECTURES["gpt2"].cut(2))      # random weights; (batch, tokens) to (batch, tokens, vocabulary)
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorabench.scale.architectures import Architecture


def _norm(d: int, positions: int) -> nn.Module:
    return nn.LayerNorm(d) if positions else nn.RMSNorm(d)


def _embedding(n: int, d: int) -> nn.Embedding:
    """n vectors of width d, from N(0, 0.02²) as GPT-2's, so that the first loss is near that of guessing."""
    return nn.Embedding(n, d, _weight=torch.empty(n, d).normal_(std=0.02))


def rotate(x: Tensor) -> Tensor:
    """Rotary positions of queries or keys (batch, heads, tokens, width). Su et al. 2021, arXiv:2104.09864."""
    half = x.shape[-1] // 2
    frequencies = 500_000.0 ** (-torch.arange(half, device=x.device) / half)  # Llama 3's base
    angles = torch.arange(x.shape[-2], device=x.device)[:, None] * frequencies
    cosine, sine = angles.cos().to(x), angles.sin().to(x)
    first, second = x.chunk(2, -1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)


class Block(nn.Module):
    """Attention and an MLP, each after a norm and with its input added: GPT's, or Llama's gated one."""

    def __init__(self, model: Architecture) -> None:
        super().__init__()
        assert model.decoder is not None
        self.width, self.rotary = model.decoder.head, not model.decoder.positions
        d = model.matrix("q").n
        self.attention_norm, self.mlp_norm = (_norm(d, model.decoder.positions) for _ in range(2))
        for matrix in model.matrices[:-1]:
            self.add_module(matrix.name, nn.Linear(matrix.n, matrix.m, matrix.bias))

    def _of(self, name: str, x: Tensor) -> Tensor:
        return cast("Tensor", self.get_submodule(name)(x))

    def _heads(self, name: str, x: Tensor) -> Tensor:
        """Queries, keys or values: (batch, heads, tokens, width)."""
        x = self._of(name, x)
        return x.view(*x.shape[:2], -1, self.width).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, tokens, d) to the same."""
        normed = self.attention_norm(x)
        q, k, v = (self._heads(name, normed) for name in ("q", "k", "v"))
        if self.rotary:
            q, k = rotate(q), rotate(k)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])
        x = x + self._of("o", mixed.transpose(1, 2).flatten(2))
        normed = self.mlp_norm(x)
        up = self._of("up", normed)
        hidden = F.silu(self._of("gate", normed)) * up if self.rotary else F.gelu(up, approximate="tanh")
        return x + self._of("down", hidden)


class Decoder(nn.Module):
    """A language model with random weights, on torch's default device and of its default type."""

    def __init__(self, model: Architecture) -> None:
        super().__init__()
        assert model.decoder is not None
        head, positions = model.matrix("head"), model.decoder.positions
        self.tokens = _embedding(head.m, head.n)
        self.positions = _embedding(positions, head.n) if positions else None
        self.blocks = nn.ModuleList(Block(model) for _ in range(model.matrix("q").layers))
        self.norm = _norm(head.n, positions)
        self.head = nn.Linear(head.n, head.m, bias=False, device="meta" if positions else None)
        if positions:
            self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor, blocks: int | None = None) -> Tensor:
        """Logits of the next token, (batch, tokens, vocabulary), through the first `blocks` blocks; None: all."""
        x = self.tokens(tokens)
        if self.positions is not None:
            x = x + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks[:blocks]:
            x = block(x)
        return self.head(self.norm(x))
