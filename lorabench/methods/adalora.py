"""AdaLoRA: ranks that move to where they matter. Zhang et al. 2023, arXiv:2303.10512."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from lorabench.methods.wrapper import SplitWrapper, wrap

BETA = 0.85
"""Smoothing of a weight's sensitivity and of its uncertainty (β1 and β2 in the paper)."""
FIRST, LAST = 0.1, 0.4
"""The budget falls between these shares of all steps (t_i and T - t_f in the paper)."""


class AdaLoRALayer(SplitWrapper):
    """`inner(x) + ((x @ Qᵀ) · E) @ Pᵀ`: ΔW = P diag(E) Q, the shape of a singular value decomposition.

    Args:
        inner: a linear layer, n inputs to m outputs; frozen.
        k: the rank at birth. P has shape (m, k), Q (k, n), both from N(0, 0.02²); E, the diagonal of the paper's Λ, has
            shape (k,) and is zero.
        gamma: γ, the weight of the penalty that keeps P and Q orthogonal.

    A state dict also holds which of E are kept, and the averages that decide it.
    """

    def __init__(self, inner: nn.Linear, k: int, gamma: float = 0.1) -> None:
        super().__init__(inner)
        self.gamma = gamma
        self.P = self.own(0.02 * torch.randn(self.out_features, k))
        self.E = self.own(torch.zeros(k))
        self.Q = self.own(0.02 * torch.randn(k, self.in_features))
        self.register_buffer("kept", torch.ones_like(self.E))
        for name, weight in (("P", self.P), ("E", self.E), ("Q", self.Q)):
            self.register_buffer(f"mean_{name}", torch.zeros_like(weight))
            self.register_buffer(f"spread_{name}", torch.zeros_like(weight))
        self.trained_buffers = tuple(name for name, _ in self.named_buffers(recurse=False))

    def tuned(self, x: Tensor, frozen: Tensor) -> Tensor:
        """`frozen + ((x @ Qᵀ) · E) @ Pᵀ`."""
        return frozen + ((x @ self.Q.t()) * self.E) @ self.P.t()

    def merged_weight(self) -> Tensor:
        """W1 = W0 + P diag(E) Q."""
        return self.W0 + (self.P * self.E) @ self.Q

    def penalty(self) -> Tensor:
        """γ (‖PᵀP - I‖² + ‖QQᵀ - I‖²), equation 4."""
        identity = torch.eye(len(self.E)).to(self.E)
        P, Q = self.P.t() @ self.P - identity, self.Q @ self.Q.t() - identity
        return self.gamma * (P.square().sum() + Q.square().sum())

    def importance(self) -> Tensor:
        """S of the k triplets, equations 7 to 11, of the gradients of the last step: (k,)."""
        P, E, Q = (self._score(name) for name in ("P", "E", "Q"))
        return E + P.mean(0) + Q.mean(1)

    def _score(self, name: str) -> Tensor:
        """Smoothed sensitivity |w ∂L/∂w| of each weight, times its smoothed uncertainty."""
        w = self.get_parameter(name)
        assert w.grad is not None
        I = (w.detach() * w.grad).abs()  # noqa: E741
        mean, spread = self.get_buffer(f"mean_{name}"), self.get_buffer(f"spread_{name}")
        mean.copy_(BETA * mean + (1 - BETA) * I)
        spread.copy_(BETA * spread + (1 - BETA) * (I - mean).abs())
        return mean * spread


class Allocator(nn.Module):
    """Shares one budget of singular values among layers: the most important stay, the others are set to zero.

    Args:
        layers: all that share the budget.
        keep: the share of their ranks that is left in the end.
    """

    def __init__(self, layers: Sequence[AdaLoRALayer], keep: float) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.total = sum(len(layer.E) for layer in layers)
        self.target = max(1, round(keep * self.total))

    def budget(self, step: int, steps: int) -> int:
        """How many singular values may be non-zero after `step` of `steps`: a cubic fall, equation 12."""
        left = 1 - min(max(((step + 1) / steps - FIRST) / (LAST - FIRST), 0), 1)
        return self.target + round((self.total - self.target) * left**3)

    @torch.no_grad()
    def after_step(self, step: int, steps: int) -> None:
        """Zero the least important singular values, as many as the budget has fallen below their number.

        Once the budget has come down to its target, those that are left stay, as in the authors' code.
        """
        kept = [layer.get_buffer("kept") for layer in self.layers]
        if step / steps < LAST:
            S = torch.cat([layer.importance() for layer in self.layers])
            stay = torch.zeros_like(S).index_fill_(0, S.topk(self.budget(step, steps)).indices, 1)
            for mask, new in zip(kept, torch.split(stay, [len(mask) for mask in kept]), strict=True):
                mask.copy_(new)
        for layer, mask in zip(self.layers, kept, strict=True):
            layer.E.mul_(mask)


def apply(model: nn.Module, targets: Iterable[str], *, k: int, keep: float, gamma: float) -> None:
    """Put an `AdaLoRALayer` around each of the linear layers named by `targets`, and one `Allocator` over them."""
    layers = wrap(model, targets, lambda inner: AdaLoRALayer(inner, k, gamma))
    # It is everybody's; it hangs on the first layer for the training loop to find it, once.
    layers[0].add_module("allocator", Allocator(layers, keep))
