"""Linear probe: a new head on frozen features. Alain & Bengio 2016, arXiv:1610.01644; here the head starts trained."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def apply(model: nn.Module, targets: Iterable[str]) -> None:
    """Train W (m, n) and b (m,) of the linear layers named by `targets`, by default of the last, in place."""
    for name in targets:
        model.get_submodule(name).requires_grad_(True)
