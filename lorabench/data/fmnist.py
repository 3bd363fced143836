"""F-MNIST: MNIST after a shift. Some images of some digits are changed, by default mirrored; their labels stay.

It is not Fashion-MNIST. Which images are changed depends on the settings alone, so F-MNIST is never stored: a boolean
mask per split and MNIST make it again, bit for bit.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorabench import files
from lorabench.data import shifts
from lorabench.data.idx import read_idx, write_idx
from lorabench.data.mnist import Mnist
from lorabench.data.shifts import ShiftOptions
from lorabench.errors import InputError, RunFailedError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from lorabench.data.idx import Bytes

    Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Shifted:
    """Which images a shift changes, as boolean masks (60000,) and (10000,), and its options."""

    train: Mask
    test: Mask
    options: ShiftOptions

    def apply(self, images: Bytes, mask: Mask) -> Bytes:
        """A copy of `images`, shape (n, 28, 28), in which those under `mask` are changed."""
        out = images.copy()
        out[mask] = shifts.of(self.options).change(images[mask], self.options)
        return out


def choose(mnist: Mnist, options: ShiftOptions) -> Shifted:
    """Choose exactly round(fraction·n) of the n images of each class, in the training and in the test split.

    Each class of each split has a random stream of its own, so which twos are changed does not depend on whether
    threes are.
    """
    import numpy as np

    def mask(labels: Bytes, split: int) -> Mask:
        chosen = np.zeros(len(labels), dtype=np.bool_)
        for digit in options.classes:
            members = np.flatnonzero(labels == digit)
            generator = np.random.default_rng([options.seed, split, digit])
            chosen[generator.permutation(members)[: round(options.fraction * len(members))]] = True
        return chosen

    return Shifted(mask(mnist.train_labels, 0), mask(mnist.test_labels, 1), options)


def slices(mnist: Mnist, shifted: Shifted) -> dict[str, Mask]:
    """Masks (10000,) of the test images: `flipped`, those changed; `upright`, others of the same digits; `rest`."""
    import numpy as np

    affected = np.isin(mnist.test_labels, shifted.options.classes)
    return {"flipped": shifted.test, "upright": affected & ~shifted.test, "rest": ~affected}


def class_counts(mnist: Mnist, shifted: Shifted) -> dict[str, Any]:
    """How many images each split has and changes, per digit, and the SHA-256 of its image bytes."""
    import numpy as np

    def split(images: Bytes, labels: Bytes, mask: Mask) -> dict[str, Any]:
        return {
            "images": np.bincount(labels, minlength=10).tolist(),
            "flipped": np.bincount(labels[mask], minlength=10).tolist(),
            "sha256": hashlib.sha256(shifted.apply(images, mask).data).hexdigest(),
        }

    return {
        "train": split(mnist.train_images, mnist.train_labels, shifted.train),
        "test": split(mnist.test_images, mnist.test_labels, shifted.test),
    }


def examples(mnist: Mnist, shifted: Shifted) -> tuple[Bytes, Bytes]:
    """Four changed test images (4, 28, 28), of as many digits as there are: originals, and as F-MNIST has them."""
    import numpy as np

    members = [np.flatnonzero(shifted.test & (mnist.test_labels == digit))[:4] for digit in shifted.options.classes]
    chosen = [index for row in itertools.zip_longest(*members) for index in row if index is not None][:4]
    originals = mnist.test_images[chosen]
    return originals, shifted.apply(originals, np.ones(len(chosen), dtype=np.bool_))


def write_fmnist(folder: Path, mnist: Mnist, shifted: Shifted) -> list[Path]:
    """Write F-MNIST below `folder` so that `torchvision.datasets.MNIST(folder)` loads it, and the masks beside it.

    The masks are IDX files of a byte per image, 1 where it is changed: `train-flips-idx1-ubyte` and
    `t10k-flips-idx1-ubyte`.

    Raises:
        InputError: the folder cannot be written, or holds MNIST itself.
        RunFailedError: the disk is full, or gives back something else.
    """
    import numpy as np

    arrays = {
        "train-images-idx3-ubyte": shifted.apply(mnist.train_images, shifted.train),
        "train-labels-idx1-ubyte": mnist.train_labels,
        "train-flips-idx1-ubyte": shifted.train.astype("uint8"),
        "t10k-images-idx3-ubyte": shifted.apply(mnist.test_images, shifted.test),
        "t10k-labels-idx1-ubyte": mnist.test_labels,
        "t10k-flips-idx1-ubyte": shifted.test.astype("uint8"),
    }
    raw = folder / "MNIST" / "raw"
    if (raw / "train-images-idx3-ubyte").exists() and not (raw / "train-flips-idx1-ubyte").exists():
        raise InputError(f"{raw}: holds MNIST itself; F-MNIST would take its place, so name another folder")
    try:
        raw.mkdir(parents=True, exist_ok=True)
        part = files.part(raw / "fmnist")
        try:
            part.mkdir()
            for name, array in arrays.items():
                write_idx(part / name, array)
                if not np.array_equal(read_idx(part / name), array):
                    raise RunFailedError(f"{raw / name}: read again, it is not what was written")
            for name in sorted(arrays, key=lambda name: "flips" not in name):  # images beside masks are never MNIST's
                files.move(part / name, raw / name)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise files.failure(raw, error) from error
    return [raw / name for name in arrays]
