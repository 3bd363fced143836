"""LoRA+: LoRA whose B learns faster than its A. Hayou et al. 2024, arXiv:2402.12354."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from lorabench.methods.factors import LowRank, uniform
from lorabench.methods.wrapper import sides, wrap


class LoRAPlusLayer(LowRank):
    """`inner(x) + x @ A @ B`, with `inner` frozen and the learning rates η of A, λη of B (the paper's section 5).

    Args:
        inner: a linear layer, n inputs to m outputs.
        k: the rank. A has shape (n, k), from U(-1/√n, 1/√n); B has shape (k, m) and is zero.
        ratio: λ.
    """

    def __init__(self, inner: nn.Linear, k: int, ratio: float = 16.0) -> None:
        n, m = sides(inner)
        super().__init__(inner, uniform(k, n, fan=n), torch.zeros(k, m))
        self.lr_scales = {"B": ratio}


def apply(model: nn.Module, targets: Iterable[str], *, k: int, ratio: float) -> None:
    """Put a `LoRAPlusLayer` around each of the linear layers named by `targets`."""
    wrap(model, targets, lambda inner: LoRAPlusLayer(inner, k, ratio))
