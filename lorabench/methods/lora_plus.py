"""LoRA+: LoRA whose B learns faster than its A. Hayou et al. 2024, arXiv:2402.12354."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lorabench.methods.low_rank import add_low_rank, uniform
from lorabench.methods.wrapper import Wrapper, wrap

if TYPE_CHECKING:
    from collections.abc import Iterable


class LoRAPlusLayer(Wrapper):
    """`inner(x) + x @ A @ B`, with `inner` frozen and the learning rates η of A, λη of B (the paper's section 5).

    Args:
        inner: a linear layer, n inputs to m outputs.
        k: the rank. A has shape (n, k), from U(-1/√n, 1/√n); B has shape (k, m) and is zero.
        ratio: λ. It travels as `B.lr_scale`, which the training loop multiplies the learning rate by.
    """

    def __init__(self, inner: nn.Linear, k: int, ratio: float = 16.0) -> None:
        super().__init__(inner)
        n = inner.in_features
        # Drawn as (k, n): A kept column by column in memory makes the tall product x @ A several times faster.
        self.A = nn.Parameter(uniform(k, n, fan=n).to(inner.weight).t())
        self.B = nn.Parameter(torch.zeros(k, inner.out_features).to(inner.weight))
        vars(self.B)["lr_scale"] = ratio

    def forward(self, x: Tensor) -> Tensor:
        """(..., n) to (..., m)."""
        return self.trainable_part(*self.frozen_part(x))

    def frozen_part(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The frozen half: x itself and `inner(x)`."""
        return x, self.inner(x)

    def trainable_part(self, x: Tensor, frozen: Tensor) -> Tensor:
        """The trainable half."""
        return add_low_rank(frozen, x @ self.A, self.B)

    @property
    def weight(self) -> Tensor:
        """W1 = W0 + (AB)ᵀ."""
        return self.inner.weight + (self.A @ self.B).t()


def apply(model: nn.Module, targets: Iterable[str], *, k: int, ratio: float) -> None:
    """Put a `LoRAPlusLayer` around each of the linear layers named by `targets`."""
    wrap(model, targets, lambda inner: LoRAPlusLayer(inner, k, ratio))
