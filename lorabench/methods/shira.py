"""SHiRA: train a few of the weights themselves, anywhere in the matrix. Bhardwaj et al. 2024, arXiv:2406.13175."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lorabench.methods.wrapper import RemadeWrapper, wrap


class SHiRALayer(RemadeWrapper):
    """`x @ W1ᵀ + b` with `W1 = W0 + S`, W0 and b frozen; S is sparse, its mask random (the paper's SHiRA-Rand).

    Args:
        inner: a linear layer, n inputs to m outputs, W0 of shape (m, n).
        k: the rank that LoRA would have with as many parameters: k (n + m) entries of S are trained, or all n m if that
            is fewer. Their rows and columns, the mask (2, k (n + m)), are drawn without repetition and frozen; a run
            does not save them, its seed draws them again. Their values, S (k (n + m),), are zero at birth.
    """

    def __init__(self, inner: nn.Linear, k: int) -> None:
        super().__init__(inner)
        n, m = self.in_features, self.out_features
        places = torch.randperm(n * m)[: k * (n + m)]
        self.S = self.own(torch.zeros(len(places)))
        self.register_buffer("mask", torch.stack([places // n, places % n]).to(inner.weight.device))

    def merged_weight(self) -> Tensor:
        """W1 = W0 + S."""
        return self.W0.index_put(tuple(self.get_buffer("mask")), self.S, accumulate=True)


def apply(model: nn.Module, targets: Iterable[str], *, k: int) -> None:
    """Put a `SHiRALayer` around each of the linear layers named by `targets`."""
    wrap(model, targets, lambda inner: SHiRALayer(inner, k))
