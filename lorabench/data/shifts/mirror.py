"""Images are mirrored: the shift of the talk, which mirrors 30% of the twos and threes left to right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from lorabench.data.shifts.contract import Shift, ShiftOptions

if TYPE_CHECKING:
    from lorabench.data.idx import Bytes

_AXES: dict[str, tuple[int, ...]] = {"horizontal": (2,), "vertical": (1,), "both": (1, 2)}


class MirrorOptions(ShiftOptions):
    """`horizontal` mirrors left to right."""

    axis: Literal["horizontal", "vertical", "both"] = "horizontal"


def mirror(images: Bytes, options: MirrorOptions) -> Bytes:
    """`images` (n, 28, 28), each mirrored."""
    import numpy as np

    return np.flip(images, axis=_AXES[options.axis])


SHIFT = Shift(word="mirrored", options=MirrorOptions, change=mirror)
