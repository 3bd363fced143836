"""RandLoRA: an update of full rank, of random matrices that vectors scale. Albert et al. 2025, arXiv:2502.00987."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from lorabench.methods.factors import Shared, uniform
from lorabench.methods.wrapper import RemadeWrapper, sides, wrap


class RandLoRALayer(RemadeWrapper):
    """`x @ W1ᵀ + b` with `W1 = W0 + s Σ_j B_j Λ_j A Γ_j`, W0, b, A and B frozen; where n > m, the sum transposed.

    Of p, the shorter side of W0, and q, its longer, it takes N = ⌈p/k⌉ summands of rank k, so that the rank is full.

    Args:
        inner: a linear layer, n inputs to m outputs, W0 of shape (m, n).
        shared: A (k, P), P ≥ p, of which the layer uses the first p columns, and B (Q, kN'), Q ≥ q and N' ≥ N, of which
            it uses the first q rows and kN columns: B_j are every N-th of these.
        scale: s, the paper's α/r. Λ (k, N) is zero at birth, Γ (N, p) is 1/p.
    """

    A: Tensor = Shared.matrix("A")
    B: Tensor = Shared.matrix("B")

    def __init__(self, inner: nn.Linear, shared: Shared, scale: float) -> None:
        super().__init__(inner)
        self.borrowed = (shared,)
        self.scale = scale
        k, p = len(self.A), min(self.in_features, self.out_features)
        self.Lambda = self.own(torch.zeros(k, -(-p // k)))
        self.Gamma = self.own(torch.full((-(-p // k), p), 1 / p))

    def merged_weight(self) -> Tensor:
        """W1 = W0 + s Σ_j B_j Λ_j A Γ_j."""
        p, q = sorted((self.in_features, self.out_features))
        right = (self.Lambda[:, :, None] * self.A[:, None, :p] * self.Gamma).flatten(0, 1)
        update = self.scale * self.B[:q, : len(right)] @ right
        return self.W0 + (update.t() if self.in_features > self.out_features else update)


def apply(model: nn.Module, targets: Sequence[str], *, k: int, scale: float) -> None:
    """Put a `RandLoRALayer` around each of the linear layers named by `targets`.

    A and B are as large as the largest of them needs, frozen, uniform with a standard deviation of 1. A run does not
    save them: its seed draws them again.
    """
    layers = [cast("nn.Linear", model.get_submodule(name)) for name in targets]
    P, Q = (max(side(sides(layer)) for layer in layers) for side in (min, max))
    shared = Shared(layers[0].weight, A=uniform(k, P, fan=1 / 3), B=uniform(Q, k * -(-P // k), fan=1 / 3))
    wrap(model, targets, lambda inner: RandLoRALayer(inner, shared, scale))[0].add_module("shared", shared)
