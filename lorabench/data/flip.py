"""F-MNIST, *flipped* MNIST: some images of some digits are mirrored, their labels stay. It is not Fashion-MNIST.

Which images are mirrored depends on the settings alone, so F-MNIST is never stored: a boolean mask per split and
MNIST make it again, bit for bit.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lorabench.data.idx import write_idx
from lorabench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from lorabench.data.mnist import Mnist

    Images = npt.NDArray[np.uint8]
    Mask = npt.NDArray[np.bool_]

Axis = Literal["horizontal", "vertical", "both"]

_AXES: dict[str, tuple[int, ...]] = {"horizontal": (2,), "vertical": (1,), "both": (1, 2)}


@dataclass(frozen=True)
class Flips:
    """Which images are mirrored: boolean masks (60000,) and (10000,); of which digits; and how."""

    train: Mask
    test: Mask
    classes: tuple[int, ...]
    axis: Axis


def choose(mnist: Mnist, *, fraction: float, classes: Sequence[int], axis: Axis, seed: int) -> Flips:
    """Choose exactly round(fraction·n) of the n images of each class, in the training and in the test split.

    Each class of each split has a random stream of its own, so which twos are mirrored does not depend on whether
    threes are.
    """

    def mask(labels: Images, split: int) -> Mask:
        chosen = np.zeros(len(labels), dtype=np.bool_)
        for digit in classes:
            members = np.flatnonzero(labels == digit)
            generator = np.random.default_rng([seed, split, digit])
            chosen[generator.permutation(members)[: round(fraction * len(members))]] = True
        return chosen

    return Flips(mask(mnist.train_labels, 0), mask(mnist.test_labels, 1), tuple(classes), axis)


def mirror(images: Images, mask: Mask, axis: Axis) -> Images:
    """A copy of `images`, shape (n, 28, 28), in which those under `mask` are mirrored."""
    out = images.copy()
    out[mask] = np.flip(images[mask], axis=_AXES[axis])
    return out


def slices(mnist: Mnist, flips: Flips) -> dict[str, Mask]:
    """Masks (10000,) of the test images: `flipped`; `upright`, those of the same digits left as they are; `rest`."""
    affected = np.isin(mnist.test_labels, flips.classes)
    return {"flipped": flips.test, "upright": affected & ~flips.test, "rest": ~affected}


def census(mnist: Mnist, flips: Flips) -> dict[str, Any]:
    """How many images each split has and mirrors, per digit, and the SHA-256 of its image bytes."""

    def split(images: Images, labels: Images, mask: Mask) -> dict[str, Any]:
        mirrored = mirror(images, mask, flips.axis)
        return {
            "images": np.bincount(labels, minlength=10).tolist(),
            "flipped": np.bincount(labels[mask], minlength=10).tolist(),
            "sha256": hashlib.sha256(mirrored.tobytes()).hexdigest(),
        }

    return {
        "train": split(mnist.train_images, mnist.train_labels, flips.train),
        "test": split(mnist.test_images, mnist.test_labels, flips.test),
    }


def examples(mnist: Mnist, flips: Flips) -> tuple[Images, Images]:
    """Four mirrored test images (4, 28, 28), of as many digits as there are: originals, and as F-MNIST has them."""
    digits = [digit for digit in flips.classes if flips.test[mnist.test_labels == digit].any()]
    members = [np.flatnonzero(flips.test & (mnist.test_labels == digit)) for digit in digits]
    chosen = [index for row in itertools.zip_longest(*(m[:4] for m in members)) for index in row if index is not None]
    originals = mnist.test_images[chosen[:4]]
    return originals, np.flip(originals, axis=_AXES[flips.axis])


def write_fmnist(folder: Path, mnist: Mnist, flips: Flips) -> list[Path]:
    """Write F-MNIST below `folder` so that `torchvision.datasets.MNIST(folder)` loads it, and the masks beside it.

    The masks are IDX files of a byte per image, 1 where it is mirrored: `train-flips-idx1-ubyte` and
    `t10k-flips-idx1-ubyte`.

    Raises:
        InputError: the folder cannot be written, or holds other files of these names.
    """
    arrays = {
        "train-images-idx3-ubyte": mirror(mnist.train_images, flips.train, flips.axis),
        "train-labels-idx1-ubyte": mnist.train_labels,
        "train-flips-idx1-ubyte": flips.train.astype(np.uint8),
        "t10k-images-idx3-ubyte": mirror(mnist.test_images, flips.test, flips.axis),
        "t10k-labels-idx1-ubyte": mnist.test_labels,
        "t10k-flips-idx1-ubyte": flips.test.astype(np.uint8),
    }
    raw = folder / "MNIST" / "raw"
    written: list[Path] = []
    try:
        raw.mkdir(parents=True, exist_ok=True)
        if (raw / "train-images-idx3-ubyte").exists() and not (raw / "train-flips-idx1-ubyte").exists():
            raise InputError(f"{raw}: holds MNIST itself; F-MNIST would take its place, so name another folder")
        for name, array in arrays.items():
            part = raw / f".{name}.{os.getpid()}.part"
            write_idx(part, array)
            part.replace(raw / name)
            written.append(raw / name)
    except OSError as error:
        raise InputError(f"{error.filename or raw}: cannot be written: {error.strerror or error}") from error
    return written
