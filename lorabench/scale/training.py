"""Bytes, GPUs and multiply-adds of training: all of a model, or by a method a small part of it.

A byte is counted where a parameter makes it: weights, gradients, Adam's state. Activations depend on the batch and are
not counted, nor are a library's buffers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from lorabench.scale.architectures import Architecture


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


def full(architecture: Architecture) -> Training:
    """Training everything: per matrix n·m multiply-adds forward and twice that backward, once where nothing is below.

    Below the first matrix of a transformer is its embedding, which is trained as well; below a plain stack's, the data.
    """
    products = sum(matrix.n * matrix.m * matrix.layers for matrix in architecture.matrices)
    names = tuple(matrix.name for matrix in architecture.matrices)
    first = architecture.matrices[0]
    unneeded = 0 if architecture.usual else first.n * first.m
    return Training("full", names, architecture.total, architecture.total, products, 2 * products - unneeded)
