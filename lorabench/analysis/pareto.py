"""The Pareto front: what nothing else beats both on accuracy and on trained parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def front(points: Sequence[tuple[float, float] | None]) -> list[bool]:
    """Whether each point, a cost and a gain, is on the front: no other costs at most as much and gains at least as
    much, one of the two truly. None is never on it, and equal points are on it together.
    """
    there = [point for point in points if point is not None]
    return [
        point is not None and not any(c <= point[0] and g >= point[1] and (c, g) != point for c, g in there)
        for point in points
    ]
