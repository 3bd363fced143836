"""LoRA-FA: LoRA with A frozen where it was drawn. Zhang et al. 2023, arXiv:2308.03303."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterable


class LoRAFALayer(nn.Module):
    """`inner(x) + x @ A @ B`, with `inner` and A frozen: only x @ A, k numbers wide, is kept for the backward pass.

    Args:
        inner: a linear layer, n inputs to m outputs.
        k: the rank. A has shape (n, k), from U(-1/√n, 1/√n); it is not saved, the seed draws it again. B has shape
            (k, m) and is zero.
    """

    def __init__(self, inner: nn.Linear, k: int) -> None:
        super().__init__()
        self.inner = inner.requires_grad_(False)
        n = inner.in_features
        A = ((2 * torch.rand(k, n) - 1) / math.sqrt(n)).to(inner.weight).t()
        self.A = nn.Parameter(A, requires_grad=False)
        self.B = nn.Parameter(torch.zeros(k, inner.out_features).to(inner.weight))

    def forward(self, x: Tensor) -> Tensor:
        """(..., n) to (..., m)."""
        return self.resume(*self.constants(x))

    def constants(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The frozen part: `x @ A` and `inner(x)`."""
        return x @ self.A, self.inner(x)

    def resume(self, low: Tensor, frozen: Tensor) -> Tensor:
        """The trainable part."""
        if low.dim() == 2:  # one call instead of two; batches of sequences have no such call
            return torch.addmm(frozen, low, self.B)
        return frozen + low @ self.B

    def merged(self) -> nn.Linear:
        """One plain layer: W1 = W0 + (AB)ᵀ."""
        layer = copy.deepcopy(self.inner)
        layer.weight.data += (self.A @ self.B.detach()).t()
        return layer


def apply(model: nn.Module, targets: Iterable[str], *, k: int) -> None:
    """Put a `LoRAFALayer` around each of the linear layers named by `targets`."""
    for name in targets:
        inner = model.get_submodule(name)
        assert isinstance(inner, nn.Linear)
        model.set_submodule(name, LoRAFALayer(inner, k))
