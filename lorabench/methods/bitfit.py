"""BitFit: train the biases alone. Ben Zaken et al. 2021, arXiv:2106.10199."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import nn

from lorabench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable


def apply(model: nn.Module, targets: Iterable[str]) -> None:
    """Train b (m,) of the linear layers named by `targets`, in place.

    Raises:
        UsageError: a layer has no bias.
    """
    for name in targets:
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        b = cast("nn.Parameter | None", layer.bias)
        if b is None:
            raise UsageError(f"bitfit trains biases, and {name} has none")
        b.requires_grad_(True)
