"""MiSS: one small matrix shared by groups of inputs. Kang & Yin 2024, arXiv:2409.15371 (first called Bone)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorabench.methods.factors import add_low_rank
from lorabench.methods.wrapper import SplitWrapper, wrap


class MiSSLayer(SplitWrapper):
    """`inner(x) + S(x) @ D`, with `inner` frozen and S(x) the sum of x's consecutive groups of k inputs.

    Args:
        inner: a linear layer, n inputs to m outputs.
        k: the rank. D has shape (k, m) and is zero; the rows of ΔWᵀ are those of D, repeated over the n inputs.
    """

    def __init__(self, inner: nn.Linear, k: int) -> None:
        super().__init__(inner)
        self.D = self.own(torch.zeros(k, self.out_features))

    def frozen_part(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The frozen part: S(x) (..., k), the last group filled up with zeros, and `inner(x)`."""
        k, added = len(self.D), x.to(self.dtype)
        return F.pad(added, (0, -x.shape[-1] % k)).reshape(*x.shape[:-1], -1, k).sum(-2), self.inner(x)

    def tuned(self, summed: Tensor, frozen: Tensor) -> Tensor:
        """`frozen + S(x) @ D`."""
        return add_low_rank(frozen, summed, self.D)

    def merged_weight(self) -> Tensor:
        """Input i adds row i mod k of D: W1 = W0 + (D repeated)ᵀ."""
        rows = torch.arange(self.in_features, device=self.D.device) % len(self.D)
        return self.W0 + self.D[rows].t()


def apply(model: nn.Module, targets: Iterable[str], *, k: int) -> None:
    """Put a `MiSSLayer` around each of the linear layers named by `targets`."""
    wrap(model, targets, lambda inner: MiSSLayer(inner, k))
