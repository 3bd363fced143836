"""OLoRA: LoRA that begins at an orthonormal part of the weights. Büyükakyüz 2024, arXiv:2406.01775."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from lorabench.methods.factors import Residual, parts_of
from lorabench.methods.wrapper import wrap


def orthonormal(W0: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Aᵀ (k, n) and B (k, m) of W0 (m, n) = Q R: the first k rows of R, and the first k columns of Q, transposed.

    Q and R have as many as the smaller side of W0; beyond that both are zero.
    """
    Q, R = cast("tuple[Tensor, Tensor]", torch.linalg.qr(W0))
    rank = min(k, len(R))
    At, B = W0.new_zeros(k, W0.shape[1]), W0.new_zeros(k, W0.shape[0])
    At[:rank] = R[:rank]
    B[:rank] = Q[:, :rank].t()
    return At, B


class OLoRALayer(Residual):
    """`x @ W_resᵀ + b + x @ A @ B`: A (n, k) and B (k, m) begin as parts of W0 = QR, see `orthonormal`."""

    def __init__(self, inner: nn.Linear, k: int) -> None:
        super().__init__(inner, *orthonormal(parts_of(inner), k))


def apply(model: nn.Module, targets: Iterable[str], *, k: int) -> None:
    """Put an `OLoRALayer` around each of the linear layers named by `targets`."""
    wrap(model, targets, lambda inner: OLoRALayer(inner, k))
