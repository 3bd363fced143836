"""Prompt optimisation: learn what to add to a frozen layer's input.

On the first layer this is visual prompting, Bahng et al. 2022, arXiv:2203.17274; clamped to pixel values, adversarial
reprogramming, Elsayed et al. 2018, arXiv:1806.11146; on every layer, the kin of prefix tuning, Li & Liang 2021,
arXiv:2101.00190. An added prompt is no more than another bias: W (x + p) + b = W x + (b + W p).
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorabench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

FRAME = 4
"""Width in pixels of the frame that a `border` prompt fills; MNIST's digits lie within it."""


def frame(n: int) -> Tensor:
    """Positions, ascending, of the frame's pixels in a square image of n pixels.

    Raises:
        UsageError: n pixels are no square, or the frame leaves nothing of it.
    """
    side = math.isqrt(n)
    if side * side != n or side <= 2 * FRAME:
        raise UsageError(f"a border prompt needs square images wider than {2 * FRAME} pixels, not {n} inputs")
    inside = torch.zeros(side, side, dtype=torch.bool)
    inside[FRAME:-FRAME, FRAME:-FRAME] = True
    return (~inside).flatten().nonzero().flatten()


class Prompt(nn.Module):
    """`inner(x + p)`, with `inner` frozen.

    Args:
        inner: a linear layer, n inputs to m outputs.
        places: positions of the inputs that the prompt is added to, ascending; all if None. p has a value for each,
            zero at birth.
    """

    def __init__(self, inner: nn.Linear, places: Tensor | None = None) -> None:
        super().__init__()
        self.inner = inner.requires_grad_(False)
        places = torch.arange(inner.in_features) if places is None else places
        self.register_buffer("places", places.to(inner.weight.device), persistent=False)
        self.p = nn.Parameter(torch.zeros(len(places)).to(inner.weight))

    def forward(self, x: Tensor) -> Tensor:
        """(..., n) to (..., m)."""
        return self.inner(x + self._shift(self.p))

    def constants(self, x: Tensor) -> tuple[Tensor]:
        """`inner(x)`."""
        return (self.inner(x),)

    def resume(self, frozen: Tensor) -> Tensor:
        """`inner(x) + W p`."""
        return frozen + F.linear(self._shift(self.p), self.inner.weight)

    def merged(self) -> nn.Linear:
        """One plain layer: W1 = W0, b1 = b0 + W0 p."""
        layer = copy.deepcopy(self.inner)
        moved = self.inner.weight.detach() @ self._shift(self.p.detach())
        b0 = cast("nn.Parameter | None", layer.bias)
        layer.bias = nn.Parameter(moved if b0 is None else b0.detach() + moved)
        return layer

    def _shift(self, p: Tensor) -> Tensor:
        """p at its places among zeros, (n,)."""
        n = self.inner.in_features
        return p if len(p) == n else p.new_zeros(n).index_copy(0, self.get_buffer("places"), p)


class Reprogram(nn.Module):
    """`inner(clamp(x + tanh(w), 0, 1))`, with `inner` frozen: the prompted image stays an image.

    Args:
        inner: a linear layer, n inputs in [0, 1] to m outputs. w has shape (n,) and is zero at birth.
    """

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner.requires_grad_(False)
        self.w = nn.Parameter(torch.zeros(inner.in_features).to(inner.weight))

    def forward(self, x: Tensor) -> Tensor:
        """(..., n) to (..., m)."""
        return self.inner((x + torch.tanh(self.w)).clamp(0, 1))


def apply(model: nn.Module, targets: Iterable[str], *, variant: str) -> None:
    """Prompt each of the linear layers named by `targets`: by default the first, for `deep` all."""
    for name in targets:
        inner = model.get_submodule(name)
        assert isinstance(inner, nn.Linear)
        if variant == "reprogram":
            model.set_submodule(name, Reprogram(inner))
        else:
            model.set_submodule(name, Prompt(inner, frame(inner.in_features) if variant == "border" else None))
