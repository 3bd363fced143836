"""LoKr: a Kronecker product as update. Yeh et al. 2023, arXiv:2309.14859 (LyCORIS)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lorabench.methods.factors import uniform
from lorabench.methods.registry import square
from lorabench.methods.wrapper import SplitWrapper, wrap


class LoKrLayer(SplitWrapper):
    """`inner(x) + x @ (C ⊗ D1 D2)ᵀ`, with `inner` frozen.

    Args:
        inner: a linear layer, n = n1·n2 inputs to m = m1·m2 outputs, see `square`.
        k: the rank of the right factor. C has shape (m1, n1) and is zero; D1 has shape (m2, k), from U(-1/√k, 1/√k); D2
            has shape (k, n2), from U(-1/√n2, 1/√n2). Here D1 D2 is a product at every k; PEFT trains and draws one full
            matrix (m2, n2) in its place where k is at least half the larger of m2 and n2 (in the talk's classifier, on
            fc3 from k = 8 on).
    """

    def __init__(self, inner: nn.Linear, k: int) -> None:
        super().__init__(inner)
        (n1, n2), (m1, m2) = square(self.in_features), square(self.out_features)
        self.C = self.own(torch.zeros(m1, n1))
        self.D1 = self.own(uniform(m2, k, fan=k))
        self.D2 = self.own(uniform(k, n2, fan=n2))

    def tuned(self, x: Tensor, frozen: Tensor) -> Tensor:
        """`frozen + x @ (C ⊗ D1 D2)ᵀ`. With X (n1, n2) for x, (C ⊗ D) x is C X Dᵀ."""
        X = x.reshape(*x.shape[:-1], self.C.shape[1], self.D2.shape[1])
        return frozen + (self.C @ (X @ self.D2.t() @ self.D1.t())).flatten(-2)

    def merged_weight(self) -> Tensor:
        """W1 = W0 + C ⊗ D1 D2."""
        return self.W0 + torch.kron(self.C, self.D1 @ self.D2)


def apply(model: nn.Module, targets: Iterable[str], *, k: int) -> None:
    """Put a `LoKrLayer` around each of the linear layers named by `targets`."""
    wrap(model, targets, lambda inner: LoKrLayer(inner, k))
