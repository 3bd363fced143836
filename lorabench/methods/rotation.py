"""Rotations that are trained: of any parameters an orthogonal matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch

if TYPE_CHECKING:
    from torch import Tensor


def cayley(S: Tensor, side: int) -> Tensor:
    """R = (I + S)(I - S)⁻¹ (..., side, side), of skew-symmetric S given by upper triangles, (..., side(side-1)/2)."""
    row, column = torch.triu_indices(side, side, 1)
    upper = S.new_zeros(*S.shape[:-1], side, side)
    upper[..., row, column] = S
    # There is no half-precision solver. (I + S) and (I - S)⁻¹ commute.
    skew = (upper - upper.mT).to(torch.promote_types(upper.dtype, torch.float32))
    identity = torch.eye(side).to(skew)
    return cast("Tensor", torch.linalg.solve(identity - skew, identity + skew)).to(upper.dtype)
