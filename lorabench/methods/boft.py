"""BOFT: rotate the weights by a product of sparse rotations, a butterfly. Liu et al. 2023, arXiv:2311.06243."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lorabench.errors import UsageError
from lorabench.methods.factors import cayley
from lorabench.methods.wrapper import RemadeWrapper, wrap


class BOFTLayer(RemadeWrapper):
    """`x @ W1ᵀ + b` with `W1 = diag(s) W0 B_1ᵀ B_2ᵀ …`, W0 and b frozen, every B_i orthogonal.

    B_i turns blocks of b inputs: of each run of 2^i b/2 inputs, it pairs the j-th b/2 with those half a run further on,
    so that with each factor twice as many inputs mix. B_1 alone is OFT's R.

    Args:
        inner: a linear layer, n inputs to m outputs, W0 of shape (m, n).
        block: b, even.
        factors: how many B_i; the paper's m. S, upper triangles as in OFT, has shape (factors, n/b, b(b-1)/2) and is
            zero at birth; s (m,), which the authors' code adds, is one.

    Raises:
        UsageError: n is no multiple of the longest run.
    """

    def __init__(self, inner: nn.Linear, block: int, factors: int) -> None:
        super().__init__(inner)
        n, run = self.in_features, block * 2 ** (factors - 1)
        if n % run:
            raise UsageError(f"boft cannot cut {n} inputs into runs of {run}, which {factors} factors need")
        self.block = block
        self.S = self.own(torch.zeros(factors, n // block, block * (block - 1) // 2))
        self.s = self.own(torch.ones(self.out_features))

    def merged_weight(self) -> Tensor:
        """W1, one factor after the other."""
        turned, m, half = self.W0, self.out_features, self.block // 2
        for i, R in enumerate(cayley(self.S, self.block)):
            pairs = turned.reshape(m, -1, 2, 2**i, half).transpose(2, 3).reshape(m, -1, self.block)
            turned = torch.einsum("mgj,gij->mgi", pairs, R)
            turned = turned.reshape(m, -1, 2**i, 2, half).transpose(2, 3).reshape(m, -1)
        return self.s[:, None] * turned


def apply(model: nn.Module, targets: Iterable[str], *, block: int, factors: int) -> None:
    """Put a `BOFTLayer` around each of the linear layers named by `targets`."""
    wrap(model, targets, lambda inner: BOFTLayer(inner, block, factors))
