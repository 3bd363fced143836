"""rsLoRA: LoRA whose scale keeps its size across ranks. Kalajdzievski 2023, arXiv:2312.03732."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterable


class RsLoRALayer(nn.Module):
    """`inner(x) + α/√k x @ A @ B`, with `inner` frozen (the paper's section 3: α/√k is rank-stabilised, α/k is not).

    Args:
        inner: a linear layer, n inputs to m outputs.
        k: the rank. A has shape (n, k), from U(-1/√n, 1/√n); B has shape (k, m) and is zero.
        alpha: α. At one rank this is LoRA with its α times √k; it differs in a sweep of ranks.
    """

    def __init__(self, inner: nn.Linear, k: int, alpha: float = 2.0) -> None:
        super().__init__()
        self.inner = inner.requires_grad_(False)
        n = inner.in_features
        self.scale = alpha / math.sqrt(k)
        # Drawn as (k, n): A kept column by column in memory makes the tall product x @ A several times faster.
        self.A = nn.Parameter(((2 * torch.rand(k, n) - 1) / math.sqrt(n)).to(inner.weight).t())
        self.B = nn.Parameter(torch.zeros(k, inner.out_features).to(inner.weight))

    def forward(self, x: Tensor) -> Tensor:
        """(..., n) to (..., m)."""
        return self.resume(*self.constants(x))

    def constants(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The frozen half: x itself and `inner(x)`."""
        return x, self.inner(x)

    def resume(self, x: Tensor, frozen: Tensor) -> Tensor:
        """The trainable half."""
        low = x @ self.A
        if x.dim() == 2:  # one call instead of two; batches of sequences have no such call
            return torch.addmm(frozen, low, self.B, alpha=self.scale)
        return frozen + self.scale * (low @ self.B)

    def merged(self) -> nn.Linear:
        """One plain layer: W1 = W0 + α/√k (AB)ᵀ."""
        layer = copy.deepcopy(self.inner)
        layer.weight.data += self.scale * (self.A.detach() @ self.B.detach()).t()
        return layer


def apply(model: nn.Module, targets: Iterable[str], *, k: int, alpha: float) -> None:
    """Put an `RsLoRALayer` around each of the linear layers named by `targets`."""
    for name in targets:
        inner = model.get_submodule(name)
        assert isinstance(inner, nn.Linear)
        model.set_submodule(name, RsLoRALayer(inner, k, alpha))
