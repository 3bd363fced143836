"""What a run left behind of each test image: its digit, what the run took it for, and whether it was changed.

found = predictions_of(store, run)
found.predicted["fmnist"][found.parts["flipped"]]     # what became of the changed images
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lorabench import npz
from lorabench.errors import InputError
from lorabench.runs import Run, Store

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Digits = npt.NDArray[np.uint8]
    Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Predictions:
    """One run, image by image; n is 10,000, or the number of images held out.

    Attributes:
        labels: true digits (n,); None if the run kept no predictions.
        predicted: test set -> predicted digits (n,); under `before_<set>` those of a fine-tuned run's base.
        parts: part of F-MNIST -> which images belong to it (n,); empty if that is not known any more.
        shift: the settings of its F-MNIST, which images are changed and how; empty as `parts`.
    """

    labels: Digits | None = None
    predicted: Mapping[str, Digits] = field(default_factory=dict[str, "Digits"])
    parts: Mapping[str, Mask] = field(default_factory=dict[str, "Mask"])
    shift: Mapping[str, Any] = field(default_factory=dict[str, Any])


def predictions_of(store: Store, run: Run) -> Predictions:
    """What the folders of `run` and of its F-MNIST hold. A missing or damaged F-MNIST leaves `parts` empty.

    Raises:
        InputError: the run's predictions are not those that it wrote.
    """
    predicted = store.predictions(run)
    labels = predicted.pop("labels", None)
    if labels is None or run.parents.data is None:
        return Predictions(labels, predicted)
    with contextlib.suppress(InputError):
        made = store.load(run.parents.data)
        return Predictions(labels, predicted, _parts(store, made, labels), made.settings)
    return Predictions(labels, predicted)


def seen_by(tuned: Predictions) -> Predictions:
    """What the fine-tuned run of `tuned` recorded of its base, on its own images."""
    before = {name.removeprefix("before_"): digits for name, digits in tuned.predicted.items() if "before_" in name}
    return replace(tuned, predicted=before)


def _parts(store: Store, fmnist: Run, labels: Digits) -> dict[str, Mask]:
    """`flipped`; `upright`, the same digits left as they are; `rest`, the other digits."""
    import numpy as np

    flipped: Mask | None = npz.read(store.intact(fmnist, "flips.npz"), np.bool_).get("test")
    if flipped is None or len(flipped) != len(labels):
        return {}
    affected = np.isin(labels, fmnist.settings["classes"])
    return {"flipped": flipped, "upright": affected & ~flipped, "rest": ~affected}
