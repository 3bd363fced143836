"""What the low-rank methods share: how a factor is drawn, and the product that is added to a frozen layer's output."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def uniform(*shape: int, fan: int) -> Tensor:
    """A tensor of this shape from U(-1/√fan, 1/√fan)."""
    return (2 * torch.rand(shape) - 1) / math.sqrt(fan)


def add_low_rank(frozen: Tensor, low: Tensor, B: Tensor, scale: float = 1.0) -> Tensor:
    """`frozen + scale · low @ B`, of shapes (..., m), (..., k) and (k, m)."""
    if low.dim() == 2:  # one call instead of two; batches of sequences have no such call
        return torch.addmm(frozen, low, B, alpha=scale)
    return frozen + scale * (low @ B)
