"""OLoRA: LoRA that begins at an orthonormal part of the weights. Büyükakyüz 2024, arXiv:2406.01775."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorabench.methods.low_rank import add_low_rank
from lorabench.methods.wrapper import Wrapper, wrap

if TYPE_CHECKING:
    from collections.abc import Iterable


def orthonormal(W0: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """A (n, k) and B (k, m) of W0 (m, n) = Q R: the first k rows of R, and the first k columns of Q, transposed.

    Q and R have as many as the smaller side of W0; beyond that A and B are zero.
    """
    Q, R = cast("tuple[Tensor, Tensor]", torch.linalg.qr(W0))
    found = min(k, len(R))
    A, B = W0.new_zeros(k, W0.shape[1]).t(), W0.new_zeros(k, W0.shape[0])
    A[:, :found] = R[:found].t()
    B[:found] = Q[:, :found].t()
    return A, B


class OLoRALayer(Wrapper):
    """`x @ W_resᵀ + b + x @ A @ B`, with `W_res = W0 - (AB)ᵀ` of birth and b frozen.

    Args:
        inner: a linear layer, n inputs to m outputs, W0 of shape (m, n); kept as it is.
        k: the rank. A (n, k) and B (k, m) are parts of W0 = QR, see `orthonormal`. W_res is computed again from W0, on
            the CPU in float64, whenever a layer is made.
    """

    def __init__(self, inner: nn.Linear, k: int) -> None:
        super().__init__(inner)
        W0 = inner.weight.detach().cpu().double()
        A, B = (part.to(inner.weight) for part in orthonormal(W0, k))
        self.A = nn.Parameter(A)
        self.B = nn.Parameter(B)
        W_res = W0 - (A.cpu().double() @ B.cpu().double()).t()
        self.register_buffer("W_res", W_res.to(inner.weight), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., n) to (..., m)."""
        return self.trainable_part(*self.frozen_part(x))

    def frozen_part(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The frozen half: x itself and `x @ W_resᵀ + b`."""
        return x, F.linear(x, self.get_buffer("W_res"), self.inner.bias)

    def trainable_part(self, x: Tensor, frozen: Tensor) -> Tensor:
        """The trainable half."""
        return add_low_rank(frozen, x @ self.A, self.B)

    @property
    def weight(self) -> Tensor:
        """W1 = W_res + (AB)ᵀ."""
        return self.get_buffer("W_res") + (self.A @ self.B).t()


def apply(model: nn.Module, targets: Iterable[str], *, k: int) -> None:
    """Put an `OLoRALayer` around each of the linear layers named by `targets`."""
    wrap(model, targets, lambda inner: OLoRALayer(inner, k))
