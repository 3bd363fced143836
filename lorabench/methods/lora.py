"""LoRA: low-rank adaptation of frozen linear layers. Hu et al. 2021, arXiv:2106.09685; the layer as in the talk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorabench.errors import UsageError
from lorabench.methods.low_rank import LowRank, uniform
from lorabench.methods.wrapper import sides, wrap

if TYPE_CHECKING:
    from collections.abc import Iterable


def draw(init: str, n: int, k: int) -> Tensor:
    """A at birth, (n, k): `talk`, N(0, 1); `kaiming`, U(-1/√n, 1/√n) as loralib and PEFT do; `gaussian`, N(0, 1/k²)."""
    if init == "kaiming":
        return uniform(n, k, fan=n)
    return torch.randn(n, k) / k if init == "gaussian" else torch.randn(n, k)


class LoRALayer(LowRank):
    """`inner(x) + x @ A @ B`, with `inner` frozen.

    Args:
        inner: a linear layer, n inputs to m outputs; or an `nn.Conv2d`, n the values that it reads for one of its m
            channels, or an `nn.Embedding`, n ids to vectors (m,).
        k: the rank. A has shape (n, k); B has shape (k, m) and is zero, so that at birth the layer computes what
            `inner` does. On an embedding A is zero and B from N(0, 1), as in loralib and PEFT: what does not occur
            does not move.
        init: how A is drawn, see `draw`.
        alpha: if given, the low-rank part is multiplied by alpha / k, as in the paper.
        dropout: the share of x's values that the low-rank part does not see in a step of training, the others times
            1 / (1 - dropout), as in loralib and PEFT.

    Raises:
        UsageError: dropout on an embedding, whose input are ids.
    """

    def __init__(
        self, inner: nn.Linear, k: int, init: str = "talk", alpha: float | None = None, dropout: float = 0.0
    ) -> None:
        n, m = sides(inner)
        embedding = isinstance(inner, nn.Embedding)
        if embedding and dropout:
            raise UsageError("lora cannot drop an embedding's input, which are ids: give that layer dropout 0")
        A, B = (torch.zeros(n, k), torch.randn(k, m)) if embedding else (draw(init, n, k), torch.zeros(k, m))
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
