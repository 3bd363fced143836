"""VeRA: two vectors per layer between random matrices that all layers share. Kopiczko et al. 2023, arXiv:2310.11454."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lorabench.methods.wrapper import Wrapper, wrap

if TYPE_CHECKING:
    from collections.abc import Sequence


class VeRALayer(Wrapper):
    """`inner(x) + b · (VB (d · (VA x)))`, with `inner`, VA and VB frozen: the paper's Λ_b B Λ_d A, equation 2.

    Args:
        inner: a linear layer, n inputs to m outputs.
        VA: (k, N), N ≥ n; the layer uses the first n columns.
        VB: (M, k), M ≥ m; the layer uses the first m rows. d (k,) is 0.1 at birth, b (m,) is zero.
    """

    def __init__(self, inner: nn.Linear, VA: nn.Parameter, VB: nn.Parameter) -> None:
        super().__init__(inner)
        self.VA = VA
        self.VB = VB
        self.d = nn.Parameter(torch.full((len(VA),), 0.1).to(inner.weight))
        self.b = nn.Parameter(torch.zeros(inner.out_features).to(inner.weight))

    def forward(self, x: Tensor) -> Tensor:
        """(..., n) to (..., m)."""
        return self.trainable_part(*self.frozen_part(x))

    def frozen_part(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The frozen part: `x @ VAᵀ` and `inner(x)`."""
        return x @ self.VA[:, : self.inner.in_features].t(), self.inner(x)

    def trainable_part(self, low: Tensor, frozen: Tensor) -> Tensor:
        """The trainable part."""
        return frozen + ((low * self.d) @ self.VB[: self.inner.out_features].t()) * self.b

    @property
    def weight(self) -> Tensor:
        """W1 = W0 + diag(b) VB diag(d) VA."""
        m, n = self.inner.weight.shape
        return self.inner.weight + (self.b[:, None] * self.VB[:m] * self.d) @ self.VA[:, :n]


def apply(model: nn.Module, targets: Sequence[str], *, k: int) -> None:
    """Put a `VeRALayer` around each of the linear layers named by `targets`.

    VA and VB, as large as the largest of them needs, are from U(-√(6/N), √(6/N)) and U(-√(6/k), √(6/k)) (Kaiming). They
    are not saved: the seed draws them again.
    """
    layers = [layer for name in targets if isinstance(layer := model.get_submodule(name), nn.Linear)]
    N, M = max(layer.in_features for layer in layers), max(layer.out_features for layer in layers)
    VA = nn.Parameter(((2 * torch.rand(k, N) - 1) * math.sqrt(6 / N)).to(layers[0].weight), requires_grad=False)
    VB = nn.Parameter(((2 * torch.rand(M, k) - 1) * math.sqrt(6 / k)).to(layers[0].weight), requires_grad=False)
    wrap(model, targets, lambda inner: VeRALayer(inner, VA, VB))
