"""The talk's classifier in numbers, without torch: the sizes of its layers, and how many parameters they have."""

from __future__ import annotations

from collections.abc import Iterable

CLASSIFIER = {"fc1": (784, 256), "fc2": (256, 128), "fc3": (128, 10)}
"""Names of its linear layers, with their numbers of inputs and outputs."""


def parameter_count(shapes: Iterable[tuple[int, int]] = CLASSIFIER.values()) -> int:
    """Σ (n·m + m) over linear layers of n inputs and m outputs with biases."""
    return sum(n * m + m for n, m in shapes)
