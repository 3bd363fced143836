"""FourierFT: the update as a few entries of its spectrum. Gao et al. 2024, arXiv:2405.03003."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from lorabench.methods.wrapper import RemadeWrapper, wrap


class FourierFTLayer(RemadeWrapper):
    """`x @ W1ᵀ + b` with `W1 = W0 + α Re(F⁻¹(F))`, W0 and b frozen; F is zero but for entries that are trained.

    Args:
        inner: a linear layer, n inputs to m outputs, W0 of shape (m, n).
        frequencies: f, how many entries of F (m, n) are trained; all of them, if it has no more. E (2, f), their rows
            and columns, is drawn without repetition, for each layer (the paper: once for all), and frozen; a run does
            not save it, its seed draws it again. c (f,), their values, is zero at birth, where the paper and PEFT draw
            it from N(0, 1), which would move the logits.
        alpha: α.
    """

    def __init__(self, inner: nn.Linear, frequencies: int, alpha: float) -> None:
        super().__init__(inner)
        n, m = self.in_features, self.out_features
        places = torch.randperm(n * m)[:frequencies]
        self.alpha = alpha
        self.c = self.own(torch.zeros(len(places)))
        self.register_buffer("E", torch.stack([places // n, places % n]).to(inner.weight.device))

    def merged_weight(self) -> Tensor:
        """W1 = W0 + α Re(F⁻¹(F)), F⁻¹ the inverse discrete Fourier transform in two dimensions."""
        c = self.c.to(torch.promote_types(self.dtype, torch.float32))  # there is no transform in half precision
        F = c.new_zeros(self.out_features, self.in_features).index_put(tuple(self.get_buffer("E")), c)
        update = cast("Tensor", torch.fft.ifft2(F).real)
        return self.W0 + (self.alpha * update).to(self.dtype)


def apply(model: nn.Module, targets: Iterable[str], *, frequencies: int, alpha: float) -> None:
    """Put a `FourierFTLayer` around each of the linear layers named by `targets`."""
    wrap(model, targets, lambda inner: FourierFTLayer(inner, frequencies, alpha))
