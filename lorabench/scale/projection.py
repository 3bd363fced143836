"""What a registered method would take on a model that is not here: the registry's formulas on the model's matrices.

found = project("gpt3-175b", "lora", {"k": 4}, targets=["q", "v"])
found.tuned.trainable                      # 18,874,368
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lorabench import methods
from lorabench.errors import UsageError
from lorabench.methods.registry import Products
from lorabench.scale.architectures import ARCHITECTURES
from lorabench.scale.training import PRECISIONS, Training, full

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from lorabench.methods import Method
    from lorabench.scale.architectures import Architecture, Matrix


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


def check_method(name: str) -> None:
    """Refuse, by a UsageError with the nearest names, a name that is no method's."""
    _check("method", name, methods.METHODS)


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
    check_method(method)
    entry = methods.METHODS[method]
    chosen = methods.complete(method, options)
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
    return f"; the nearest: {', '.join(near)}" if near else f"; known: {', '.join(known)}"
