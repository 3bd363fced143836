"""(IA)³: rescale activations by one learned vector. Liu et al. 2022, arXiv:2205.05638."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Iterable


class ScaledOutput(nn.Module):
    """`l · inner(x)`, `inner` frozen: so the paper rescales keys and values. l has shape (m,) and is 1 at birth."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner.requires_grad_(False)
        self.l = nn.Parameter(torch.ones(inner.out_features).to(inner.weight))

    def forward(self, x: Tensor) -> Tensor:
        """(..., n) to (..., m)."""
        return self.resume(*self.constants(x))

    def constants(self, x: Tensor) -> tuple[Tensor]:
        """The frozen half: `inner(x)`."""
        return (self.inner(x),)

    def resume(self, frozen: Tensor) -> Tensor:
        """The trainable half."""
        return frozen * self.l

    def merged(self) -> nn.Linear:
        """One plain layer: W1 = diag(l) W0, b1 = l · b0."""
        layer = copy.deepcopy(self.inner)
        layer.weight.data *= self.l.detach()[:, None]
        if cast("nn.Parameter | None", layer.bias) is not None:
            layer.bias.data *= self.l.detach()
        return layer


class ScaledInput(nn.Module):
    """`inner(l · x)`, `inner` frozen: so the paper rescales within its MLPs. l has shape (n,) and is 1 at birth."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner.requires_grad_(False)
        self.l = nn.Parameter(torch.ones(inner.in_features).to(inner.weight))

    def forward(self, x: Tensor) -> Tensor:
        """(..., n) to (..., m)."""
        return self.inner(x * self.l)

    def merged(self) -> nn.Linear:
        """One plain layer: W1 = W0 diag(l)."""
        layer = copy.deepcopy(self.inner)
        layer.weight.data *= self.l.detach()
        return layer


def apply(model: nn.Module, targets: Iterable[str], *, place: str) -> None:
    """Rescale the outputs (`out`) or the inputs (`in`) of the linear layers named by `targets`."""
    for name in targets:
        inner = model.get_submodule(name)
        assert isinstance(inner, nn.Linear)
        model.set_submodule(name, ScaledOutput(inner) if place == "out" else ScaledInput(inner))
