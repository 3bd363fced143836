"""Prompt optimisation: learn what to add to a frozen layer's input.

On the first layer this is visual prompting, Bahng et al. 2022, arXiv:2203.17274; clamped to pixel values, adversarial
reprogramming, Elsayed et al. 2018, arXiv:1806.11146; on every layer, the kin of prefix tuning, Li & Liang 2021,
arXiv:2101.00190. An added prompt is no more than another bias: W (x + p) + b = W x + (b + W p).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorabench.errors import UsageError
from lorabench.methods.wrapper import SplitWrapper, Wrapper, sides, wrap

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


class Prompt(SplitWrapper):
    """`inner(x + p)`, with `inner` frozen.

    Args:
        inner: a linear layer, n inputs to m outputs.
        places: positions of the inputs that the prompt is added to, ascending; all if None. p has a value for each,
            zero at birth.
    """

    def __init__(self, inner: nn.Linear, places: Tensor | None = None) -> None:
        super().__init__(inner)
        places = torch.arange(self.in_features) if places is None else places
        self.register_buffer("places", places.to(inner.weight.device))
        self.p = self.own(torch.zeros(len(places)))

    def forward(self, x: Tensor) -> Tensor:
        """(..., n) to (..., m)."""
        return self.inner((x + self._shift(self.p)).to(x.dtype))

    def frozen_part(self, x: Tensor) -> tuple[Tensor]:
        """`inner(x)`."""
        return (self.inner(x),)

    def tuned(self, frozen: Tensor) -> Tensor:
        """`frozen + W0 p`."""
        return frozen + F.linear(self._shift(self.p), self.W0)

    def merged_weight(self) -> Tensor:
        """W1 = W0."""
        return self.W0

    def merged_bias(self) -> Tensor:
        """b1 = b0 + W0 p."""
        b0, moved = cast("Tensor | None", self.inner.bias), self.W0 @ self._shift(self.p)
        return moved if b0 is None else b0 + moved

    def _shift(self, p: Tensor) -> Tensor:
        """p at its places among zeros, (n,)."""
        n = self.in_features
        return p if len(p) == n else p.new_zeros(n).index_copy(0, self.get_buffer("places"), p)


class Reprogram(Wrapper):
    """`inner(clamp(x + tanh(w), 0, 1))`, with `inner` frozen: the prompted image stays an image.

    Args:
        inner: a linear layer, n inputs in [0, 1] to m outputs. w has shape (n,) and is zero at birth.
    """

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__(inner)
        self.w = self.own(torch.zeros(self.in_features))

    def forward(self, x: Tensor) -> Tensor:
        """(..., n) to (..., m)."""
        return self.inner((x + torch.tanh(self.w)).clamp(0, 1).to(x.dtype))


def apply(model: nn.Module, targets: Iterable[str], *, variant: str) -> None:
    """Prompt each of the linear layers named by `targets`: by default the first, for `deep` all."""

    def prompted(inner: nn.Linear) -> Prompt | Reprogram:
        if variant == "reprogram":
            return Reprogram(inner)
        return Prompt(inner, frame(sides(inner)[0]) if variant == "border" else None)

    wrap(model, targets, prompted)
