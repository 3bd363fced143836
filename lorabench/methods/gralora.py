"""GraLoRA: a LoRA of its own for each block of the weight. Jung et al. 2025, arXiv:2505.20355."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lorabench.errors import UsageError
from lorabench.methods.factors import uniform
from lorabench.methods.wrapper import SplitWrapper, wrap


class GraLoRALayer(SplitWrapper):
    """`inner(x) + x @ R`, with `inner` frozen and R (n, m) cut into g x g blocks, each a product of rank k/g.

    R_ij = A_ij B_ij takes the i-th share of the inputs to the j-th of the outputs. There are as many parameters as LoRA
    of rank k has, and R can have the rank g k.

    Args:
        inner: a linear layer, n inputs to m outputs.
        k: the rank that LoRA would have with as many parameters.
        blocks: g, the paper's k. A has shape (g, n/g, g, k/g): A_ij is A[i, :, j]; from U(-1/√(n/g), 1/√(n/g)). B has
            shape (g, g, k/g, m/g): B_ij is B[i, j]; it is zero.

    Raises:
        UsageError: n, m or k is no multiple of g.
    """

    def __init__(self, inner: nn.Linear, k: int, blocks: int) -> None:
        super().__init__(inner)
        n, m, g = self.in_features, self.out_features, blocks
        for size, name in ((n, "inputs"), (m, "outputs"), (k, "ranks")):
            if size % g:
                raise UsageError(f"gralora cannot share {size} {name} among {g} blocks")
        self.A = self.own(uniform(g, n // g, g, k // g, fan=n // g))
        self.B = self.own(torch.zeros(g, g, k // g, m // g))

    def tuned(self, x: Tensor, frozen: Tensor) -> Tensor:
        """`frozen + x @ R`."""
        low = torch.einsum("...ia,iajr->...ijr", x.unflatten(-1, (len(self.A), -1)), self.A)
        return frozen + torch.einsum("...ijr,ijro->...jo", low, self.B).flatten(-2)

    def merged_weight(self) -> Tensor:
        """W1 = W0 + Rᵀ."""
        R = torch.einsum("iajr,ijro->iajo", self.A, self.B)
        return self.W0 + R.reshape(self.in_features, self.out_features).t()


def apply(model: nn.Module, targets: Iterable[str], *, k: int, blocks: int) -> None:
    """Put a `GraLoRALayer` around each of the linear layers named by `targets`."""
    wrap(model, targets, lambda inner: GraLoRALayer(inner, k, blocks))
