"""LoRA: low-rank adaptation of frozen linear layers. Hu et al. 2021, arXiv:2106.09685; the layer as in the talk."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorabench.errors import UsageError
from lorabench.methods.factors import LowRank, uniform
from lorabench.methods.wrapper import sides, wrap


def draw(init: str, n: int, m: int, k: int) -> tuple[Tensor, Tensor]:
    """A (n, k) and B (k, m) at birth.

    B is zero and A `talk`, N(0, 1); `kaiming`, U(-1/√n, 1/√n) as loralib and PEFT do; or `gaussian`, N(0, 1/k²). Or
    `orthogonal`, as PEFT does: A = M Q_odd / 10 and B = Q_evenᵀ N / 10 of every other row of an orthogonal Q (k, k), M
    and N from N(0, 1). Neither is zero, and AB is, since the rows of Q are orthogonal.

    Raises:
        UsageError: `orthogonal`, and k is odd.
    """
    if init == "orthogonal":
        if k % 2:
            raise UsageError(f"lora with init=orthogonal halves the rank: k must be even, not {k}")
        Q, _ = cast("tuple[Tensor, Tensor]", torch.linalg.qr(torch.randn(k, k)))
        return torch.randn(n, k // 2) @ Q[0::2] / 10, Q[1::2].t() @ torch.randn(k // 2, m) / 10
    if init == "kaiming":
        return uniform(n, k, fan=n), torch.zeros(k, m)
    return torch.randn(n, k) / k if init == "gaussian" else torch.randn(n, k), torch.zeros(k, m)


class LoRALayer(LowRank):
    """`inner(x) + x @ A @ B`, with `inner` frozen.

    Args:
        inner: a linear layer, n inputs to m outputs; or an `nn.Conv2d`, n the values that it reads for one of its m
            channels, or an `nn.Embedding`, n ids to vectors (m,).
        k: the rank. A has shape (n, k) and B (k, m); AB is zero, so that at birth the layer computes what `inner` does.
            On an embedding A is zero and B from N(0, 1), as in loralib and PEFT: what does not occur does not move.
        init: how they are drawn, see `draw`.
        alpha: if given, the low-rank part is multiplied by alpha / k, as in the paper.
        dropout: the share of x's values that the low-rank part does not see in a step of training, the others times
            1 / (1 - dropout), as in loralib and PEFT.

    Raises:
        UsageError: dropout on an embedding, whose input are ids; or as `draw`.
    """

    def __init__(
        self, inner: nn.Linear, k: int, init: str = "talk", alpha: float | None = None, dropout: float = 0.0
    ) -> None:
        n, m = sides(inner)
        embedding = isinstance(inner, nn.Embedding)
        if embedding and dropout:
            raise UsageError("lora cannot drop an embedding's input, which are ids: give that layer dropout 0")
        A, B = (torch.zeros(n, k), torch.randn(k, m)) if embedding else draw(init, n, m, k)
        super().__init__(inner, A.t(), B, 1.0 if alpha is None else alpha / k)
        self.dropout = dropout

    def tuned(self, x: Tensor, frozen: Tensor, /) -> Tensor:
        """`frozen + scale · dropout(x) @ A @ B`."""
        return super().tuned(F.dropout(x, self.dropout, self.training) if self.dropout else x, frozen)


def apply(
    model: nn.Module, targets: Iterable[str], *, k: int, init: str, alpha: float | None, dropout: float = 0.0
) -> None:
    """Put a `LoRALayer` around each of the layers named by `targets`."""
    wrap(model, targets, lambda inner: LoRALayer(inner, k, init, alpha, dropout))
