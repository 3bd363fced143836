"""MiSS: one small matrix shared by groups of inputs. Kang & Yin 2024, arXiv:2409.15371 (first called Bone)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorabench.methods.low_rank import add_low_rank
from lorabench.methods.wrapper import Wrapper, wrap

if TYPE_CHECKING:
    from collections.abc import Iterable


class MiSSLayer(Wrapper):
    """`inner(x) + S(x) @ D`, with `inner` frozen and S(x) the sum of x's consecutive groups of k inputs.

    Args:
        inner: a linear layer, n inputs to m outputs.
        k: the rank. D has shape (k, m) and is zero; the rows of ΔWᵀ are those of D, repeated over the n inputs.
    """

    def __init__(self, inner: nn.Linear, k: int) -> None:
        super().__init__(inner)
        self.D = nn.Parameter(torch.zeros(k, inner.out_features).to(inner.weight))

    def forward(self, x: Tensor) -> Tensor:
        """(..., n) to (..., m)."""
        return self.trainable_part(*self.frozen_part(x))

    def frozen_part(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The frozen part: S(x) (..., k), the last group filled up with zeros, and `inner(x)`."""
        k = len(self.D)
        return F.pad(x, (0, -x.shape[-1] % k)).reshape(*x.shape[:-1], -1, k).sum(-2), self.inner(x)

    def trainable_part(self, summed: Tensor, frozen: Tensor) -> Tensor:
        """The trainable part."""
        return add_low_rank(frozen, summed, self.D)

    @property
    def weight(self) -> Tensor:
        """Input i adds row i mod k of D: W1 = W0 + (D repeated)ᵀ."""
        rows = torch.arange(self.in_features, device=self.D.device) % len(self.D)
        return self.inner.weight + self.D[rows].t()


def apply(model: nn.Module, targets: Iterable[str], *, k: int) -> None:
    """Put a `MiSSLayer` around each of the linear layers named by `targets`."""
    wrap(model, targets, lambda inner: MiSSLayer(inner, k))
