"""A shift as somebody would add it: this file, and the entry below in `SHIFTS`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from lorabench.data.shifts import Shift, ShiftOptions

if TYPE_CHECKING:
    from lorabench.data.idx import Bytes


class DimOptions(ShiftOptions):
    """`factor` of the ink is left."""

    shift: Literal["dim"] = "dim"
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.25


def dim(images: Bytes, options: DimOptions) -> Bytes:
    return (images * options.factor).astype(np.uint8)


SHIFT = Shift(word="dimmed", options=DimOptions, change=dim)
