"""PiSSA: train the principal part of the weights, freeze the rest. Meng et al. 2024, arXiv:2404.02948."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from lorabench.methods.factors import Residual, parts_of
from lorabench.methods.wrapper import wrap


def principal(W0: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Aᵀ (k, n) and B (k, m) of W0 (m, n) = U S Vᵀ: √S Vᵀ and √S Uᵀ of the k largest singular values.

    Beyond the smaller side of W0 its singular values, and so the rows of both, are zero.
    """
    U, S, Vt = cast("tuple[Tensor, Tensor, Tensor]", torch.linalg.svd(W0, full_matrices=False))
    rank = min(k, len(S))
    At, B = W0.new_zeros(k, W0.shape[1]), W0.new_zeros(k, W0.shape[0])
    At[:rank] = S[:rank].sqrt()[:, None] * Vt[:rank]
    B[:rank] = S[:rank].sqrt()[:, None] * U[:, :rank].t()
    return At, B


class PiSSALayer(Residual):
    """`x @ W_resᵀ + b + x @ A @ B`: A (n, k) and B (k, m) begin as the principal part of W0, see `principal`."""

    def __init__(self, inner: nn.Linear, k: int) -> None:
        super().__init__(inner, *principal(parts_of(inner), k))


def apply(model: nn.Module, targets: Iterable[str], *, k: int) -> None:
    """Put a `PiSSALayer` around each of the linear layers named by `targets`."""
    wrap(model, targets, lambda inner: PiSSALayer(inner, k))
