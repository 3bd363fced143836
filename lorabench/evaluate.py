"""Predictions -> accuracy, loss, confusion matrix, slices. No training, no disk, no terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from lorabench.model import pixels

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor, nn

CLASSES = 10


@dataclass(frozen=True)
class Mistake:
    """A wrongly classified test image (28, 28): its index, and the probability that the model gives its prediction."""

    index: int
    true: int
    predicted: int
    confidence: float
    flipped: bool
    image: npt.NDArray[np.uint8]


@torch.inference_mode()
def predict(model: nn.Module, images: Tensor, batch_size: int = 5_000) -> Tensor:
    """Logits (n, 10) of `images` (n, ...), uint8 or float."""
    model.eval()
    # A copy: a first layer that works in place would write on the images.
    return torch.cat([model(pixels(batch.clone())) for batch in torch.split(images, batch_size)])


def measure(logits: Tensor, labels: Tensor, slices: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
    """The metrics of design: counts, accuracy (a fraction), mean cross-entropy (nats), confusion matrix, slices.

    Args:
        logits: (n, 10).
        labels: (n,) true digits.
        slices: name to boolean mask (n,); each gets n, correct and accuracy (None if it is empty).
    """
    predicted = logits.argmax(1)
    right = predicted == labels
    confusion = torch.bincount(labels * CLASSES + predicted, minlength=CLASSES * CLASSES).view(CLASSES, CLASSES)
    metrics: dict[str, Any] = {
        "n": len(labels),
        "correct": int(right.sum()),
        "accuracy": int(right.sum()) / len(labels),
        "loss": F.cross_entropy(logits, labels).item(),
        "confusion": confusion.tolist(),
    }
    if slices:
        metrics["slices"] = {name: _slice(right[mask]) for name, mask in slices.items()}
    return metrics


def _slice(right: Tensor) -> dict[str, Any]:
    n, correct = len(right), int(right.sum())
    return {"n": n, "correct": correct, "accuracy": correct / n if n else None}


def mistakes(
    logits: Tensor, labels: npt.NDArray[np.uint8], images: npt.NDArray[np.uint8], flipped: npt.NDArray[np.bool_]
) -> list[Mistake]:
    """The images (n, 28, 28) that `logits` (n, 10) get wrong, the most confident first, equal ones by index."""
    chances, classes = logits.softmax(1).max(1)
    predicted, confidence = classes.cpu().numpy(), chances.cpu().numpy()
    wrong = (predicted != labels).nonzero()[0]
    order = wrong[(-confidence[wrong]).argsort(kind="stable")]
    return [
        Mistake(int(i), int(labels[i]), int(predicted[i]), float(confidence[i]), bool(flipped[i]), images[i])
        for i in order
    ]
