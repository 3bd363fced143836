"""Frozen work once: what a method leaves frozen before its first trainable part is a constant of the data set.

For LoRA that is `fc1(x)` of every image, for adapter layers the whole first hidden layer, for a new head everything
below it. `split` finds it for any `nn.Sequential`: the layers that train nothing and are `PURE`, from the first on. A
layer that is partly trainable takes part by splitting its forward in two:

    def frozen_part(self, x): ...         # what no training step changes
    def trainable_part(self, *kept): ...  # the rest; forward(x) == trainable_part(*frozen_part(x))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor, nn

from lorabench.model import pixels

CHUNK = 5_000
"""Images at a time: enough to keep the processor busy, few enough to need no memory worth mentioning."""
PURE = (nn.Flatten, nn.Identity, nn.Linear, nn.LayerNorm, nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid)
"""Layers that make of each row what depends on nothing but the row and their weights. Dropout draws, BatchNorm looks at
the other rows and remembers, and what is not of these very classes may do anything."""


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

    A model that is no `nn.Sequential`, or trains from its first layer on, gives the images and itself. Rows are given
    up to what is made of them: a layer that works in place may write on them.
    """
    if not _plain_sequence(model):
        return whole(model, images)
    layers: list[nn.Module] = list(model)
    done = next((i for i, layer in enumerate(layers) if not _pure(layer)), len(layers))
    head = nn.Sequential(*layers[:done])
    only_reshaped = next(head.parameters(), None) is None
    first = _half_frozen(layers[done], head(pixels(images[:1]))) if done < len(layers) else None
    rest = nn.Sequential(*layers[done + 1 if first else done :])

    def parts(chunk: Tensor) -> list[Tensor | None]:
        """What is nothing but the images, None, is not stored again, in four times the bytes."""
        x = head(pixels(chunk))
        return [None if only_reshaped and part is x else part for part in (first.frozen_part(x) if first else (x,))]

    with torch.no_grad():
        kept = tuple(images if p is None else p.new_empty(len(images), *p.shape[1:]) for p in parts(images[:1]))
        for start in range(0, len(images), CHUNK):
            for whole_part, part in zip(kept, parts(images[start : start + CHUNK]), strict=True):
                if part is not None:
                    whole_part[start : start + CHUNK] = part

    def forward(*rows: Tensor) -> Tensor:
        parts = [head(pixels(r)) if source is images else r for r, source in zip(rows, kept, strict=True)]
        return rest(first.trainable_part(*parts)) if first else rest(*parts)

    return kept, forward


def _half_frozen(layer: nn.Module, x: Tensor) -> Splittable | None:
    """The layer, if it is called as it is and its frozen part, here of x, has nothing trainable in it; or None."""
    inner = layer.inner if isinstance(layer, Splittable) and not _watched(layer) else None
    if not (isinstance(layer, Splittable) and isinstance(inner, nn.Module) and _pure(inner)):
        return None
    with torch.enable_grad():
        return None if any(part.requires_grad for part in layer.frozen_part(x.detach())) else layer


def _plain_sequence(layer: nn.Module) -> TypeGuard[nn.Sequential]:
    return isinstance(layer, nn.Sequential) and type(layer).forward is nn.Sequential.forward and not _watched(layer)


def _pure(layer: nn.Module) -> bool:
    """Whether nothing in the layer is trained and all of it is known to be `PURE`."""
    if _plain_sequence(layer):
        return all(_pure(child) for child in layer)
    frozen = not any(p.requires_grad for p in layer.parameters())
    return type(layer) in PURE and frozen and not getattr(layer, "inplace", False) and not _watched(layer)


def _watched(layer: nn.Module) -> bool:
    """Whether calling the layer does more than its class says: by a hook, or a forward of its own."""
    own = vars(layer)
    return bool(own["_forward_hooks"] or own["_forward_pre_hooks"] or "forward" in own)
