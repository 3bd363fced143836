"""What a fine-tune did to each weight matrix: the size and the rank of ΔW = W1 − W0.

weights = copy(model)                     # before training
delta_w(weights, merge(model))["fc1"]     # Spectrum(frobenius=..., stable_rank=..., rank90=...)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, cast

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

ENERGY = 0.9
"""The share of ‖ΔW‖_F² that `Spectrum.rank90` leading singular directions hold."""


class Spectrum(NamedTuple):
    """Of one matrix, in the unit of its weights.

    `frobenius`: ‖ΔW‖_F. `stable_rank`: ‖ΔW‖_F² / ‖ΔW‖₂² (Rudelson and Vershynin, J. ACM 54(4), 2007).
    `rank90`: how many singular directions hold 90% of ‖ΔW‖_F². All are 0 of a matrix that did not change.
    """

    frobenius: float
    stable_rank: float
    rank90: int


def copy(model: nn.Module) -> dict[str, Tensor]:
    """The weight (m, n) of every linear layer of `model`, by the layer's name, as it is now."""
    modules = cast("Iterator[tuple[str, nn.Module]]", model.named_modules())
    return {name: m.weight.detach().clone() for name, m in modules if isinstance(m, torch.nn.Linear)}


def delta_w(before: Mapping[str, Tensor], tuned: nn.Module) -> dict[str, Spectrum]:
    """The spectrum of each layer's change, from what `copy` gave and the merged model after fine-tuning."""
    after = copy(tuned)
    return {name: spectrum(after[name] - weight) for name, weight in before.items()}


def spectrum(change: Tensor) -> Spectrum:
    """Of one matrix (m, n) of finite numbers."""
    energy = cast("Tensor", torch.linalg.svdvals(change)).double().square()
    total = energy.sum()
    if total == 0:
        return Spectrum(0.0, 0.0, 0)
    rank = int((energy.cumsum(0) < ENERGY * total).sum()) + 1
    return Spectrum(total.sqrt().item(), (total / energy[0]).item(), rank)
