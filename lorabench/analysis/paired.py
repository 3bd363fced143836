"""Two accuracies and their difference: image by image where the images are the same, else as independent samples.

predictions_of(store, run).predicted["fmnist"]      # what a run took each test image for
paired("fmnist", "F-MNIST", base == labels, tuned == labels)       # mid-p McNemar test, Tango's interval
unpaired("fmnist", "F-MNIST", Count(9276, 10_000), Count(4893, 5_000), "other images")    # Newcombe's interval

MNIST and F-MNIST have the same images in the same order, some of them changed in F-MNIST, so every one of the four
cells of two runs can be held against every other image by image. Compared are those that answer a question:

    B - A on MNIST, on F-MNIST and on its parts     which of the two is better, and where
    F-MNIST - MNIST in A, and in B                  what the change costs each of them
    B on F-MNIST - A on MNIST                       whether B is as good there as A was without it: the talk's claim
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lorabench import npz
from lorabench.analysis import inference
from lorabench.analysis.quantities import SETS, SLICES, Count
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


Found = tuple[Run, Predictions]


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


@dataclass(frozen=True)
class Contrast:
    """Second − first, in points, with its 95% interval.

    Attributes:
        name: `fmnist`, `fmnist.flipped`, ...
        label: what a table calls it.
        detectable: whether `p` is below 0.05, and the interval then excludes 0; without `p` whether the interval does.
        lost: images that only the first got right; None if the two saw different images.
        gained: images that only the second got right; None likewise.
        p: of the mid-p McNemar test; None likewise.
        unpaired: why the two cannot be compared image by image; None if they are.
        told: which images these are, where it is not all of both; None else.
    """

    name: str
    label: str
    first: Count
    second: Count
    difference: float
    low: float
    high: float
    detectable: bool
    lost: int | None = None
    gained: int | None = None
    p: float | None = None
    unpaired: str | None = None
    told: str | None = None


def paired(name: str, label: str, first: Mask, second: Mask, told: str | None = None) -> Contrast:
    """The same images: `first` and `second` (n,) say which of them each got right; n is not 0."""
    n, lost, gained = len(first), int((first & ~second).sum()), int((~first & second).sum())
    counts, change = (Count(int(first.sum()), n), Count(int(second.sum()), n)), inference.same_images(lost, gained, n)
    return Contrast(name, label, *counts, **change._asdict(), lost=lost, gained=gained, told=told)


def unpaired(name: str, label: str, first: Count, second: Count, reason: str) -> Contrast:
    """Different images, or images whose predictions are not there any more: `reason` says which."""
    return Contrast(name, label, first, second, **inference.other_images(first, second)._asdict(), unpaired=reason)


_CHOOSE = ("fraction", "classes", "seed")
"""The options of every shift that say which images it changes."""


@dataclass(frozen=True)
class _Measured:
    """One run on one set, or a part of it.

    Attributes:
        right: which images of the whole set the run got right (n,); None where that is not known.
        within: which of them are in the part; None where that is not known any more.
        fmnist: the id of the F-MNIST; None on MNIST.
        changed: which images that one changes; None on MNIST, and where it is not known any more.
        change: what it does to them, the options of its shift that do not choose them; likewise.
    """

    count: Count
    right: Mask | None
    labels: Digits | None
    within: Mask | None
    fmnist: str | None
    changed: Mask | None
    change: Mapping[str, Any]


def contrasts(first: Found, second: Found) -> list[Contrast]:
    """Second − first on MNIST, on F-MNIST and on its parts, as far as both were measured."""
    rows: list[Contrast | None] = []
    for name, title in SETS.items():
        rows.append(_contrast(name, title, _measured(first, name), _measured(second, name)))
        if name == "fmnist":
            rows += [
                _contrast(f"{name}.{part}", f"  {called}", _measured(first, name, part), _measured(second, name, part))
                for part, called in SLICES.items()
            ]
    return [contrast for contrast in rows if contrast]


def mirroring_contrasts(first: Found, second: Found) -> list[Contrast]:
    """F-MNIST − MNIST in each run, and the second on F-MNIST − the first on MNIST."""
    rows = [
        _contrast("first", "A", _measured(first, "mnist"), _measured(first, "fmnist")),
        _contrast("second", "B", _measured(second, "mnist"), _measured(second, "fmnist")),
        _contrast("repair", "A to B", _measured(first, "mnist"), _measured(second, "fmnist")),
    ]
    return [contrast for contrast in rows if contrast]


def _measured(run_and_predictions: Found, name: str, part: str | None = None) -> _Measured | None:
    import numpy as np

    run, predictions = run_and_predictions
    metrics = run.metrics.get(name) if run.status == "done" else None
    counts = metrics.slices.get(part) if metrics and part else metrics
    if counts is None or counts.n == 0:
        return None
    predicted, labels = predictions.predicted.get(name), predictions.labels
    right = predicted == labels if predicted is not None and labels is not None else None
    everything = None if labels is None else np.ones(len(labels), bool)
    within = predictions.parts.get(part) if part else everything
    change = {key: value for key, value in predictions.shift.items() if key not in _CHOOSE}
    shifted = (run.parents.data, predictions.parts.get("flipped"), change)
    return _Measured(
        Count(counts.correct, counts.n), right, labels, within, *(shifted if name == "fmnist" else (None, None, {}))
    )


def _contrast(name: str, label: str, first: _Measured | None, second: _Measured | None) -> Contrast | None:
    if first is None or second is None:
        return None
    if reason := _apart(first, second):
        return unpaired(name, label, first.count, second.count, reason)
    assert first.right is not None
    assert second.right is not None
    assert first.within is not None
    assert second.within is not None
    both, told = first.within & second.within, None
    if None not in (first.fmnist, second.fmnist) and first.fmnist != second.fmnist:
        both, told = _alike(first, second, both, whole="." not in name)
        if not both.any():
            return unpaired(name, label, first.count, second.count, "another F-MNIST that has no such image in common")
    return paired(name, label, first.right[both], second.right[both], told)


def _alike(first: _Measured, second: _Measured, both: Mask, *, whole: bool) -> tuple[Mask, str | None]:
    """Which images of two F-MNISTs are compared, and what must be told: of a part those that are the same in both.

    A whole set is compared by index, since every image is of the same handwritten digit; changed in one and not in
    the other it is another image all the same.
    """
    if first.changed is None or second.changed is None:
        return both, "by index; which images are changed in which F-MNIST is not known any more"
    same = (first.changed == second.changed) & (~first.changed | (first.change == second.change))
    others = int((both & ~same).sum())
    if whole:
        told = f"by index; the two F-MNISTs change {others:,} of the {len(same):,} images unlike"
        return both, told if others else None
    kept = both & same
    told = f"the {int(kept.sum()):,} images that both F-MNISTs have there"
    return kept, told if kept.sum() < max(first.count.n, second.count.n) else None


def _apart(first: _Measured, second: _Measured) -> str | None:
    """Why two cells are not on the same images, or cannot be laid side by side; None if they can."""
    if first.labels is None or second.labels is None:
        return "predictions that were not kept"
    if len(first.labels) != len(second.labels) or (first.labels != second.labels).any():
        return "other test images"
    if first.right is None or second.right is None:
        return "predictions that were not kept"
    if first.within is None or second.within is None:
        return "a record of the changed images that is gone"
    return None
