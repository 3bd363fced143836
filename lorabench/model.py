"""The talk's classifier: 784-256-128-10 with ReLU, returning logits. It knows nothing of methods."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Generator

import torch
from torch import Tensor, nn

from lorabench.classifier import CLASSIFIER


class SimpleMnistClassifier(nn.Sequential):
    """Images to logits: (n, 28, 28) or (n, 784), values in [0, 1], to (n, 10).

    A plain `nn.Sequential` of flatten, fc1, relu1, fc2, relu2, fc3, so that any method can wrap its layers by name.
    """

    def __init__(self) -> None:
        layers: dict[str, nn.Module] = {"flatten": nn.Flatten()}
        for number, (name, (n, m)) in enumerate(CLASSIFIER.items(), start=1):
            layers[name] = nn.Linear(n, m)
            if number < len(CLASSIFIER):
                layers[f"relu{number}"] = nn.ReLU()
        super().__init__(OrderedDict(layers))


def pixels(images: Tensor) -> Tensor:
    """uint8 images as float32 in [0, 1], as torchvision's ToTensor makes them; floating-point images as they are."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images


@contextlib.contextmanager
def seeded(seed: int) -> Generator[None]:
    """Whatever is drawn from torch's global generator inside depends on `seed` alone, and outside on nothing inside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
