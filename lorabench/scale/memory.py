"""Bytes, GPUs and multiply-adds of training: all of a model, or by a method a small part of it.

    training_bytes(held=241_394, trained=6_248, precision=PRECISIONS["fp32"])     # 1,040,552

A byte is counted where a parameter makes it: weights, gradients, Adam's state. Activations depend on the batch and are
not counted, nor are a library's buffers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lorabench.scale.architectures import Architecture, Matrix


class Precision(NamedTuple):
    """Bytes that a parameter takes: its weight, and if it is trained its gradient and the optimiser's state."""

    name: str
    weight: int
    gradient: int
    optimiser: int


PRECISIONS = {
    "fp32": Precision("fp32", weight=4, gradient=4, optimiser=4 + 4),
    "fp16": Precision("fp16", weight=2, gradient=2, optimiser=2 + 2),
    "bf16": Precision("bf16", weight=2, gradient=2, optimiser=2 + 2),
    "mixed": Precision("mixed", weight=2, gradient=2, optimiser=4 + 4 + 4),
}
"""Adam keeps two moments; `mixed` keeps them, and a copy of the trained weights, in 4 bytes.

That is Micikevicius et al. 2017, arXiv:1710.03740.
"""


def without_gradients(precision: Precision) -> Precision:
    """The same if each gradient is used and dropped at once."""
    return precision._replace(name=f"{precision.name}, no gradients", gradient=0)


def training_bytes(held: int, trained: int, precision: Precision) -> int:
    """Bytes of `held` parameters, of which `trained` have a gradient and Adam's state."""
    return held * precision.weight + trained * (precision.gradient + precision.optimiser)


def gpus(size: int, gigabytes: int) -> int:
    """How many GPUs of so many 10⁹ bytes hold `size` bytes."""
    return -(-size // (gigabytes * 10**9))


@dataclass(frozen=True)
class Tuning:
    """What a method does to an architecture.

    Attributes:
        label: `lora k=4`.
        targets: names of the matrices that it adapts.
        trainable: parameters that it trains.
        held: all parameters while it trains, the architecture's own among them.
        forward: multiply-adds of a token's forward; None if they depend on the batch.
        backward: those of its backward.
    """

    label: str
    targets: tuple[str, ...]
    trainable: int
    held: int
    forward: int | None
    backward: int | None


def full(architecture: Architecture) -> Tuning:
    """Training everything: per matrix n·m multiply-adds forward and twice that backward, once where nothing is below.

    Below the first matrix of a transformer is its embedding, which is trained as well; below a plain stack's, the data.
    """
    products = sum(matrix.n * matrix.m * matrix.layers for matrix in architecture.matrices)
    names = tuple(matrix.name for matrix in architecture.matrices)
    first = architecture.matrices[0]
    unneeded = 0 if architecture.usual else first.n * first.m
    return Tuning("full", names, architecture.total, architecture.total, products, 2 * products - unneeded)


@dataclass(frozen=True)
class Side:
    """One way to train, in numbers. `checkpoint_bytes`: the trained weights alone; `work`: multiply-adds of a token."""

    label: str
    trainable: int
    checkpoint_bytes: int
    training_bytes: int
    gpus: int
    forward: int | None
    backward: int | None
    work: int | None


@dataclass(frozen=True)
class Memory:
    """Bytes of training at one precision, and what they are over each other."""

    precision: str
    bytes_per_trained: int
    full_bytes: int
    tuned_bytes: int
    full_gpus: int
    tuned_gpus: int


@dataclass(frozen=True)
class MatrixRow:
    """One kind of matrix: its sizes, whether it is adapted, and its break-even rank."""

    name: str
    n: int
    m: int
    layers: int
    adapted: bool
    break_even: float


@dataclass(frozen=True)
class Projection:
    """A method on an architecture, beside training all of it.

    Attributes:
        share: trained parameters over all of the architecture's.
        memory: at the asked precision first, without gradients second, then at the others.
        many: 100 fine-tunes stored, as whole models, and as one model and the 100 checkpoints; bytes.
    """

    architecture: str
    title: str
    source: str
    total: int
    method: str
    targets: list[str]
    precision: str
    gpu_gb: int
    share: float
    full: Side
    tuned: Side
    many: tuple[int, int]
    matrices: list[MatrixRow]
    memory: list[Memory]


def project(architecture: Architecture, tuning: Tuning, precision: str = "fp16", gpu_gb: int = 32) -> Projection:
    """All figures of `tuning` on `architecture`; `precision` is a key of `PRECISIONS`, `gpu_gb` in 10⁹ bytes."""
    everything, chosen = full(architecture), PRECISIONS[precision]
    sides = [_side(tuned, chosen, gpu_gb) for tuned in (everything, tuning)]
    others = [other for other in PRECISIONS.values() if other.name != "bf16" and other[1:] != chosen[1:]]
    whole = sides[0].checkpoint_bytes
    return Projection(
        architecture=architecture.name,
        title=architecture.title,
        source=architecture.source,
        total=architecture.total,
        method=tuning.label,
        targets=list(tuning.targets),
        precision=precision,
        gpu_gb=gpu_gb,
        share=tuning.trainable / architecture.total,
        full=sides[0],
        tuned=sides[1],
        many=(100 * whole, whole + 100 * sides[1].checkpoint_bytes),
        matrices=[_row(matrix, tuning) for matrix in architecture.matrices],
        memory=[_memory(everything, tuning, p, gpu_gb) for p in (chosen, without_gradients(chosen), *others)],
    )


def _side(tuning: Tuning, precision: Precision, gpu_gb: int) -> Side:
    size = training_bytes(tuning.held, tuning.trainable, precision)
    return Side(
        label=tuning.label,
        trainable=tuning.trainable,
        checkpoint_bytes=tuning.trainable * precision.weight,
        training_bytes=size,
        gpus=gpus(size, gpu_gb),
        forward=tuning.forward,
        backward=tuning.backward,
        work=None if tuning.forward is None or tuning.backward is None else tuning.forward + tuning.backward,
    )


def _row(matrix: Matrix, tuning: Tuning) -> MatrixRow:
    return MatrixRow(matrix.name, matrix.n, matrix.m, matrix.layers, matrix.name in tuning.targets, matrix.break_even)


def _memory(everything: Tuning, tuning: Tuning, precision: Precision, gpu_gb: int) -> Memory:
    whole, part = (training_bytes(t.held, t.trainable, precision) for t in (everything, tuning))
    return Memory(
        precision=precision.name,
        bytes_per_trained=precision.weight + precision.gradient + precision.optimiser,
        full_bytes=whole,
        tuned_bytes=part,
        full_gpus=gpus(whole, gpu_gb),
        tuned_gpus=gpus(part, gpu_gb),
    )
