"""What each method's parameters are at birth: the papers' distributions, over many values; constants exactly.

A wrong spread moves no logit at birth, breaks no gradient, and shows as a few tenths of a percent in a study.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lorabench import methods
from lorabench.model import seeded

stats: Any = importlib.import_module("scipy.stats")  # it carries no types

N, M, OUT = 900, 720, 560
"""Inputs, hidden units and outputs of the model: no two alike, so that one taken for another is seen."""
SHAPES = {"0": (N, M), "1": (M, OUT)}
K = 16


@dataclass(frozen=True)
class Draw:
    """A continuous distribution, symmetric around 0: scipy's name of it, its scale, and its largest absolute value."""

    family: Any
    spread: float
    largest: float = math.inf

    def check(self, t: Tensor, where: str) -> None:
        """Kolmogorov and Smirnov's test of the shape, and the standard deviation to four of its own."""
        values = t.detach().double().flatten().numpy()
        assert np.abs(values).max() <= self.largest * (1 + 1e-6), f"{where} reaches {np.abs(values).max():.4g}"
        assert stats.kstest(values, self.family.cdf).pvalue > 1e-3, f"{where} is of another shape"
        # The kurtosis of none of these is above 3.
        assert abs(values.std() / self.spread - 1) < 4 * math.sqrt(0.5 / len(values)), f"{where}: sd {values.std():.4g}"
        some = values[:100_000]  # of more, chance makes some alike
        assert len(np.unique(some)) > 0.99 * len(some), f"{where} repeats itself"


def uniform(largest: float) -> Draw:
    """U(-largest, largest)."""
    return Draw(stats.uniform(-largest, 2 * largest), largest / math.sqrt(3), largest)


def normal(sd: float) -> Draw:
    """N(0, sd²)."""
    return Draw(stats.norm(0, sd), sd)


def cut(sd: float) -> Draw:
    """N(0, sd²), cut off at two standard deviations."""
    family = stats.truncnorm(-2, 2, scale=sd)
    return Draw(family, float(family.std()), 2 * sd)


def zero(t: Tensor) -> bool:
    return not t.count_nonzero()


def one(t: Tensor) -> bool:
    return bool((t == 1).all())


def tenth(t: Tensor) -> bool:
    return bool((t == torch.tensor(0.1)).all())


def kaiming(n: int, m: int) -> dict[str, Any]:
    """A as loralib and PEFT draw it, U(-1/√n, 1/√n)."""
    return {"At": uniform(1 / math.sqrt(n)), "B": zero}


def lokr(n: int, m: int) -> dict[str, Any]:
    n2 = min(d for d in range(1, n + 1) if n % d == 0 and d * d >= n)
    return {"C": zero, "D1": uniform(1 / math.sqrt(K)), "D2": uniform(1 / math.sqrt(n2))}


def adapter(houlsby: bool) -> Callable[[int, int], dict[str, Any]]:
    names = {"D": cut(0.01), "d": zero, "U": cut(0.01) if houlsby else zero, "u": zero}
    return lambda n, m: {f"adapter.{name}": expected for name, expected in names.items()}


def vera(n: int, m: int) -> dict[str, Any]:
    """VA and VB belong to the widest layer, N inputs and M outputs, and are shared; the first layer holds them."""
    shared = {"shared.VA": uniform(math.sqrt(6 / N)), "shared.VB": uniform(math.sqrt(6 / K))}
    return {**(shared if n == N else {}), "d": tenth, "b": zero}


def fifteen(t: Tensor) -> bool:
    return bool((t == 15).all())


def gralora(n: int, m: int) -> dict[str, Any]:
    return {"A": uniform(math.sqrt(2 / n)), "B": zero}


def delora(n: int, m: int) -> dict[str, Any]:
    return {"A": uniform(1 / math.sqrt(n)), "B": zero, "strength": fifteen}


def randlora(n: int, m: int) -> dict[str, Any]:
    """A and B belong to the longest of the short sides, M, and of the long ones, N, and are shared."""
    shared = {"shared.A": uniform(math.sqrt(3)), "shared.B": uniform(math.sqrt(3))}

    def one_by_the_shorter_side(t: Tensor) -> bool:
        return bool((t == torch.tensor(1 / m)).all())

    return {**(shared if n == N else {}), "Lambda": zero, "Gamma": one_by_the_shorter_side}


BIRTHS: dict[str, tuple[str, dict[str, Any], Callable[[int, int], dict[str, Any]]]] = {
    "lora-talk": ("lora", {"k": K}, lambda n, m: {"At": normal(1), "B": zero}),
    "lora-kaiming": ("lora", {"k": K, "init": "kaiming"}, kaiming),
    "lora-gaussian": ("lora", {"k": K, "init": "gaussian"}, lambda n, m: {"At": normal(1 / K), "B": zero}),
    "rslora": ("rslora", {"k": K}, kaiming),
    "lora-plus": ("lora-plus", {"k": K}, kaiming),
    "lora-fa": ("lora-fa", {"k": K}, kaiming),
    "dora": ("dora", {"k": K}, kaiming),
    "hira": ("hira", {"k": K}, lambda n, m: {"A": uniform(1 / math.sqrt(n)), "B": zero}),
    "vera": ("vera", {"k": K}, vera),
    "adalora": ("adalora", {"k": K}, lambda n, m: {"P": normal(0.02), "E": zero, "Q": normal(0.02)}),
    "loha": ("loha", {"k": K}, lambda n, m: {"A1": normal(1), "B1": normal(0.1), "A2": normal(1), "B2": zero}),
    "lokr": ("lokr", {"k": K}, lokr),
    "adapter": ("adapter", {"bottleneck": K}, adapter(houlsby=True)),
    "adapter-zero": ("adapter", {"bottleneck": K, "init": "zero"}, adapter(houlsby=False)),
    "miss": ("miss", {"k": K}, lambda n, m: {"D": zero}),
    "oft": ("oft", {}, lambda n, m: {"S": zero}),
    "gralora": ("gralora", {"k": K}, gralora),
    "delora": ("delora", {"k": K}, delora),
    "fourierft": ("fourierft", {}, lambda n, m: {"c": zero}),
    "shira": ("shira", {"k": K}, lambda n, m: {"S": zero}),
    "boft": ("boft", {"block": 2}, lambda n, m: {"S": zero, "s": one}),
    "randlora": ("randlora", {"k": K}, randlora),
    "ia3": ("ia3", {}, lambda n, m: {"l": one}),
    "ia3-in": ("ia3", {"place": "in"}, lambda n, m: {"l": one}),
    "prompt": ("prompt", {"variant": "deep"}, lambda n, m: {"p": zero}),
    "reprogram": ("prompt", {"variant": "reprogram"}, lambda n, m: {"w": zero}),
}


def born(name: str, options: dict[str, Any]) -> nn.Module:
    model = nn.Sequential(nn.Linear(N, M), nn.Linear(M, OUT))
    with seeded(1):
        methods.apply(model, name, targets=list(SHAPES), **options)
    return model


@pytest.mark.parametrize("which", BIRTHS)
def test_a_method_is_born_as_its_paper_says(which: str) -> None:
    name, options, births = BIRTHS[which]
    model = born(name, options)
    firsts: list[tuple[float, ...]] = []
    for target, (n, m) in SHAPES.items():
        layer = model.get_submodule(target)
        expected = births(n, m)
        # g of DoRA, the norms of W0, is no draw
        own = {p for p, _ in layer.named_parameters() if not p.startswith("inner.")} - {"g"}
        assert own == set(expected)
        for part, wanted in expected.items():
            t = layer.get_parameter(part)
            if isinstance(wanted, Draw):
                wanted.check(t, f"{which} {target}.{part}")
                firsts.append(tuple(cast("list[float]", t.flatten()[:9].tolist())))
            else:
                assert wanted(t), f"{which} {target}.{part} is not {wanted.__name__}"
    assert len(set(firsts)) == len(firsts), f"{which} draws the same for two of its parts"


def test_every_method_that_adds_parameters_is_looked_at() -> None:
    added = {name for name, method in methods.METHODS.items() if not method.in_place}
    assert added == {name for name, _, _ in BIRTHS.values()} | {
        "hra",
        "pissa",
        "olora",
    }  # the last two are parts of W0: test_oracles


def test_hras_reflections_are_drawn_in_pairs() -> None:
    model, firsts = born("hra", {"k": K}), set[float]()
    for target, (n, _) in SHAPES.items():
        drawn = model.get_submodule(target).get_parameter("Ut")
        assert torch.equal(drawn[::2], drawn[1::2])
        uniform(1 / math.sqrt(n)).check(drawn[::2], target)
        firsts.add(drawn[0, 0].item())
    assert len(firsts) == 2


@pytest.mark.parametrize(("name", "places"), [("fourierft", "E"), ("shira", "mask")])
def test_places_in_a_matrix_are_drawn_without_repetition_and_evenly(name: str, places: str) -> None:
    options = {"frequencies": 5000} if name == "fourierft" else {"k": 3}
    model = born(name, options)
    for target, (n, m) in SHAPES.items():
        rows, columns = model.get_submodule(target).get_buffer(places).numpy()
        assert len(rows) == (5000 if name == "fourierft" else 3 * (n + m))
        assert len(np.unique(rows * n + columns)) == len(rows)
        for t, size in ((rows, m), (columns, n)):
            assert stats.kstest((t + 0.5) / size, "uniform").pvalue > 1e-3
        assert abs(float(np.corrcoef(rows, columns)[0, 1])) < 4 / math.sqrt(len(rows))


def test_dora_begins_with_the_length_of_each_row() -> None:
    model = born("dora", {"k": K})
    for target in SHAPES:
        layer: Any = model.get_submodule(target)
        torch.testing.assert_close(layer.g.detach(), layer.inner.weight.detach().norm(dim=1))
