"""LoHa: a Hadamard product of two low-rank updates. Hyeon-Woo et al. 2021, arXiv:2108.06098 (FedPara); as an adapter,
Yeh et al. 2023, arXiv:2309.14859 (LyCORIS)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lorabench.methods.wrapper import SplitWrapper, wrap


class LoHaLayer(SplitWrapper):
    """`inner(x) + x @ (A1 B1 ⊙ A2 B2)`, with `inner` frozen: an update of rank up to k² (FedPara's proposition 1).

    Args:
        inner: a linear layer, n inputs to m outputs.
        k: the rank of each factor. A1 and A2 have shape (n, k) and are from N(0, 1); B1 and B2 have shape (k, m), B1
            from N(0, 0.1²), B2 zero, as LyCORIS draws them; PEFT draws A1, B1 and one of the others from U(-1/√fan,
            1/√fan), fan the columns of each as PEFT stores it.
    """

    def __init__(self, inner: nn.Linear, k: int) -> None:
        super().__init__(inner)
        n, m = self.in_features, self.out_features
        self.A1 = self.own(torch.randn(n, k))
        self.B1 = self.own(0.1 * torch.randn(k, m))
        self.A2 = self.own(torch.randn(n, k))
        self.B2 = self.own(torch.zeros(k, m))

    def tuned(self, x: Tensor, frozen: Tensor) -> Tensor:
        """`frozen + x @ (A1 B1 ⊙ A2 B2)`."""
        return frozen + x @ ((self.A1 @ self.B1) * (self.A2 @ self.B2))

    def merged_weight(self) -> Tensor:
        """W1 = W0 + (A1 B1 ⊙ A2 B2)ᵀ."""
        return self.W0 + ((self.A1 @ self.B1) * (self.A2 @ self.B2)).t()


def apply(model: nn.Module, targets: Iterable[str], *, k: int) -> None:
    """Put a `LoHaLayer` around each of the linear layers named by `targets`."""
    wrap(model, targets, lambda inner: LoHaLayer(inner, k))
