"""Full fine-tuning: every parameter of the targeted modules goes on learning."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from lorabench.methods.layers import own_parameters

if TYPE_CHECKING:
    from torch import nn


def apply(model: nn.Module, targets: Iterable[str]) -> None:
    """Train all parameters that the modules named by `targets` have themselves, by default the model's, in place."""
    for name in targets:
        for _, parameter in own_parameters(model.get_submodule(name), "full"):
            parameter.requires_grad_(True)
