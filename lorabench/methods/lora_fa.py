"""LoRA-FA: LoRA with A frozen where it was drawn. Zhang et al. 2023, arXiv:2308.03303."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lorabench.methods.low_rank import add_low_rank, uniform
from lorabench.methods.wrapper import Wrapper, wrap

if TYPE_CHECKING:
    from collections.abc import Iterable


class LoRAFALayer(Wrapper):
    """`inner(x) + x @ A @ B`, with `inner` and A frozen: only x @ A, k numbers wide, is kept for the backward pass.

    Args:
        inner: a linear layer, n inputs to m outputs.
        k: the rank. A has shape (n, k), from U(-1/√n, 1/√n); it is not saved, the seed draws it again. B has shape
            (k, m) and is zero.
    """

    def __init__(self, inner: nn.Linear, k: int) -> None:
        super().__init__(inner)
        n = inner.in_features
        A = uniform(k, n, fan=n).to(inner.weight).t()
        self.A = nn.Parameter(A, requires_grad=False)
        self.B = nn.Parameter(torch.zeros(k, inner.out_features).to(inner.weight))

    def forward(self, x: Tensor) -> Tensor:
        """(..., n) to (..., m)."""
        return self.trainable_part(*self.frozen_part(x))

    def frozen_part(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The frozen part: `x @ A` and `inner(x)`."""
        return x @ self.A, self.inner(x)

    def trainable_part(self, low: Tensor, frozen: Tensor) -> Tensor:
        """The trainable part."""
        return add_low_rank(frozen, low, self.B)

    @property
    def weight(self) -> Tensor:
        """W1 = W0 + (AB)ᵀ."""
        return self.inner.weight + (self.A @ self.B).t()


def apply(model: nn.Module, targets: Iterable[str], *, k: int) -> None:
    """Put a `LoRAFALayer` around each of the linear layers named by `targets`."""
    wrap(model, targets, lambda inner: LoRAFALayer(inner, k))
