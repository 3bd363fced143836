"""DoRA: the weight's magnitude and its direction learn apart. Liu et al. 2024, arXiv:2402.09353."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from lorabench.methods.factors import uniform
from lorabench.methods.wrapper import SplitWrapper, wrap


class DoRALayer(SplitWrapper):
    """`x @ W'ᵀ + b` with `W' = g · V / ‖V‖`, `V = W0 + (AB)ᵀ`, ‖V‖ the norm of each row: one for each output unit.

    The norm counts as a constant in the gradient (the paper's section 4.3). It is found without V itself, from
    ‖V_j‖² = ‖W0_j‖² + 2 (W0 A B)_jj + (Bᵀ AᵀA B)_jj. A row of zeros has no direction: its magnitude 0 stays, and so
    does the row, where the formula, and PEFT, divide zero by zero.

    Args:
        inner: a linear layer, n inputs to m outputs, W0 of shape (m, n); frozen.
        k: the rank. A has shape (n, k), from U(-1/√n, 1/√n); B has shape (k, m) and is zero. The magnitude g has
            shape (m,) and begins as ‖W0‖.
    """

    def __init__(self, inner: nn.Linear, k: int) -> None:
        super().__init__(inner)
        n = self.in_features
        self.At = self.own(uniform(k, n, fan=n))  # transposed, as in `LowRank`
        self.B = self.own(torch.zeros(k, self.out_features))
        self.g = self.own(self.norm())

    @property
    def A(self) -> Tensor:
        """(n, k), a view."""
        return self.At.t()

    @torch.no_grad()
    def norm(self) -> Tensor:
        """‖V‖ of each row, (m,)."""
        W0, A, B = self.W0, self.A, self.B
        cross = ((W0 @ A).t() * B).sum(0)
        square = ((A.t() @ A @ B) * B).sum(0)
        return (W0.square().sum(1) + 2 * cross + square).clamp(min=0).sqrt()

    def factor(self) -> Tensor:
        """c = g / ‖V‖ of each row, (m,)."""
        return self.g / self.norm().clamp(min=torch.finfo(self.g.dtype).tiny)

    def tuned(self, x: Tensor, frozen: Tensor) -> Tensor:
        """c · (inner(x) - b + x @ A @ B) + b."""
        c = self.factor()
        b = cast("nn.Parameter | None", self.inner.bias)
        straight = frozen if b is None else frozen - b
        # In an order that gives `frozen` itself at birth, when c is 1.
        return frozen + (c - 1) * straight + c * (x @ self.A @ self.B)

    def merged_weight(self) -> Tensor:
        """W1 = W'."""
        V = self.W0 + (self.A @ self.B).t()
        return self.factor()[:, None] * V


def apply(model: nn.Module, targets: Iterable[str], *, k: int) -> None:
    """Put a `DoRALayer` around each of the linear layers named by `targets`."""
    wrap(model, targets, lambda inner: DoRALayer(inner, k))
