"""A method as somebody would add it: this file, and the entry below in the registry."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lorabench.methods import Method

if TYPE_CHECKING:
    from collections.abc import Iterable

ENTRY = Method(
    title="toy",
    paper="no paper",
    options={},
    formula=lambda shapes, options: len(shapes),
    lr=0.01,
)


class Gain(nn.Module):
    """`c · inner(x)` with one number c for the whole layer."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner.requires_grad_(False)
        self.c = nn.Parameter(torch.ones(1).to(inner.weight))

    def forward(self, x: Tensor) -> Tensor:
        return self.c * self.inner(x)

    def merged(self) -> nn.Linear:
        layer = copy.deepcopy(self.inner)
        layer.weight.data *= self.c.detach()
        layer.bias.data *= self.c.detach()
        return layer


def apply(model: nn.Module, targets: Iterable[str]) -> None:
    for name in targets:
        inner = model.get_submodule(name)
        assert isinstance(inner, nn.Linear)
        model.set_submodule(name, Gain(inner))
