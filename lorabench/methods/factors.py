"""Factors that several methods build on: how they are drawn, shared, turned into rotations, multiplied and added."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.nn import functional as F

from lorabench.errors import UsageError
from lorabench.methods.wrapper import SplitWrapper, added, matrix

if TYPE_CHECKING:
    from torch import Tensor


ONE_BY_ONE = 128
"""Sides of matrices up to which several are solved at once."""


def uniform(*shape: int, fan: float) -> Tensor:
    """A tensor of this shape from U(-1/√fan, 1/√fan)."""
    return (2 * torch.rand(shape) - 1) / math.sqrt(fan)


def add_low_rank(frozen: Tensor, low: Tensor, B: Tensor, scale: float = 1.0) -> Tensor:
    """`frozen + scale · low @ B`, of shapes (..., m), (..., k) and (k, m)."""
    if low.dim() == 2:  # one call instead of two; batches of sequences have no such call
        return torch.addmm(frozen, low, B, alpha=scale)
    return frozen + scale * (low @ B)


class Shared(nn.Module):
    """Frozen matrices that several layers use; one of these holds it, so that they are saved once."""

    def __init__(self, like: Tensor, **matrices: Tensor) -> None:
        super().__init__()
        for name, drawn in matrices.items():
            self.register_parameter(name, nn.Parameter(added(drawn, like), requires_grad=False))

    @staticmethod
    def matrix(name: str) -> Any:
        """A property of a layer: the matrix of that name in what it has `borrowed`.

        That is a tuple, and so no module of the layer's own.
        """
        return property(lambda layer: layer.borrowed[0].get_parameter(name))


def cayley(S: Tensor, side: int) -> Tensor:
    """R = (I + S)(I - S)⁻¹ (..., side, side), of skew-symmetric S given by upper triangles, (..., side(side-1)/2)."""
    row, column = torch.triu_indices(side, side, 1)
    upper = S.new_zeros(*S.shape[:-1], side, side)
    upper[..., row, column] = S
    # There is no half-precision solver. (I + S) and (I - S)⁻¹ commute.
    skew = (upper - upper.mT).to(torch.promote_types(upper.dtype, torch.float32))
    identity = torch.eye(side).to(skew)
    return _solve(identity - skew, identity + skew).to(upper.dtype)


def _solve(A: Tensor, B: Tensor) -> Tensor:
    """A⁻¹ B of matrices (..., n, n): large ones one by one, as MKL may fail on several at once on several threads."""
    if A.ndim > 2 and len(A) > 1 and A.shape[-1] > ONE_BY_ONE:
        return torch.stack([_solve(*pair) for pair in zip(A, B, strict=True)])
    return cast("Tensor", torch.linalg.solve(A, B))


def add_product(layer: nn.Module, frozen: Tensor, x: Tensor, At: Tensor, B: Tensor, scale: float) -> Tensor:
    """`frozen + scale · x @ A @ B`, with x (..., n) what the layer multiplies by its own weight.

    An embedding looks its ids up in A. A convolution applies A as k filters of its own kind, to each of its groups, and
    B as filters of one pixel: merged it adds (AB)ᵀ to its weight as (m, n).
    """
    if isinstance(layer, nn.Embedding):
        low = F.embedding(x, At.t(), layer.padding_idx, scale_grad_by_freq=layer.scale_grad_by_freq)
    elif isinstance(layer, nn.Conv2d):
        filters = At.view(len(At), *layer.weight.shape[1:]).repeat(layer.groups, 1, 1, 1)
        low = layer._conv_forward(x, filters, None)  # pyright: ignore[reportPrivateUsage]
        return frozen + scale * F.conv2d(low, B.t()[:, :, None, None], groups=layer.groups)
    else:
        low = F.linear(x, At)
    return add_low_rank(frozen, low, B, scale)


class LowRank(SplitWrapper):
    """`inner(x) + scale · x @ A @ B`, with `inner` frozen.

    Args:
        inner: a linear layer, n inputs to m outputs.
        At: Aᵀ, (k, n). So A is kept: column by column the tall product x @ A and its gradient run several times faster,
            and the parameter is contiguous in memory, as flat vectors of parameters and files need it.
        B: (k, m).
        scale: a number.
        learns: whether A is trained.
    """

    def __init__(self, inner: nn.Linear, At: Tensor, B: Tensor, scale: float = 1.0, *, learns: bool = True) -> None:
        super().__init__(inner)
        self.scale = scale
        self.At = self.own(At.contiguous(), trained=learns)
        self.B = self.own(B)

    @property
    def A(self) -> Tensor:
        """(n, k), a view."""
        return self.At.t()

    def tuned(self, x: Tensor, frozen: Tensor, /) -> Tensor:
        """`frozen + scale · x @ A @ B`."""
        return add_product(self.inner, frozen, x, self.At, self.B, self.scale)

    def merged_weight(self) -> Tensor:
        """W1 = W0 + scale · (AB)ᵀ."""
        return self.W0 + self.scale * (self.A @ self.B).t()


class Residual(LowRank):
    """`x @ W_resᵀ + b + x @ A @ B`, with `W_res = W0 - (A0 B0)ᵀ` and b frozen; A and B begin as A0 and B0.

    W_res is made of W0, A0 and B0, on the CPU in float64, whenever a layer is made, cast, or given a state dict, which
    holds these three.

    Args:
        inner: a linear layer, n inputs to m outputs, W0 of shape (m, n); kept as it is.
        At: A0ᵀ, (k, n), a part of W0.
        B: B0, (k, m).
    """

    def __init__(self, inner: nn.Linear, At: Tensor, B: Tensor) -> None:
        super().__init__(inner, At, B)
        self.register_buffer("At0", self.At.detach().clone())
        self.register_buffer("B0", self.B.detach().clone())
        self.register_buffer("W_res", torch.empty_like(matrix(inner)), persistent=False)
        _leave_rest(self)
        self.register_load_state_dict_post_hook(_leave_rest)

    def _apply(self, fn: Any, recurse: bool = True) -> Residual:
        """What `to`, `half` and their like do, and W_res of the values that A0 and B0 then have."""
        super()._apply(fn, recurse)
        _leave_rest(self)
        return self

    def frozen_part(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The frozen half: x itself and `x @ W_resᵀ + b`."""
        return x, F.linear(x, self.get_buffer("W_res"), self.inner.bias)

    def merged_weight(self) -> Tensor:
        """W1 = W_res + (AB)ᵀ."""
        return self.get_buffer("W_res") + (self.A @ self.B).t()


def parts_of(inner: nn.Linear) -> Tensor:
    """W0 (m, n) to be taken apart, on the CPU in float64.

    Raises:
        UsageError: it has no values yet.
    """
    if inner.weight.is_meta:
        raise UsageError(
            "this method begins at parts of the weights, and a layer on the device meta has none: load them"
        )
    return matrix(inner).detach().cpu().double()


def _leave_rest(layer: Residual, *_: Any) -> None:
    """W_res, of what the layer holds now."""
    weight = layer.inner.weight
    if not weight.is_meta:
        At0, B0 = (layer.get_buffer(name).cpu().double() for name in ("At0", "B0"))
        layer.register_buffer("W_res", (parts_of(layer.inner) - (At0.t() @ B0).t()).to(weight), persistent=False)
