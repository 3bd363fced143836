"""Frozen work once: what a method leaves frozen before its first trainable part is a constant of the data set.

For LoRA that is `fc1(x)` of every image, for adapter layers the whole first hidden layer, for a new head everything
below it. `split` finds it for any `nn.Sequential` from PyTorch's own `requires_grad`; a layer that is partly trainable
takes part by splitting its forward in two:

    def constants(self, x): ...           # what no training step changes
    def resume(self, *constants): ...     # the rest; forward(x) == resume(*constants(x))
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK = 5_000
"""Images at a time: enough to keep the processor busy, few enough to need no memory worth mentioning."""


@runtime_checkable
class Splittable(Protocol):
    """A layer whose forward is `resume(*constants(x))`."""

    def constants(self, x: Tensor) -> tuple[Tensor, ...]:
        """What the frozen part makes of x (n, inputs): tensors of n rows each."""
        ...

    def resume(self, *constants: Tensor) -> Tensor:
        """The layer's output (n, outputs)."""
        ...


def split(model: nn.Module, images: Tensor) -> tuple[tuple[Tensor, ...], Callable[..., Tensor]]:
    """The constants of `images` (n, ...), each a tensor of n rows, and the function that makes logits of their rows.

    A model that is no `nn.Sequential`, or trains from its first layer on, gives the images and itself.
    """
    if not isinstance(model, nn.Sequential):
        return (images,), model
    layers = list(model)
    done = next((i for i, layer in enumerate(layers) if _trainable(layer)), len(layers))
    head = nn.Sequential(*layers[:done])
    first = layers[done] if done < len(layers) else nn.Identity()
    rest = nn.Sequential(*layers[done + 1 :])
    if not isinstance(first, Splittable):
        rest, first = nn.Sequential(first, *rest), None
    with torch.no_grad():
        chunks = [first.constants(head(chunk)) if first else (head(chunk),) for chunk in torch.split(images, CHUNK)]
    constants = tuple(torch.cat(parts) for parts in zip(*chunks, strict=True))
    return constants, (lambda *rows: rest(first.resume(*rows))) if first else rest


def _trainable(layer: nn.Module) -> bool:
    return any(p.requires_grad for p in layer.parameters())
