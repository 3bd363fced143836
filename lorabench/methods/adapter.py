"""Adapter layers: a small bottleneck network before a frozen layer. Houlsby et al. 2019, arXiv:1902.00751."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lorabench.methods.wrapper import Wrapper, added, sides, wrap


class Adapter(nn.Module):
    """`h + relu(h @ D + d) @ U + u` (section 2.1 of the paper; a skip-connection around a bottleneck).

    Args:
        like: a frozen layer; the adapter gets its number of inputs n and its device.
        m: the width of the bottleneck. D has shape (n, m), d (m,), U (m, n), u (n,).
        init: `houlsby`, D and U from N(0, 0.01²) cut off at two standard deviations, close to the identity;
            `zero`, U is zero, the identity. d and u are zero.
    """

    def __init__(self, like: nn.Linear, m: int, init: str = "houlsby") -> None:
        super().__init__()
        n, _ = sides(like)
        D, U = torch.empty(n, m), torch.zeros(m, n)
        for drawn in (D, U) if init == "houlsby" else (D,):
            nn.init.trunc_normal_(drawn, std=0.01, a=-0.02, b=0.02)
        self.D = nn.Parameter(added(D, like.weight))
        self.d = nn.Parameter(added(torch.zeros(m), like.weight))
        self.U = nn.Parameter(added(U, like.weight))
        self.u = nn.Parameter(added(torch.zeros(n), like.weight))

    def forward(self, h: Tensor) -> Tensor:
        """(..., n) to (..., n)."""
        wide = h.to(self.D.dtype)
        return (wide + torch.relu(wide @ self.D + self.d) @ self.U + self.u).to(h.dtype)


class AdaptedLinear(Wrapper):
    """`inner(adapter(x))`, with `inner` frozen: the adapter stands after the activation that comes before `inner`."""

    def __init__(self, inner: nn.Linear, m: int, init: str = "houlsby") -> None:
        super().__init__(inner)
        self.adapter = Adapter(inner, m, init)

    def forward(self, x: Tensor) -> Tensor:
        """(..., n) to (..., m)."""
        return self.inner(self.adapter(x))


def apply(model: nn.Module, targets: Iterable[str], *, bottleneck: int, init: str) -> None:
    """Put an adapter before each of the linear layers named by `targets`, by default before all but the first."""
    wrap(model, targets, lambda inner: AdaptedLinear(inner, bottleneck, init))
