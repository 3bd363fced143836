"""What a registered method would take on a model that is not here: the registry's formulas on `scale`'s matrices.

found = estimate.project("gpt3-175b", "lora", {"k": 4}, targets=["q", "v"])
found.tuned.trainable                      # 18,874,368
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from lorabench import methods, scale
from lorabench.errors import UsageError
from lorabench.methods.registry import Products

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lorabench.methods import Method
    from lorabench.scale import Architecture, Matrix, Projection, Recount, Tuning


def architecture(name: str) -> Architecture:
    """The model called `name`.

    Raises:
        UsageError: there is none; the nearest names are given.
    """
    if name not in scale.ARCHITECTURES:
        raise UsageError(f"no architecture is called {name!r}{_nearest(name, scale.ARCHITECTURES)}; or give --sizes")
    return scale.ARCHITECTURES[name]


def given(sizes: str) -> Architecture:
    """Linear layers of these sizes, written as `784x256,256x10`.

    Raises:
        UsageError: they are written otherwise.
    """
    return scale.given(sizes)


def check_method(name: str) -> None:
    """Refuse a name that is no method's.

    Raises:
        UsageError: with the nearest names.
    """
    if name not in methods.METHODS:
        raise UsageError(f"no method is called {name!r}{_nearest(name, methods.METHODS)}")


def check_precision(name: str) -> None:
    """Refuse a name that is no precision's.

    Raises:
        UsageError: with the nearest names.
    """
    if name not in scale.PRECISIONS:
        raise UsageError(f"no precision is called {name!r}{_nearest(name, scale.PRECISIONS)}")


def tuning(
    model: Architecture, method: str, options: Mapping[str, Any], targets: Sequence[str] | None = None
) -> Tuning:
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
    found = list(dict.fromkeys(targets or model.usual or entry.where(names, chosen)))
    adapted = [matrix for matrix in model.matrices if matrix.name in found]
    shapes = _shapes(adapted)
    trainable = entry.formula(shapes, chosen)
    if entry.in_place:
        trainable -= sum(matrix.m * matrix.layers for matrix in adapted if not matrix.bias)
    if trainable <= 0:
        raise UsageError(f"{method} finds nothing to train in {', '.join(found)} of {model.name}: no biases there")
    added = 0 if entry.in_place else trainable + entry.frozen(shapes, chosen)
    forward, backward = _products(model, found, entry, chosen)
    return scale.Tuning(
        label=f"{method} k={chosen['k']}" if "k" in chosen else method,
        targets=tuple(matrix.name for matrix in adapted),
        trainable=trainable,
        held=model.total + added,
        forward=forward,
        backward=backward,
    )


def _products(
    model: Architecture, targets: Sequence[str], entry: Method, options: Mapping[str, Any]
) -> tuple[int, int] | tuple[None, None]:
    """Multiply-adds of a token, forward through everything and backward down to the first trained matrix."""
    if entry.products is None:
        return None, None
    forward = backward = 0
    lowest = model.lowest(targets)
    for matrix in model.matrices:
        n, m, ends = matrix.n, matrix.m, lowest[matrix.name]
        made = entry.products(n, m, options) if matrix.name in targets else Products(n * m, n * m, 0)
        forward += matrix.layers * made.forward
        backward += (matrix.layers - ends) * made.backward + ends * made.lowest
    return forward, backward


def project(
    model: Architecture | str,
    method: str = "lora",
    options: Mapping[str, Any] | None = None,
    *,
    targets: Sequence[str] | None = None,
    precision: str = "fp16",
    gpu_gb: int = 32,
) -> Projection:
    """All figures of a method on a model, beside full fine-tuning.

    Raises:
        UsageError: as `tuning`; or there is no such architecture or precision.
    """
    there = architecture(model) if isinstance(model, str) else model
    check_precision(precision)
    return scale.project(there, tuning(there, method, options or {}, targets), precision, gpu_gb)


def warnings(model: Architecture, method: str, options: Mapping[str, Any], targets: Sequence[str]) -> list[str]:
    """What one should know of these options on these matrices."""
    return methods.warnings(_shapes([matrix for matrix in model.matrices if matrix.name in targets]), options, method)


def recounts() -> list[Recount]:
    """The LoRA paper's rows on GPT-3 175B, counted again."""
    model = architecture("gpt3-175b")
    width = model.matrix("q").n
    return [
        scale.recount(
            row,
            tuning(model, row.method, row.options, row.targets).trainable if row.method else row.vectors * width,
            model,
        )
        for row in scale.PAPER_ROWS
    ]


def _shapes(matrices: Iterable[Matrix]) -> list[tuple[int, int]]:
    return [(matrix.n, matrix.m) for matrix in matrices for _ in range(matrix.layers)]


def _nearest(word: str, names: Iterable[str]) -> str:
    known = list(names)
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    return f"; the nearest: {', '.join(near)}" if near else f"; known: {', '.join(known)}"
