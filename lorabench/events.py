"""What a running stage tells: plain facts, sent to whoever shows them, also across processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Message:
    """A sentence for the user."""

    text: str
    run_id: str | None = None


@dataclass(frozen=True)
class Failed(Message):
    """A stage has failed; the text says why, and `error` where."""

    error: BaseException | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Download:
    """`done` of `total` bytes have arrived (`total` None: unknown) by the way `way`."""

    way: str
    done: int
    total: int | None


@dataclass(frozen=True)
class Started:
    """A stage begins that trains for `epochs` epochs."""

    run_id: str
    epochs: int


@dataclass(frozen=True)
class EpochDone:
    """One epoch of a stage: mean loss (nats), accuracy on the training images, seconds."""

    run_id: str
    epoch: int
    epochs: int
    loss: float
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class Finished:
    """A stage is done, or was done before (`cached`)."""

    run_id: str
    cached: bool


@dataclass(frozen=True)
class Overall:
    """`settled` of `total` stages are done or have failed."""

    settled: int
    total: int


Event = Overall | Message | Download | Started | EpochDone | Finished
Emit = Callable[[Event], None]
