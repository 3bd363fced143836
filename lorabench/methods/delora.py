"""DeLoRA: LoRA whose direction and strength learn apart. Bini et al. 2025, arXiv:2503.18225."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lorabench.methods.factors import uniform
from lorabench.methods.wrapper import SplitWrapper, wrap


class DeLoRALayer(SplitWrapper):
    """`inner(x) + λ/k (x · ‖W0‖) A Ξ B`, with `inner` frozen: k directions of one length, λ/k ‖W0‖.

    Ξ_i = 1 / (‖a_i‖ ‖b_i‖), a_i the columns of A and b_i the rows of B; ‖W0‖ (n,) the norm of each column of W0, as in
    the authors' code in PEFT, where the paper has the norm of W0.

    Args:
        inner: a linear layer, n inputs to m outputs, W0 of shape (m, n).
        k: the rank. A has shape (n, k), from U(-1/√n, 1/√n); B has shape (k, m) and is zero. No norm counts as less
            than 1e-4, so that there is a way out of zero; the first step takes B to its full length.
        strength: λ at birth, of shape (1,); trained.
    """

    def __init__(self, inner: nn.Linear, k: int, strength: float) -> None:
        super().__init__(inner)
        n = self.in_features
        self.A = self.own(uniform(n, k, fan=n))
        self.B = self.own(torch.zeros(k, self.out_features))
        self.strength = self.own(torch.tensor([strength]))

    @property
    def norms(self) -> Tensor:
        """‖W0‖, (n,)."""
        return self.W0.square().sum(0).sqrt()

    def factor(self) -> Tensor:
        """λ/k Ξ, (k,)."""
        a, b = (t.square().sum(0).clamp(min=1e-4**2).sqrt() for t in (self.A, self.B.t()))
        return self.strength / len(self.B) / (a * b)

    def tuned(self, x: Tensor, frozen: Tensor) -> Tensor:
        """`frozen + λ/k (x · ‖W0‖) A Ξ B`."""
        return frozen + ((x * self.norms) @ self.A * self.factor()) @ self.B

    def merged_weight(self) -> Tensor:
        """W1 = W0 + λ/k (diag(‖W0‖) A Ξ B)ᵀ."""
        return self.W0 + (self.A * self.factor() @ self.B).t() * self.norms


def apply(model: nn.Module, targets: Iterable[str], *, k: int, strength: float) -> None:
    """Put a `DeLoRALayer` around each of the linear layers named by `targets`."""
    wrap(model, targets, lambda inner: DeLoRALayer(inner, k, strength))
