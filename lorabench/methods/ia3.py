"""(IA)³: rescale activations by one learned vector. Liu et al. 2022, arXiv:2205.05638."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from lorabench.methods.wrapper import SplitWrapper, Wrapper, wrap


class ScaledOutput(SplitWrapper):
    """`l · inner(x)`, `inner` frozen: so the paper rescales keys and values. l has shape (m,) and is 1 at birth."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__(inner)
        self.l = self.own(torch.ones(self.out_features))

    def frozen_part(self, x: Tensor) -> tuple[Tensor]:
        """The frozen half: `inner(x)`."""
        return (self.inner(x),)

    def tuned(self, frozen: Tensor) -> Tensor:
        """`l · frozen`."""
        return frozen * self.l

    def merged_weight(self) -> Tensor:
        """W1 = diag(l) W0."""
        return self.W0 * self.l[:, None]

    def merged_bias(self) -> Tensor | None:
        """b1 = l · b0."""
        b0 = cast("Tensor | None", self.inner.bias)
        return None if b0 is None else b0 * self.l


class ScaledInput(Wrapper):
    """`inner(l · x)`, `inner` frozen: so the paper rescales within its MLPs. l has shape (n,) and is 1 at birth."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__(inner)
        self.l = self.own(torch.ones(self.in_features))

    def forward(self, x: Tensor) -> Tensor:
        """(..., n) to (..., m)."""
        return self.inner((x * self.l).to(x.dtype))

    def merged_weight(self) -> Tensor:
        """W1 = W0 diag(l)."""
        return self.W0 * self.l


def apply(model: nn.Module, targets: Iterable[str], *, place: str) -> None:
    """Rescale the outputs (`out`) or the inputs (`in`) of the linear layers named by `targets`."""
    wrap(model, targets, lambda inner: ScaledOutput(inner) if place == "out" else ScaledInput(inner))
