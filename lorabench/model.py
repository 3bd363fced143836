"""The talk's classifier: 784-256-128-10 with ReLU, returning logits. It knows nothing of methods."""

from __future__ import annotations

import contextlib
import itertools
from collections import OrderedDict
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

SIZES = (784, 256, 128, 10)


class SimpleMnistClassifier(nn.Sequential):
    """Images to logits: (n, 28, 28) or (n, 784), values in [0, 1], to (n, 10).

    A plain `nn.Sequential` of flatten, fc1, relu1, fc2, relu2, fc3, so that any method can wrap its layers by name.
    """

    def __init__(self) -> None:
        n0, n1, n2, n3 = SIZES
        layers: list[tuple[str, nn.Module]] = [
            ("flatten", nn.Flatten()),
            ("fc1", nn.Linear(n0, n1)),
            ("relu1", nn.ReLU()),
            ("fc2", nn.Linear(n1, n2)),
            ("relu2", nn.ReLU()),
            ("fc3", nn.Linear(n2, n3)),
        ]
        super().__init__(OrderedDict(layers))


def pixels(images: Tensor) -> Tensor:
    """uint8 images as float32 in [0, 1], as torchvision's ToTensor makes them; floating-point images as they are."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images


def parameter_count(sizes: Sequence[int] = SIZES) -> int:
    """Σ (n·m + m) over the layers of a fully connected network: the formula that the count is checked against."""
    return sum(n * m + m for n, m in itertools.pairwise(sizes))


@contextlib.contextmanager
def seeded(seed: int) -> Generator[None]:
    """Whatever is drawn from torch's global generator inside depends on `seed` alone, and outside on nothing inside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
