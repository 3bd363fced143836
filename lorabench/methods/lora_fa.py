"""LoRA-FA: LoRA with A frozen where it was drawn. Zhang et al. 2023, arXiv:2308.03303."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorabench.methods.factors import LowRank, add_low_rank, uniform
from lorabench.methods.wrapper import sides, wrap


class LoRAFALayer(LowRank):
    """`inner(x) + x @ A @ B`, with `inner` and A frozen: only x @ A, k numbers wide, is kept for the backward pass.

    Args:
        inner: a linear layer, n inputs to m outputs.
        k: the rank. A has shape (n, k), from U(-1/√n, 1/√n); a run does not save it, its seed draws it again. B has
            shape (k, m) and is zero.
    """

    def __init__(self, inner: nn.Linear, k: int) -> None:
        n, m = sides(inner)
        super().__init__(inner, uniform(k, n, fan=n), torch.zeros(k, m), learns=False)

    def frozen_part(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The frozen part: `x @ A` and `inner(x)`."""
        return F.linear(x.to(self.dtype), self.At), self.inner(x)

    def tuned(self, low: Tensor, frozen: Tensor, /) -> Tensor:
        """`frozen + low @ B`."""
        return add_low_rank(frozen, low, self.B)


def apply(model: nn.Module, targets: Iterable[str], *, k: int) -> None:
    """Put a `LoRAFALayer` around each of the linear layers named by `targets`."""
    wrap(model, targets, lambda inner: LoRAFALayer(inner, k))
