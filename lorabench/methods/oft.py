"""OFT: rotate the weights, block by block. Qiu et al. 2023, arXiv:2306.07280."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lorabench.errors import UsageError
from lorabench.methods.factors import cayley
from lorabench.methods.wrapper import Wrapper, wrap


class OFTLayer(Wrapper):
    """`inner(x R)`, with `inner` frozen and R = diag(R_1, R_2, …) orthogonal: angles between the rows of W0 stay.

    R_i = (I + S_i)(I - S_i)⁻¹ with S_i skew-symmetric, the Cayley transform.

    Args:
        inner: a linear layer, n inputs to m outputs.
        block: the side b of a block. S, the upper triangles of all S_i, has shape (n/b, b(b-1)/2) and is zero at birth.

    Raises:
        UsageError: n is no multiple of b.
    """

    def __init__(self, inner: nn.Linear, block: int) -> None:
        super().__init__(inner)
        if self.in_features % block:
            raise UsageError(f"oft cannot cut {self.in_features} inputs into blocks of {block}")
        self.block = block
        self.S = self.own(torch.zeros(self.in_features // block, block * (block - 1) // 2))

    def rotation(self) -> Tensor:
        """R_1, R_2, …: (n/b, b, b)."""
        return cayley(self.S, self.block)

    def forward(self, x: Tensor) -> Tensor:
        """(..., n) to (..., m)."""
        blocks = x.to(self.dtype).reshape(*x.shape[:-1], -1, self.block)
        return self.inner(torch.einsum("...gi,gij->...gj", blocks, self.rotation()).flatten(-2).to(x.dtype))

    def merged_weight(self) -> Tensor:
        """W1 = W0 Rᵀ."""
        blocks = self.W0.reshape(self.out_features, -1, self.block)
        return torch.einsum("mgj,gij->mgi", blocks, self.rotation()).flatten(-2)


def apply(model: nn.Module, targets: Iterable[str], *, block: int) -> None:
    """Put an `OFTLayer` around each of the linear layers named by `targets`."""
    wrap(model, targets, lambda inner: OFTLayer(inner, block))
