"""DoRA: the weight's magnitude and its direction learn apart. Liu et al. 2024, arXiv:2402.09353."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterable


class DoRALayer(nn.Module):
    """`x @ W'ᵀ + b` with `W' = g · V / ‖V‖`, `V = W0 + (AB)ᵀ`, ‖V‖ the norm of each row: one for each output unit.

    The norm counts as a constant in the gradient (the paper's section 4.3). It is found without V itself, from
    ‖V_j‖² = ‖W0_j‖² + 2 (W0 A B)_jj + (Bᵀ AᵀA B)_jj.

    Args:
        inner: a linear layer, n inputs to m outputs, W0 of shape (m, n); frozen.
        k: the rank. A has shape (n, k), from U(-1/√n, 1/√n); B has shape (k, m) and is zero. The magnitude g has
            shape (m,) and begins as ‖W0‖.
    """

    def __init__(self, inner: nn.Linear, k: int) -> None:
        super().__init__()
        self.inner = inner.requires_grad_(False)
        n = inner.in_features
        # Drawn as (k, n): A kept column by column in memory makes the tall product x @ A several times faster.
        self.A = nn.Parameter(((2 * torch.rand(k, n) - 1) / math.sqrt(n)).to(inner.weight).t())
        self.B = nn.Parameter(torch.zeros(k, inner.out_features).to(inner.weight))
        self.g = nn.Parameter(self.norm())

    @torch.no_grad()
    def norm(self) -> Tensor:
        """‖V‖ of each row, (m,)."""
        W0, A, B = self.inner.weight, self.A, self.B
        cross = ((W0 @ A).t() * B).sum(0)
        square = ((A.t() @ A @ B) * B).sum(0)
        return (W0.square().sum(1) + 2 * cross + square).sqrt()

    def forward(self, x: Tensor) -> Tensor:
        """(..., n) to (..., m)."""
        return self.resume(*self.constants(x))

    def constants(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The frozen half: x itself and `inner(x)`."""
        return x, self.inner(x)

    def resume(self, x: Tensor, frozen: Tensor) -> Tensor:
        """The trainable half."""
        c = self.g / self.norm()
        b = cast("nn.Parameter | None", self.inner.bias)
        straight = frozen if b is None else frozen - b
        # c · (straight + x @ A @ B) + b, in an order that gives `frozen` itself at birth, when c is 1.
        return frozen + (c - 1) * straight + c * (x @ self.A @ self.B)

    def merged(self) -> nn.Linear:
        """One plain layer: W1 = W'."""
        layer = copy.deepcopy(self.inner)
        V = self.inner.weight + (self.A.detach() @ self.B.detach()).t()
        layer.weight.data = (self.g.detach() / self.norm())[:, None] * V
        return layer


def apply(model: nn.Module, targets: Iterable[str], *, k: int) -> None:
    """Put a `DoRALayer` around each of the linear layers named by `targets`."""
    for name in targets:
        inner = model.get_submodule(name)
        assert isinstance(inner, nn.Linear)
        model.set_submodule(name, DoRALayer(inner, k))
