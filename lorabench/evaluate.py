"""Predictions -> accuracy, loss, confusion matrix, slices. No training, no disk, no terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from lorabench.model import pixels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

CLASSES = 10


@torch.inference_mode()
def predict(model: nn.Module, images: Tensor, batch_size: int = 5_000) -> Tensor:
    """Logits (n, 10) of `images` (n, ...), uint8 or float."""
    model.eval()
    return torch.cat([model(pixels(batch)) for batch in torch.split(images, batch_size)])


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
