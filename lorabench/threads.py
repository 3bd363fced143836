"""The same bits at any number of threads: a number that is in no run's id must not change its result.

    with threads.using(2):                 # torch's own number, set back afterwards
        ...
    threads.agree(gradients, 2)            # whether `gradients()` are the same bits on one thread and on two
    threads.Pace(2)                        # two for the steps of a training, as long as they are faster

A matrix product splits its sums by the shape that each thread gets, so some shapes depend on the number of threads, and
which ones depends on the processor. Nothing here guesses: what is to run on several threads is computed once on one and
once on all of them, and runs on one where a single bit differs. `Even` mends the one product that would keep the base
on one thread, the weight gradient of a layer whose number of outputs is no multiple of 4.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

MULTIPLE = 4
"""Outputs in a block of a product's inner loop: what is left over is summed in an order that depends on the threads."""
WARM, LATE, IN_A_ROW = 3, 2.0, 2
"""Steps of a training that run on one thread to be timed; how many times their least a step may take on more threads;
how many late ones in a row are too many. Chosen beside 0, 1, 2 and 4 busy programs (runs/README.md)."""


class _EvenLinear(torch.autograd.Function):
    """`F.linear` of a batch, the weight's gradient computed with columns of zeros up to a multiple of `MULTIPLE`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor | None]:
        (g,) = gradients
        x, weight = ctx.saved_tensors
        padded = F.pad(g, (0, -g.shape[1] % MULTIPLE))
        need_x, _, need_bias = ctx.needs_input_grad
        return g @ weight if need_x else None, (padded.t() @ x)[: g.shape[1]], g.sum(0) if need_bias else None


class Even(TorchFunctionMode):
    """Inside, a linear layer on a batch (n, inputs) computes its weight's gradient by whole blocks.

    The sums are the same on one thread, bit for bit, and on more than one most processors then give these bits too.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Take the place of `F.linear` where its weight is trained and its outputs leave a rest."""
        if func is F.linear and not kwargs:
            x, weight, *bias = args
            if x.dim() == 2 and weight.requires_grad and len(weight) > MULTIPLE and len(weight) % MULTIPLE:
                return cast("Any", _EvenLinear).apply(x, weight, *bias or [None])
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def using(count: int) -> Generator[None]:
    """Inside, torch computes on `count` threads, by products that need not depend on it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with Even() if count > 1 else contextlib.nullcontext():
            yield
    finally:
        torch.set_num_threads(before)


def agree(compute: Callable[[], Sequence[Tensor]], count: int) -> bool:
    """Whether the tensors that `compute` gives are the same bits on one thread and on `count`; it is called twice."""
    with using(1):
        alone = compute()
    with using(count):
        together = compute()
    return all(map(torch.equal, alone, together))


class Pace:
    """On how many threads a training's steps run: on one at first, then on `count` as long as that is faster.

    Threads wait for each other by spinning: two are faster than one on a machine of their own, and many times slower
    where another program has a core for a moment. Where some steps in a row come late, all others run on one.

        with pace.epoch():
            for ...:
                ...         # a step
                pace.step()
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._alone: list[float] = []
        self._late = 0
        self._last = 0.0

    @contextlib.contextmanager
    def epoch(self) -> Generator[None]:
        """Inside, torch computes on as many threads as the next step is to have."""
        with using(self.count):
            if len(self._alone) < WARM:
                torch.set_num_threads(1)
            self._last = time.perf_counter()
            yield

    def step(self) -> None:
        """A step is done: look how long it took, and set the threads of the next."""
        if self.count == 1:
            return
        now = time.perf_counter()
        took, self._last = now - self._last, now
        if len(self._alone) < WARM:
            self._alone.append(took)
            if len(self._alone) == WARM:
                torch.set_num_threads(self.count)
            return
        self._late = self._late + 1 if took > LATE * min(self._alone) else 0
        if self._late == IN_A_ROW:
            self.count = 1
            torch.set_num_threads(1)
