"""What a registered method would take on a model that is not here: the registry's formulas on the model's matrices.

found = project("gpt3-175b", "lora", {"k": 4}, targets=["q", "v"])
found.tuned.trainable                      # 18,874,368

A byte is counted where a parameter makes it: weights, gradients, Adam's state. Activations depend on the batch and are
not counted, nor are a library's buffers.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from lorabench import methods
from lorabench.errors import UsageError
from lorabench.methods import Method
from lorabench.methods.entry import Products
from lorabench.scale.architectures import ARCHITECTURES, Architecture, Matrix


class Precision(NamedTuple):
    """Bytes that a parameter takes: its weight, and if it is trained its gradient and the optimiser's state."""

    name: str
    weight: int
    gradient: int
    optimiser: int

    @property
    def trained(self) -> int:
        """Bytes of a trained parameter."""
        return self.weight + self.gradient + self.optimiser

    def without_gradients(self) -> Precision:
        """The same if each gradient is used and dropped at once."""
        return self._replace(name=f"{self.name}, no gradients", gradient=0)


PRECISIONS = {
    "fp32": Precision("fp32", weight=4, gradient=4, optimiser=4 + 4),
    "fp16": Precision("fp16", weight=2, gradient=2, optimiser=2 + 2),
    "bf16": Precision("bf16", weight=2, gradient=2, optimiser=2 + 2),
    "mixed": Precision("mixed", weight=2, gradient=2, optimiser=4 + 4 + 4),
}
"""Adam keeps two moments; `mixed` keeps them, and a copy of the trained weights, in 4 bytes.

That is Micikevicius et al. 2017, arXiv:1710.03740.
"""


def training_bytes(held: int, trained: int, precision: Precision) -> int:
    """Bytes of `held` parameters, of which `trained` have a gradient and Adam's state."""
    return held * precision.weight + trained * (precision.gradient + precision.optimiser)


def gpus(size: int, gigabytes: int) -> int:
    """How many GPUs of so many 10⁹ bytes hold `size` bytes."""
    return -(-size // (gigabytes * 10**9))


@dataclass(frozen=True)
class Training:
    """One way to train an architecture.

    Attributes:
        label: `lora k=4`.
        targets: names of the matrices that it adapts.
        trainable: parameters that it trains.
        held: all parameters while it trains, the architecture's own among them.
        forward: multiply-adds of a token's forward; None if they depend on the batch.
        backward: those of its backward.
        gpu_gb: memory of a GPU in 10⁹ bytes.
    """

    label: str
    targets: tuple[str, ...]
    trainable: int
    held: int
    forward: int | None
    backward: int | None
    precision: Precision = PRECISIONS["fp16"]
    gpu_gb: int = 32

    @property
    def work(self) -> int | None:
        """Multiply-adds of a token."""
        return None if self.forward is None or self.backward is None else self.forward + self.backward

    @property
    def checkpoint_bytes(self) -> int:
        """Bytes of the trained weights alone."""
        return self.trainable * self.precision.weight

    @property
    def training_bytes(self) -> int:
        """Bytes of weights, gradients and Adam's state."""
        return training_bytes(self.held, self.trainable, self.precision)

    @property
    def gpus(self) -> int:
        """How many GPUs hold these."""
        return gpus(self.training_bytes, self.gpu_gb)


@dataclass(frozen=True)
class Projection:
    """A method on an architecture, beside training all of it, at one precision on GPUs of one size."""

    architecture: Architecture
    full: Training
    tuned: Training

    @property
    def share(self) -> float:
        """Trained parameters over all of the architecture's."""
        return self.tuned.trainable / self.architecture.total

    @property
    def many(self) -> tuple[int, int]:
        """Bytes of 100 fine-tunes, stored as whole models, and as one model and 100 checkpoints."""
        whole = self.full.checkpoint_bytes
        return 100 * whole, whole + 100 * self.tuned.checkpoint_bytes

    @property
    def memory(self) -> list[tuple[Training, Training]]:
        """Full and tuned at the asked precision first, without gradients second, then at the others."""
        asked = self.full.precision
        others = [other for other in PRECISIONS.values() if other.name != "bf16" and other[1:] != asked[1:]]
        return [
            (replace(self.full, precision=precision), replace(self.tuned, precision=precision))
            for precision in (asked, asked.without_gradients(), *others)
        ]


def project(
    model: Architecture | str,
    method: str = "lora",
    options: Mapping[str, Any] | None = None,
    *,
    targets: Sequence[str] | None = None,
    precision: str = "fp16",
    gpu_gb: int = 32,
) -> Projection:
    """Put a method on a model, beside full fine-tuning.

    Raises:
        UsageError: as `train`; or there is no such architecture or precision.
    """
    chosen = architecture(model) if isinstance(model, str) else model
    _check("precision", precision, PRECISIONS)
    both = (full(chosen), train(chosen, method, options or {}, targets))
    return Projection(chosen, *(replace(side, precision=PRECISIONS[precision], gpu_gb=gpu_gb) for side in both))


def architecture(name: str) -> Architecture:
    """The model called `name`.

    Raises:
        UsageError: there is none; the nearest names are given.
    """
    _check("architecture", name, ARCHITECTURES, "; or give --sizes")
    return ARCHITECTURES[name]


def full(architecture: Architecture) -> Training:
    """Training everything: per matrix n·m multiply-adds forward and twice that backward, once where nothing is below.

    Below the first matrix of a transformer is its embedding, which is trained as well; below a plain stack's, the data.
    """
    products = sum(matrix.n * matrix.m * matrix.layers for matrix in architecture.matrices)
    names = tuple(matrix.name for matrix in architecture.matrices)
    first = architecture.matrices[0]
    unneeded = 0 if architecture.usual else first.n * first.m
    return Training("full", names, architecture.total, architecture.total, products, 2 * products - unneeded)


def train(
    model: Architecture, method: str, options: Mapping[str, Any], targets: Sequence[str] | None = None
) -> Training:
    """What `method` does to `model`.

    Args:
        model: where.
        method: a key of `methods.METHODS`.
        options: the method's own settings; defaults fill the rest.
        targets: names of the matrices to adapt; None for the architecture's usual ones, or in a plain stack of layers
            for those that the method goes to by itself.

    Raises:
        UsageError: no such method or matrix, or the method finds nothing to train there.
    """
    chosen = methods.complete(method, options)
    entry = methods.METHODS[method]
    names = [matrix.name for matrix in model.matrices]
    if unknown := [name for name in targets or () if name not in names]:
        raise UsageError(f"{model.name} has no matrix {unknown[0]!r}{_nearest(unknown[0], names)}")
    if targets is None and model.usual and entry.where is not methods.every:
        raise UsageError(
            f"{method} goes to layers by their order, and {model.name} has no plain order of layers; name them, "
            f"e.g. --targets {','.join(model.usual)}"
        )
    wanted = list(dict.fromkeys(targets or model.usual or entry.where(names, chosen)))
    adapted = [matrix for matrix in model.matrices if matrix.name in wanted]
    shapes = _shapes(adapted)
    trainable = entry.trainable(shapes, chosen)
    if entry.in_place:
        trainable -= sum(matrix.m * matrix.layers for matrix in adapted if not matrix.bias)
    if trainable <= 0:
        raise UsageError(f"{method} finds nothing to train in {', '.join(wanted)} of {model.name}: no biases there")
    added = 0 if entry.in_place else trainable + entry.frozen(shapes, chosen)
    label = f"{method} k={chosen['k']}" if "k" in chosen else method
    forward, backward = _products(model, wanted, entry, chosen)
    return Training(label, tuple(matrix.name for matrix in adapted), trainable, model.total + added, forward, backward)


def _products(
    model: Architecture, targets: Sequence[str], entry: Method, options: Mapping[str, Any]
) -> tuple[int, int] | tuple[None, None]:
    """Multiply-adds of a token, forward through everything and backward down to the first trained matrix."""
    if entry.remakes:
        return None, None
    forward = backward = 0
    lowest = model.lowest(targets)
    for matrix in model.matrices:
        n, m, ends = matrix.n, matrix.m, lowest[matrix.name]
        made = entry.products(n, m, options) if matrix.name in targets else None
        made = made or Products(n * m, n * m, 0)
        forward += matrix.layers * made.forward
        backward += (matrix.layers - ends) * made.backward + ends * made.lowest
    return forward, backward


def warnings(model: Architecture, method: str, options: Mapping[str, Any], targets: Sequence[str]) -> list[str]:
    """What one should know of these options on these matrices."""
    return methods.warnings(_shapes([matrix for matrix in model.matrices if matrix.name in targets]), options, method)


def _shapes(matrices: Iterable[Matrix]) -> list[tuple[int, int]]:
    return [(matrix.n, matrix.m) for matrix in matrices for _ in range(matrix.layers)]


def _check(kind: str, name: str, known: Collection[str], otherwise: str = "") -> None:
    if name not in known:
        raise UsageError(f"no {kind} is called {name!r}{_nearest(name, known)}{otherwise}")


def _nearest(word: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    return f"; {'the nearest' if near else 'known'}: {', '.join(near or known)}"
