"""What figures are drawn from: plain data, gathered before anything is drawn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from lorabench.runs import Epoch, Run

    Bytes = npt.NDArray[np.uint8]
    Mask = npt.NDArray[np.bool_]


class Missing(Exception):  # noqa: N818 - it is no failure: a figure is left out
    """A figure cannot be drawn from what there is; `str()` says what it needs."""


@dataclass(frozen=True)
class Pictures:
    """The n test images of one fine-tuned run, and what was made of them.

    Attributes:
        label: what the figure calls the run.
        mnist: (n, 28, 28).
        fmnist: (n, 28, 28), the same images, those under `flipped` mirrored.
        flipped: (n,).
        labels: (n,), true digits.
        before: (n,), the base's digits for `fmnist`.
        after: (n,), the fine-tuned model's.
    """

    label: str
    mnist: Bytes
    fmnist: Bytes
    flipped: Mask
    labels: Bytes
    before: Bytes
    after: Bytes


@dataclass(frozen=True)
class Material:
    """Run records with their bases, in any order; epochs by run id; test images, or why there are none."""

    runs: Sequence[Run]
    history: Mapping[str, Sequence[Epoch]] = field(default_factory=dict[str, "Sequence[Epoch]"])
    pictures: Pictures | str = "test images, which were not given"
