"""rsLoRA: LoRA whose scale keeps its size across ranks. Kalajdzievski 2023, arXiv:2312.03732."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from lorabench.methods.factors import LowRank, uniform
from lorabench.methods.wrapper import sides, wrap


class RsLoRALayer(LowRank):
    """`inner(x) + α/√k x @ A @ B`, with `inner` frozen (the paper's section 3: α/√k is rank-stabilised, α/k is not).

    Args:
        inner: a linear layer, n inputs to m outputs.
        k: the rank. A has shape (n, k), from U(-1/√n, 1/√n); B has shape (k, m) and is zero.
        alpha: α. At one rank this is LoRA with its α times √k; it differs in a sweep of ranks.
    """

    def __init__(self, inner: nn.Linear, k: int, alpha: float = 2.0) -> None:
        n, m = sides(inner)
        super().__init__(inner, uniform(k, n, fan=n), torch.zeros(k, m), alpha / math.sqrt(k))


def apply(model: nn.Module, targets: Iterable[str], *, k: int, alpha: float) -> None:
    """Put an `RsLoRALayer` around each of the linear layers named by `targets`."""
    wrap(model, targets, lambda inner: RsLoRALayer(inner, k, alpha))
