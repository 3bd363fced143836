"""rsLoRA: LoRA whose scale keeps its size across ranks. Kalajdzievski 2023, arXiv:2312.03732."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lorabench.methods.low_rank import add_low_rank, uniform
from lorabench.methods.wrapper import Wrapper, wrap

if TYPE_CHECKING:
    from collections.abc import Iterable


class RsLoRALayer(Wrapper):
    """`inner(x) + α/√k x @ A @ B`, with `inner` frozen (the paper's section 3: α/√k is rank-stabilised, α/k is not).

    Args:
        inner: a linear layer, n inputs to m outputs.
        k: the rank. A has shape (n, k), from U(-1/√n, 1/√n); B has shape (k, m) and is zero.
        alpha: α. At one rank this is LoRA with its α times √k; it differs in a sweep of ranks.
    """

    def __init__(self, inner: nn.Linear, k: int, alpha: float = 2.0) -> None:
        super().__init__(inner)
        n = inner.in_features
        self.scale = alpha / math.sqrt(k)
        # Drawn as (k, n): A kept column by column in memory makes the tall product x @ A several times faster.
        self.A = nn.Parameter(uniform(k, n, fan=n).to(inner.weight).t())
        self.B = nn.Parameter(torch.zeros(k, inner.out_features).to(inner.weight))

    def forward(self, x: Tensor) -> Tensor:
        """(..., n) to (..., m)."""
        return self.trainable_part(*self.frozen_part(x))

    def frozen_part(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The frozen half: x itself and `inner(x)`."""
        return x, self.inner(x)

    def trainable_part(self, x: Tensor, frozen: Tensor) -> Tensor:
        """The trainable half."""
        return add_low_rank(frozen, x @ self.A, self.B, self.scale)

    @property
    def weight(self) -> Tensor:
        """W1 = W0 + α/√k (AB)ᵀ."""
        return self.inner.weight + self.scale * (self.A @ self.B).t()


def apply(model: nn.Module, targets: Iterable[str], *, k: int, alpha: float) -> None:
    """Put an `RsLoRALayer` around each of the linear layers named by `targets`."""
    wrap(model, targets, lambda inner: RsLoRALayer(inner, k, alpha))
