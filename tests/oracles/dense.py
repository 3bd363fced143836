"""What each method computes, written a second time: dense, slow, straight from the paper's formula.

No layer's own forward is used, only its parameters. `check_formula` compares outputs and all gradients in float64.
"""

# ruff: noqa: N806 -- A, B and W are the papers' names
from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from contract import Case, stir
from torch import Tensor, nn

from lorabench import methods
from lorabench.model import seeded

TOLERANCE = 1e-12
"""Largest difference, as a share of the largest value."""


def lora(layer: Any, born: Any, o: Mapping[str, Any]) -> Tensor:
    s = 1.0 if o["alpha"] is None else o["alpha"] / o["k"]
    return layer.inner.weight + s * (layer.A @ layer.B).T


def rslora(layer: Any, born: Any, o: Mapping[str, Any]) -> Tensor:
    return layer.inner.weight + o["alpha"] / math.sqrt(o["k"]) * (layer.A @ layer.B).T


def plain_lora(layer: Any, born: Any, o: Mapping[str, Any]) -> Tensor:
    return layer.inner.weight + (layer.A @ layer.B).T


def residual_lora(layer: Any, born: Any, o: Mapping[str, Any]) -> Tensor:
    return layer.inner.weight - (born.A @ born.B).T.detach() + (layer.A @ layer.B).T


def dora(layer: Any, born: Any, o: Mapping[str, Any]) -> Tensor:
    V = layer.inner.weight + (layer.A @ layer.B).T
    return torch.diag(layer.g / V.norm(dim=1).detach()) @ V


def vera(layer: Any, born: Any, o: Mapping[str, Any]) -> Tensor:
    m, n = layer.inner.weight.shape
    return layer.inner.weight + torch.diag(layer.b) @ layer.VB[:m] @ torch.diag(layer.d) @ layer.VA[:, :n]


def adalora(layer: Any, born: Any, o: Mapping[str, Any]) -> Tensor:
    return layer.inner.weight + layer.P @ torch.diag(layer.E) @ layer.Q


def loha(layer: Any, born: Any, o: Mapping[str, Any]) -> Tensor:
    return layer.inner.weight + ((layer.A1 @ layer.B1) * (layer.A2 @ layer.B2)).T


def lokr(layer: Any, born: Any, o: Mapping[str, Any]) -> Tensor:
    return layer.inner.weight + torch.kron(layer.C, layer.D1 @ layer.D2)


def hira(layer: Any, born: Any, o: Mapping[str, Any]) -> Tensor:
    return layer.inner.weight * (1 + (layer.A @ layer.B).T)


def miss(layer: Any, born: Any, o: Mapping[str, Any]) -> Tensor:
    rows = [layer.D[i % o["k"]] for i in range(layer.inner.in_features)]
    return layer.inner.weight + torch.stack(rows, 1)


def rotations(triangles: Tensor, side: int) -> Tensor:
    """R, block by block by the inverse of I - S."""
    blocks: list[Tensor] = []
    identity = torch.eye(side).double()
    for values in triangles:
        skew = torch.zeros_like(identity)
        places = [(i, j) for i in range(side) for j in range(i + 1, side)]
        for (i, j), value in zip(places, values, strict=True):
            skew = skew + value * (identity[i].outer(identity[j]) - identity[j].outer(identity[i]))
        blocks.append((identity + skew) @ (identity - skew).inverse())
    return cast("Tensor", torch.block_diag(*blocks))


def oft(layer: Any, born: Any, o: Mapping[str, Any]) -> Tensor:
    return layer.inner.weight @ rotations(layer.S, o["block"]).T


def boft(layer: Any, born: Any, o: Mapping[str, Any]) -> Tensor:
    """Each factor as a dense matrix, its inputs put in order by a permutation: runs of 2^i b, and in each of them half
    a block of the first half, half a block of the second."""
    turned, n, half = layer.inner.weight, layer.inner.in_features, o["block"] // 2
    for i, S in enumerate(layer.S):
        run = 2**i * o["block"]
        order = [
            start + second * run // 2 + j * half + a
            for start in range(0, n, run)
            for j in range(2**i)
            for second in (0, 1)
            for a in range(half)
        ]
        P = torch.eye(n).double()[order]
        turned = turned @ (P.T @ rotations(S, o["block"]) @ P).T
    return torch.diag(layer.s) @ turned


def randlora(layer: Any, born: Any, o: Mapping[str, Any]) -> Tensor:
    W0, k = layer.inner.weight, o["k"]
    p, q = min(W0.shape), max(W0.shape)
    N = math.ceil(p / k)
    update = torch.zeros(q, p).double()
    for j in range(N):
        columns = [i * N + j for i in range(k)]
        B, A = layer.B[:q, columns], layer.A[:, :p]
        update = update + o["scale"] * B @ torch.diag(layer.Lambda[:, j]) @ A @ torch.diag(layer.Gamma[j])
    return W0 + (update if W0.shape == (q, p) else update.T)


def gralora(layer: Any, born: Any, o: Mapping[str, Any]) -> Tensor:
    """Block by block: the j-th share of the outputs of the i-th of the inputs."""
    g = range(o["blocks"])
    rows = [torch.cat([layer.A[i, :, j] @ layer.B[i, j] for j in g], 1) for i in g]
    return layer.inner.weight + torch.cat(rows).T


def hra(layer: Any, born: Any, o: Mapping[str, Any]) -> Tensor:
    identity = torch.eye(layer.inner.in_features).double()
    reflections = [identity - 2 * u.outer(u) / (u @ u) for u in layer.Ut]
    return cast("Tensor", torch.linalg.multi_dot([layer.inner.weight, *reflections]))


def fourierft(layer: Any, born: Any, o: Mapping[str, Any]) -> Tensor:
    """Each entry's wave over the whole matrix, 1/(mn) cos 2π(u p/m + v q/n), its imaginary part left out."""
    m, n = layer.inner.weight.shape
    u, v = layer.E
    rows, columns = torch.arange(m).double(), torch.arange(n).double()
    phases = 2j * torch.pi * rows[:, None] * u / m, 2j * torch.pi * columns[:, None] * v / n
    waves = ((phases[0].exp() * layer.c) @ phases[1].exp().T).real
    return layer.inner.weight + o["alpha"] / (m * n) * waves


def delora(layer: Any, born: Any, o: Mapping[str, Any]) -> Tensor:
    W0 = layer.inner.weight
    directions = [a.outer(b) / (a.norm() * b.norm()) for a, b in zip(layer.A.T, layer.B, strict=True)]
    return W0 + layer.strength / o["k"] * (torch.stack(directions).sum(0).T @ torch.diag(W0.norm(dim=0)))


def shira(layer: Any, born: Any, o: Mapping[str, Any]) -> Tensor:
    m, n = layer.inner.weight.shape
    return layer.inner.weight + torch.zeros(m, n).double().index_put(tuple(layer.mask), layer.S)


WEIGHTS: dict[str, Callable[[Any, Any, Mapping[str, Any]], Tensor]] = {
    "lora": lora,
    "rslora": rslora,
    "lora-plus": plain_lora,
    "lora-fa": plain_lora,
    "dora": dora,
    "pissa": residual_lora,
    "olora": residual_lora,
    "vera": vera,
    "adalora": adalora,
    "loha": loha,
    "lokr": lokr,
    "hira": hira,
    "oft": oft,
    "miss": miss,
    "gralora": gralora,
    "hra": hra,
    "fourierft": fourierft,
    "delora": delora,
    "shira": shira,
    "boft": boft,
    "randlora": randlora,
}
"""Methods that change W alone: the matrix W1 (m, n) of a layer."""


def output(case: Case, layer: Any, born: Any, x: Tensor) -> Tensor:
    """What the layer must make of x (..., n)."""
    o = case.complete
    if case.name in WEIGHTS:
        return x @ WEIGHTS[case.name](layer, born, o).T + layer.inner.bias
    if isinstance(layer, nn.Linear):
        return x @ layer.weight.T + layer.bias
    W, b = layer.inner.weight, layer.inner.bias
    if case.name == "adapter":
        D, d, U, u = layer.adapter.D, layer.adapter.d, layer.adapter.U, layer.adapter.u
        return (x + torch.relu(x @ D + d) @ U + u) @ W.T + b
    if case.name == "ia3":
        return layer.l * (x @ W.T + b) if o["place"] == "out" else (layer.l * x) @ W.T + b
    assert case.name == "prompt"
    if o["variant"] == "reprogram":
        return torch.minimum(torch.maximum(x + layer.w.tanh(), x.new_zeros(())), x.new_ones(())) @ W.T + b
    side = math.isqrt(W.shape[1])
    p = torch.zeros(side, side, dtype=W.dtype)
    if o["variant"] == "border":
        frame = [(i, j) for i in range(side) for j in range(side) if min(i, j, side - 1 - i, side - 1 - j) < 4]
        rows, columns = zip(*frame, strict=True)
        return (x + p.index_put((torch.tensor(rows), torch.tensor(columns)), layer.p).flatten()) @ W.T + b
    return (x + layer.p) @ W.T + b


def check_formula(case: Case) -> float:
    """Output and gradients of a layer of every shape agree with `output`; gives the largest difference seen."""
    worst = 0.0
    for n, m in ((100, 100), (100, 36), (196, 400)):
        with seeded(0):
            model = nn.Sequential(nn.Linear(n, m)).double()
            methods.apply(model, case.name, targets=["0"], **case.options)
            x, cotangent = torch.rand(7, n).double().requires_grad_(), torch.randn(7, m).double()
        born = copy.deepcopy(model[0])
        stir(model, 0.2)
        parameters = [p for p in model.parameters() if p.requires_grad]
        results: list[tuple[Tensor, ...]] = []
        for y in (model(x), output(case, model[0], born, x)):
            results.append((y, *torch.autograd.grad(y, [*parameters, x], cotangent)))
        for got, expected in zip(*results, strict=True):
            off = ((got - expected).abs().max() / expected.abs().max()).item()
            assert off <= TOLERANCE, f"{case} is {off:.3g} off its formula on a layer {n} to {m}"
            worst = max(worst, off)
    return worst
