"""VeRA: two vectors per layer between random matrices that all layers share. Kopiczko et al. 2023, arXiv:2310.11454."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from lorabench.methods.factors import Shared
from lorabench.methods.wrapper import SplitWrapper, sides, wrap


class VeRALayer(SplitWrapper):
    """`inner(x) + b · (VB (d · (VA x)))`, with `inner`, VA and VB frozen: the paper's Λ_b B Λ_d A, equation 2.

    Args:
        inner: a linear layer, n inputs to m outputs.
        shared: VA (k, N), N ≥ n, of which the layer uses the first n columns, and VB (M, k), M ≥ m, of which it uses
            the first m rows. d (k,) is 0.1 at birth, b (m,) is zero.
    """

    VA: Tensor = Shared.matrix("VA")
    VB: Tensor = Shared.matrix("VB")

    def __init__(self, inner: nn.Linear, shared: Shared) -> None:
        super().__init__(inner)
        self.borrowed = (shared,)
        self.d = self.own(torch.full((len(self.VA),), 0.1))
        self.b = self.own(torch.zeros(self.out_features))

    @property
    def A(self) -> Tensor:
        """(n, k), as LoRA's: ΔW = (A B)ᵀ."""
        return (self.d[:, None] * self.VA[:, : self.in_features]).t()

    @property
    def B(self) -> Tensor:
        """(k, m), as LoRA's."""
        return (self.b[:, None] * self.VB[: self.out_features]).t()

    def frozen_part(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The frozen part: `x @ VAᵀ` and `inner(x)`."""
        return x.to(self.dtype) @ self.VA[:, : self.in_features].t(), self.inner(x)

    def tuned(self, low: Tensor, frozen: Tensor) -> Tensor:
        """`frozen + b · (VB (d · low))`."""
        return frozen + ((low * self.d) @ self.VB[: self.out_features].t()) * self.b

    def merged_weight(self) -> Tensor:
        """W1 = W0 + diag(b) VB diag(d) VA."""
        return self.W0 + (self.b[:, None] * self.VB[: self.out_features] * self.d) @ self.VA[:, : self.in_features]


def apply(model: nn.Module, targets: Sequence[str], *, k: int) -> None:
    """Put a `VeRALayer` around each of the linear layers named by `targets`.

    VA (k, N) and VB (M, k) are as large as the largest of them needs, frozen, from U(-√(6/N), √(6/N)) and
    U(-√(6/k), √(6/k)) (Kaiming). A run does not save them: its seed draws them again.
    """
    layers = [cast("nn.Linear", model.get_submodule(name)) for name in targets]
    N, M = (max(lengths) for lengths in zip(*map(sides, layers), strict=True))
    VA, VB = (2 * torch.rand(k, N) - 1) * math.sqrt(6 / N), (2 * torch.rand(M, k) - 1) * math.sqrt(6 / k)
    shared = Shared(layers[0].weight, VA=VA, VB=VB)
    wrap(model, targets, lambda inner: VeRALayer(inner, shared))[0].add_module("shared", shared)
