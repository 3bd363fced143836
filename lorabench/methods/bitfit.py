"""BitFit: train the biases alone. Ben Zaken et al. 2021, arXiv:2106.10199."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lorabench.methods.layers import own_parameters

if TYPE_CHECKING:
    from torch import nn


def apply(model: nn.Module, targets: Iterable[str]) -> None:
    """Train every bias that the modules named by `targets` have themselves, by default all in the model, in place."""
    for name in targets:
        for _, bias in own_parameters(model.get_submodule(name), "bitfit"):
            bias.requires_grad_(True)
