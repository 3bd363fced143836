"""HiRA: the frozen weight itself, modulated by a low-rank matrix. Huang et al. 2025, ICLR."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lorabench.methods.factors import uniform
from lorabench.methods.wrapper import SplitWrapper, wrap


class HiRALayer(SplitWrapper):
    """`inner(x) + x @ (W0ᵀ ⊙ A B)`, with `inner` frozen: ΔW can have the full rank of W0.

    Args:
        inner: a linear layer, n inputs to m outputs, W0 of shape (m, n).
        k: the rank. A has shape (n, k), from U(-1/√n, 1/√n); B has shape (k, m) and is zero.
    """

    def __init__(self, inner: nn.Linear, k: int) -> None:
        super().__init__(inner)
        n = self.in_features
        self.A = self.own(uniform(n, k, fan=n))
        self.B = self.own(torch.zeros(k, self.out_features))

    def tuned(self, x: Tensor, frozen: Tensor) -> Tensor:
        """`frozen + x @ (W0ᵀ ⊙ A B)`."""
        return frozen + x @ (self.W0 * (self.A @ self.B).t()).t()

    def merged_weight(self) -> Tensor:
        """W1 = W0 ⊙ (1 + (AB)ᵀ)."""
        return self.W0 * (1 + (self.A @ self.B).t())


def apply(model: nn.Module, targets: Iterable[str], *, k: int) -> None:
    """Put a `HiRALayer` around each of the linear layers named by `targets`."""
    wrap(model, targets, lambda inner: HiRALayer(inner, k))
