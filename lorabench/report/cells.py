"""Which accuracies of two runs are compared, and on which images.

MNIST and F-MNIST have the same images in the same order, some of them mirrored in F-MNIST, so every one of the four
cells of two runs can be held against every other image by image. Compared are those that answer a question:

    B - A on MNIST, on F-MNIST and on its parts     which of the two is better, and where
    F-MNIST - MNIST in A, and in B                  what mirroring costs each of them
    B on F-MNIST - A on MNIST                       whether B is as good there as A was without it: the talk's claim
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorabench.report.arm import SETS
from lorabench.report.contrast import Contrast, Tally, paired, tally, unpaired

if TYPE_CHECKING:
    from lorabench.report.contrast import Right
    from lorabench.report.evidence import Digits, Evidence
    from lorabench.runs import Run

PARTS = {"flipped": "flipped", "upright": "upright", "rest": "other digits"}
"""The parts of F-MNIST's test set, in words short enough for a table of seven columns."""

Found = tuple["Run", "Evidence"]


@dataclass(frozen=True)
class _Cell:
    """One run on one set, or a part of it. `right` is None where that is not known image by image."""

    tally: Tally
    right: Right | None
    labels: Digits | None
    mirroring: str | None


def contrasts(first: Found, second: Found) -> list[Contrast]:
    """Second − first on MNIST, on F-MNIST and on its parts, as far as both were measured."""
    found: list[Contrast | None] = []
    for name, title in SETS.items():
        found.append(_contrast(name, title, _cell(first, name), _cell(second, name)))
        if name == "fmnist":
            found += [
                _contrast(f"{name}.{part}", f"  {called}", _cell(first, name, part), _cell(second, name, part))
                for part, called in PARTS.items()
            ]
    return [contrast for contrast in found if contrast]


def mirroring_contrasts(first: Found, second: Found) -> list[Contrast]:
    """F-MNIST − MNIST in each run, and the second on F-MNIST − the first on MNIST."""
    found = [
        _contrast("first", "A", _cell(first, "mnist"), _cell(first, "fmnist")),
        _contrast("second", "B", _cell(second, "mnist"), _cell(second, "fmnist")),
        _contrast("repair", "A to B", _cell(first, "mnist"), _cell(second, "fmnist")),
    ]
    return [contrast for contrast in found if contrast]


def _cell(found: Found, name: str, part: str | None = None) -> _Cell | None:
    run, evidence = found
    metrics = run.metrics.get(name) if run.status == "done" else None
    counts = metrics.slices.get(part) if metrics and part else metrics
    if counts is None or counts.n == 0:
        return None
    predicted, right = evidence.predicted.get(name), None
    if predicted is not None and evidence.labels is not None:
        right = predicted == evidence.labels
        if part:
            right = right[evidence.parts[part]] if part in evidence.parts else None
    mirroring = run.parents.data if name == "fmnist" else None
    return _Cell(tally(counts.correct, counts.n), right, evidence.labels, mirroring)


def _contrast(name: str, label: str, first: _Cell | None, second: _Cell | None) -> Contrast | None:
    if first is None or second is None:
        return None
    if reason := _apart(first, second):
        return unpaired(name, label, first.tally, second.tally, reason)
    assert first.right is not None
    assert second.right is not None
    return paired(name, label, first.right, second.right)


def _apart(first: _Cell, second: _Cell) -> str | None:
    """Why two cells are not on the same images, or cannot be laid side by side; None if they can."""
    if first.labels is None or second.labels is None:
        return "predictions that were not kept"
    if len(first.labels) != len(second.labels) or (first.labels != second.labels).any():
        return "other test images"
    if None not in (first.mirroring, second.mirroring) and first.mirroring != second.mirroring:
        return "another F-MNIST"
    if first.right is None or second.right is None:
        return "a record of the flipped images that is not there any more"
    return None
