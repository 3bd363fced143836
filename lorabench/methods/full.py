"""Full fine-tuning: every weight and bias of the targeted layers goes on learning."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn


def apply(model: nn.Module, targets: Iterable[str]) -> None:
    """Train W (m, n) and b (m,) of the linear layers named by `targets`, in place."""
    for name in targets:
        model.get_submodule(name).requires_grad_(True)
