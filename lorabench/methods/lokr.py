"""LoKr: a Kronecker product as update. Yeh et al. 2023, arXiv:2309.14859 (LyCORIS)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lorabench.methods.low_rank import uniform
from lorabench.methods.registry import square
from lorabench.methods.wrapper import Wrapper, wrap

if TYPE_CHECKING:
    from collections.abc import Iterable


class LoKrLayer(Wrapper):
    """`inner(x) + x @ (C ⊗ D1 D2)ᵀ`, with `inner` frozen.

    Args:
        inner: a linear layer, n = n1·n2 inputs to m = m1·m2 outputs, see `square`.
        k: the rank of the right factor. C has shape (m1, n1) and is zero; D1 has shape (m2, k), from U(-1/√k, 1/√k); D2
            has shape (k, n2), from U(-1/√n2, 1/√n2).
    """

    def __init__(self, inner: nn.Linear, k: int) -> None:
        super().__init__(inner)
        (n1, n2), (m1, m2) = square(inner.in_features), square(inner.out_features)
        self.C = nn.Parameter(torch.zeros(m1, n1).to(inner.weight))
        self.D1 = nn.Parameter(uniform(m2, k, fan=k).to(inner.weight))
        self.D2 = nn.Parameter(uniform(k, n2, fan=n2).to(inner.weight))

    def forward(self, x: Tensor) -> Tensor:
        """(..., n) to (..., m)."""
        return self.trainable_part(*self.frozen_part(x))

    def frozen_part(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The frozen half: x itself and `inner(x)`."""
        return x, self.inner(x)

    def trainable_part(self, x: Tensor, frozen: Tensor) -> Tensor:
        """The trainable half. With X (n1, n2) for x, (C ⊗ D) x is C X Dᵀ."""
        X = x.reshape(*x.shape[:-1], self.C.shape[1], self.D2.shape[1])
        return frozen + (self.C @ (X @ self.D2.t() @ self.D1.t())).flatten(-2)

    @property
    def weight(self) -> Tensor:
        """W1 = W0 + C ⊗ D1 D2."""
        return self.inner.weight + torch.kron(self.C, self.D1 @ self.D2)


def apply(model: nn.Module, targets: Iterable[str], *, k: int) -> None:
    """Put a `LoKrLayer` around each of the linear layers named by `targets`."""
    wrap(model, targets, lambda inner: LoKrLayer(inner, k))
