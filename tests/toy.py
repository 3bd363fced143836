"""A method as somebody would add it: this file, and the entry below in the registry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from lorabench.methods import Method
from lorabench.methods.entry import own, trained
from lorabench.methods.wrapper import Wrapper, wrap

ENTRY = Method(
    title="toy",
    formula="c W0 x",
    paper="no paper",
    options={},
    layer=lambda n, m, options: [[own(n, m), trained("c", 1)]],
    lr=0.01,
)


class Gain(Wrapper):
    """`c · inner(x)` with one number c for the whole layer."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__(inner)
        self.c = self.own(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return (self.c * self.inner(x)).to(x.dtype)

    def merged_weight(self) -> Tensor:
        return self.c * self.W0

    def merged_bias(self) -> Tensor | None:
        b0 = cast("Tensor | None", self.inner.bias)
        return None if b0 is None else self.c * b0


def apply(model: nn.Module, targets: Iterable[str]) -> None:
    wrap(model, targets, Gain)
