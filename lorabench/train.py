"""The one training loop, for pretraining and for every method. No terminal, no disk, no method's name.

`fit` runs epochs of a `Trainer`, and a `Trainer` takes one step at a time. What a method may ask for beside a gradient
is what it may ask of any loop: `methods.parameter_groups`, `methods.penalty` and `methods.after_step`.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorabench import frozen, methods, threads
from lorabench.errors import RunFailedError
from lorabench.model import seeded

BETAS = (0.9, 0.99)
"""Adam's averages; 0.99 instead of 0.999, for runs of a few hundred steps (runs/README.md)."""

DIVERGED = 1e4
"""A mean cross-entropy (nats) that no training comes back from; guessing has 2.3."""


@dataclass(frozen=True)
class Recipe:
    """How to train. The learning rate rises linearly to `lr` over the share `warmup` of all steps, then falls to 0."""

    epochs: int
    batch_size: int
    lr: float
    warmup: float


@dataclass(frozen=True)
class Epoch:
    """What one pass over the data did: mean training loss (nats), training accuracy, last learning rate, seconds."""

    epoch: int
    loss: float
    accuracy: float
    lr: float
    seconds: float


def triangle(step: int, steps: int, warmup: float) -> float:
    """The share of the peak learning rate at `step` of `steps`: up over the share `warmup`, down over the rest."""
    done = (step + 0.5) / steps
    return done / warmup if done < warmup else (1 - done) / (1 - warmup)


def steps_per_epoch(images: int, recipe: Recipe) -> int:
    """Whole batches in one pass over `images` images; all of them are one batch where they do not fill one."""
    return max(1, images // recipe.batch_size)


class Adam(torch.optim.Adam):
    """torch's Adam, called past the wrappers of its methods, which import torch's compiler: as slow as all of torch."""

    _add = staticmethod(inspect.unwrap(torch.optim.Adam.add_param_group))
    _zero = staticmethod(inspect.unwrap(torch.optim.Adam.zero_grad))
    _step = staticmethod(inspect.unwrap(torch.optim.Adam.step))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with settings of their own."""
        self._add(self, param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients."""
        self._zero(self, set_to_none)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Move every parameter by its gradient."""
        self._step(self, closure)


class Trainer:
    """A model with its data and Adam over whatever requires a gradient.

    Args:
        model: on the device of `images`; trained in place.
        images: (n, ...) uint8 or float32, the whole training set.
        labels: (n,) int64, on the same device.
        reuse: compute what is frozen below the first trainable layer once, here, and not in every step.
    """

    def __init__(self, model: nn.Module, images: Tensor, labels: Tensor, *, reuse: bool = True) -> None:
        model.train()
        self.inputs, self.forward = (frozen.split if reuse else frozen.whole)(model, images)
        self.labels = labels
        self.model = model
        groups = methods.parameter_groups(model, 1.0)
        self.scales: list[float] = [group["lr"] for group in groups]
        self.optimizer = Adam(groups, betas=BETAS, fused=True)

    def step(self, rows: Tensor, lr: float) -> tuple[Tensor, Tensor]:
        """One step on the images `rows` (int64 indices); their mean loss, and which of them were right before it."""
        for group, scale in zip(self.optimizer.param_groups, self.scales, strict=True):
            group["lr"] = lr * scale
        loss, right, penalised = self._loss(rows)
        self.optimizer.zero_grad()
        penalised.backward()
        self.optimizer.step()
        return loss.detach(), right

    def _loss(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean loss, which images were right, and the loss with the penalties."""
        logits = self.forward(*[x.index_select(0, rows) for x in self.inputs])
        target = self.labels.index_select(0, rows)
        loss = F.cross_entropy(logits, target)
        return loss, logits.detach().argmax(1) == target, loss + methods.penalty(self.model)

    def agrees(self, rows: Tensor, count: int) -> bool:
        """Whether a step on `rows` has the same gradients, bit for bit, on one thread and on `count`.

        Asked away from the start, where the gradient of A is 0 whatever it is summed from.
        """
        trained = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        start = [parameter.detach().clone() for parameter in trained]
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in trained:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).to(parameter))

        def gradients() -> Sequence[Tensor]:
            with seeded(0):  # a method may draw, and training draws the same whether it was asked this or not
                loss, _, penalised = self._loss(rows)
            return [loss.detach(), *torch.autograd.grad(penalised, trained)]

        try:
            return threads.agree(gradients, count)
        finally:
            with torch.no_grad():
                for parameter, value in zip(trained, start, strict=True):
                    parameter.copy_(value)


def fit(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    *,
    seed: int,
    reuse: bool = True,
    most_threads: int = 1,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> list[Epoch]:
    """Train `model` with Adam and cross-entropy; see `Trainer` for the first arguments and `reuse`.

    Args:
        recipe: how to train. Each epoch is a new permutation; a last, smaller batch is left out.
        seed: of the permutations.
        most_threads: that a step may use; it uses one where more would give other bits or be slower, see `threads`.
        on_epoch: called after every epoch.

    Raises:
        RunFailedError: the loss became NaN, infinite or absurd.
    """
    began = time.perf_counter()
    trainer = Trainer(model, images, labels, reuse=reuse)
    generator = torch.Generator().manual_seed(seed)
    per_epoch = steps_per_epoch(len(images), recipe)
    steps = recipe.epochs * per_epoch
    history: list[Epoch] = []
    first = torch.arange(min(recipe.batch_size, len(images)), device=images.device)
    pace = threads.Pace(most_threads if most_threads > 1 and trainer.agrees(first, most_threads) else 1)
    for epoch in range(recipe.epochs):
        order = torch.randperm(len(images), generator=generator)[: per_epoch * recipe.batch_size].to(images.device)
        losses: list[Tensor] = []
        hits: list[Tensor] = []
        lr = recipe.lr
        with pace.epoch():
            for step, rows in enumerate(torch.split(order, recipe.batch_size), start=epoch * per_epoch):
                lr = recipe.lr * triangle(step, steps, recipe.warmup)
                loss, hit = trainer.step(rows, lr)
                losses.append(loss)
                hits.append(hit)
                methods.after_step(model, step, steps)
                pace.step()
        mean = torch.stack(losses).mean().item()
        if not mean < DIVERGED:
            raise RunFailedError(f"the loss became {mean:.3g} in epoch {epoch + 1}; is lr = {recipe.lr:g} too large?")
        accuracy = torch.cat(hits).float().mean().item()
        now = time.perf_counter()
        history.append(Epoch(epoch + 1, mean, accuracy, lr, now - began))
        began = now
        if on_epoch:
            on_epoch(history[-1])
    return history
