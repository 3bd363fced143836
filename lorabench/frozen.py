"""Frozen work once: what a method leaves frozen before its first trainable part is a constant of the data set.

For LoRA that is `fc1(x)` of every image, for adapter layers the whole first hidden layer, for a new head everything
below it. `split` finds it for any `nn.Sequential` from PyTorch's own `requires_grad`; a layer that is partly trainable
takes part by splitting its forward in two:

    def frozen_part(self, x): ...         # what no training step changes
    def trainable_part(self, *kept): ...  # the rest; forward(x) == trainable_part(*frozen_part(x))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from lorabench.model import pixels

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 5_000
"""Images at a time: enough to keep the processor busy, few enough to need no memory worth mentioning."""


@runtime_checkable
class Splittable(Protocol):
    """A layer whose forward is `trainable_part(*frozen_part(x))`."""

    def frozen_part(self, x: Tensor) -> tuple[Tensor, ...]:
        """What the frozen part makes of x (n, inputs): tensors of n rows each."""
        ...

    def trainable_part(self, *kept: Tensor) -> Tensor:
        """The layer's output (n, outputs)."""
        ...


Parts = tuple[tuple[Tensor, ...], "Callable[..., Tensor]"]


def whole(model: nn.Module, images: Tensor) -> Parts:
    """Nothing computed beforehand: the images themselves, and the model."""

    def forward(rows: Tensor) -> Tensor:
        return model(pixels(rows))

    return (images,), forward


def split(model: nn.Module, images: Tensor) -> Parts:
    """What to keep of `images` (n, ...; uint8 or float), tensors of n rows, and what makes logits of their rows.

    A model that is no `nn.Sequential`, or trains from its first layer on, gives the images and itself.
    """
    if not isinstance(model, nn.Sequential):
        return whole(model, images)
    layers: list[nn.Module] = list(model)
    done = next((i for i, layer in enumerate(layers) if _trainable(layer)), len(layers))
    head = nn.Sequential(*layers[:done])
    first = layers[done] if done < len(layers) and isinstance(layers[done], Splittable) else None
    rest = nn.Sequential(*layers[done + 1 if first else done :])
    only_reshaped = next(head.parameters(), None) is None

    def kept_of(chunk: Tensor) -> list[Tensor | None]:
        x = head(pixels(chunk))
        found: tuple[Tensor, ...] = first.frozen_part(x) if isinstance(first, Splittable) else (x,)
        return [None if c is x and only_reshaped else c for c in found]

    with torch.no_grad():
        columns = list(zip(*(kept_of(chunk) for chunk in torch.split(images, CHUNK)), strict=True))
    # What is nothing but the images is not stored again, in four times the bytes.
    kept = tuple(images if column[0] is None else torch.cat([c for c in column if c is not None]) for column in columns)

    def forward(*rows: Tensor) -> Tensor:
        parts = [head(pixels(r)) if source is images else r for r, source in zip(rows, kept, strict=True)]
        return rest(first.trainable_part(*parts)) if isinstance(first, Splittable) else rest(*parts)

    return kept, forward


def _trainable(layer: nn.Module) -> bool:
    return any(p.requires_grad for p in layer.parameters())
