"""HRA: turn the weights by a chain of reflections. Yuan et al. 2024, arXiv:2405.17484."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorabench.methods.factors import uniform
from lorabench.methods.wrapper import RemadeWrapper, wrap


class HRALayer(RemadeWrapper):
    """`x @ W1ᵀ + b` with `W1 = W0 H_1 H_2 … H_k`, W0 and b frozen, and `H_i = I - 2 u_i u_iᵀ / ‖u_i‖²` reflections.

    ΔW has rank k at most, and the product of the H_i is orthogonal: angles between the rows of W0 stay.

    Args:
        inner: a linear layer, n inputs to m outputs, W0 of shape (m, n).
        k: the number of reflections, even. Uᵀ, with the rows u_1, …, u_k, has shape (k, n), from U(-1/√n, 1/√n), two
            and two alike, so that at birth each reflection undoes the one before it (the paper's section 4).
    """

    def __init__(self, inner: nn.Linear, k: int) -> None:
        super().__init__(inner)
        n = self.in_features
        self.Ut = self.own(uniform(k // 2, n, fan=n).repeat_interleave(2, dim=0))

    def merged_weight(self) -> Tensor:
        """W1, one reflection after the other: W H = W - 2 (W u) uᵀ for u of length 1."""
        turned = self.W0
        for u in F.normalize(self.Ut):
            turned = turned - 2 * torch.outer(turned @ u, u)
        return turned


def apply(model: nn.Module, targets: Iterable[str], *, k: int) -> None:
    """Put an `HRALayer` around each of the linear layers named by `targets`."""
    wrap(model, targets, lambda inner: HRALayer(inner, k))
