"""fit(): the one training loop, for pretraining and for every method. No terminal, no disk, no method's name."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lorabench import frozen
from lorabench.errors import RunFailedError

if TYPE_CHECKING:
    from collections.abc import Callable


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


def fit(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    *,
    seed: int,
    reuse: bool = True,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> list[Epoch]:
    """Train whatever requires a gradient in `model` with Adam and cross-entropy.

    Args:
        model: on the device of `images`; trained in place.
        images: (n, ...) float32, the whole training set.
        labels: (n,) int64, on the same device.
        recipe: how to train. Each epoch is a new permutation; a last, smaller batch is left out.
        seed: of the permutations.
        reuse: compute what is frozen below the first trainable layer once, not in every epoch.
        on_epoch: called after every epoch.

    Raises:
        RunFailedError: the loss became NaN, infinite or absurd.
    """
    began = time.perf_counter()
    model.train()
    inputs, forward = frozen.split(model, images) if reuse else ((images,), model)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], betas=BETAS, fused=True)
    per_epoch = steps_per_epoch(len(images), recipe)
    steps = recipe.epochs * per_epoch
    history: list[Epoch] = []
    for epoch in range(recipe.epochs):
        order = torch.randperm(len(images), generator=generator)[: per_epoch * recipe.batch_size].to(images.device)
        losses: list[Tensor] = []
        hits: list[Tensor] = []
        lr = recipe.lr
        for step, rows in enumerate(torch.split(order, recipe.batch_size), start=epoch * per_epoch):
            lr = recipe.lr * triangle(step, steps, recipe.warmup)
            optimizer.param_groups[0]["lr"] = lr
            logits = forward(*[x.index_select(0, rows) for x in inputs])
            target = labels.index_select(0, rows)
            loss = F.cross_entropy(logits, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            hits.append(logits.detach().argmax(1) == target)
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
