"""MiSS: one small matrix shared by groups of inputs. Kang & Yin 2024, arXiv:2409.15371 (first called Bone)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Iterable


class MiSSLayer(nn.Module):
    """`inner(x) + S(x) @ D`, with `inner` frozen and S(x) the sum of x's consecutive groups of k inputs.

    Args:
        inner: a linear layer, n inputs to m outputs.
        k: the rank. D has shape (k, m) and is zero; the rows of ΔWᵀ are those of D, repeated over the n inputs.
    """

    def __init__(self, inner: nn.Linear, k: int) -> None:
        super().__init__()
        self.inner = inner.requires_grad_(False)
        self.D = nn.Parameter(torch.zeros(k, inner.out_features).to(inner.weight))

    def forward(self, x: Tensor) -> Tensor:
        """(..., n) to (..., m)."""
        return self.resume(*self.constants(x))

    def constants(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The frozen part: S(x) (..., k), the last group filled up with zeros, and `inner(x)`."""
        k = len(self.D)
        return F.pad(x, (0, -x.shape[-1] % k)).reshape(*x.shape[:-1], -1, k).sum(-2), self.inner(x)

    def resume(self, summed: Tensor, frozen: Tensor) -> Tensor:
        """The trainable part."""
        if summed.dim() == 2:  # one call instead of two; batches of sequences have no such call
            return torch.addmm(frozen, summed, self.D)
        return frozen + summed @ self.D

    def merged(self) -> nn.Linear:
        """One plain layer: input i adds row i mod k of D, W1 = W0 + (D repeated)ᵀ."""
        layer = copy.deepcopy(self.inner)
        rows = torch.arange(layer.in_features, device=self.D.device) % len(self.D)
        layer.weight.data += self.D.detach()[rows].t()
        return layer


def apply(model: nn.Module, targets: Iterable[str], *, k: int) -> None:
    """Put a `MiSSLayer` around each of the linear layers named by `targets`."""
    for name in targets:
        inner = model.get_submodule(name)
        assert isinstance(inner, nn.Linear)
        model.set_submodule(name, MiSSLayer(inner, k))
