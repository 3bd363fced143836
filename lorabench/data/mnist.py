"""MNIST: its arrays, and the four files that hold them, with their names, shapes, checksums and places.

The place is the one where torchvision looks, `DIR/MNIST/raw/`, so that other programs find the files too.
Files that lie in `DIR` itself or in `DIR/raw/` are accepted as well, also as `train-images.idx3-ubyte`, raw or
compressed (.gz).

Source: LeCun, Cortes and Burges, The MNIST database of handwritten digits, 1998.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorabench import files
from lorabench.data.idx import read_idx, write_idx
from lorabench.errors import InputError

if TYPE_CHECKING:
    from lorabench.data.idx import Bytes


@dataclass(frozen=True)
class Mnist:
    """Images (n, 28, 28) and labels (n,), uint8: n is 60,000 for training and 10,000 for testing."""

    train_images: Bytes
    train_labels: Bytes
    test_images: Bytes
    test_labels: Bytes


def hold_out(mnist: Mnist, images: int) -> Mnist:
    """MNIST whose test set is `images` images of the training set, always the same ones, which trains on the others."""
    import numpy as np

    order = np.random.default_rng(0).permutation(len(mnist.train_images))
    held, kept = np.sort(order[:images]), np.sort(order[images:])
    return Mnist(mnist.train_images[kept], mnist.train_labels[kept], mnist.train_images[held], mnist.train_labels[held])


@dataclass(frozen=True)
class File:
    """One file of MNIST; `sha256` is that of its elements, without the header."""

    name: str
    shape: tuple[int, ...]
    sha256: str

    def stored(self, folder: Path) -> Path:
        """Where lorabench and torchvision keep the raw file."""
        return folder / "MNIST" / "raw" / self.name

    def find(self, folder: Path) -> Path | None:
        """Where the file is, raw or compressed, or None."""
        inside = (self.stored(folder).parent, folder / "raw", folder)
        spelled = (self.name, self.name.replace("-idx", ".idx"))  # other tools write train-images.idx3-ubyte
        places = (place / f"{name}{end}" for place in inside for name in spelled for end in ("", ".gz"))
        return next((place for place in places if _is_file(place)), None)

    def read(self, path: Path) -> Bytes:
        """The verified elements of the file at `path`, raw or compressed.

        Raises:
            InputError: it cannot be read or holds anything else.
        """
        try:
            array = read_idx(path)
            if array.shape != self.shape:
                raise InputError(f"{path}: not MNIST's: expected an array of shape {self.shape}, has {array.shape}")
            checksum = hashlib.sha256(array.data).hexdigest()
            if checksum != self.sha256:
                told = f"expected checksum {self.sha256[:12]}…, has {checksum[:12]}…"
                raise InputError(f"{path}: not MNIST's: {told}")
        except InputError as error:
            raise InputError(f"{error}; delete it, and lorabench fetches it again") from error
        return array


FILES = {
    "train_images": File(
        "train-images-idx3-ubyte",
        (60000, 28, 28),
        "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    ),
    "train_labels": File(
        "train-labels-idx1-ubyte",
        (60000,),
        "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    ),
    "test_images": File(
        "t10k-images-idx3-ubyte",
        (10000, 28, 28),
        "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    ),
    "test_labels": File(
        "t10k-labels-idx1-ubyte",
        (10000,),
        "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    ),
}
"""By the name of the field of `Mnist` that each file fills."""

CHECKSUM = hashlib.sha256("".join(file.sha256 for file in FILES.values()).encode()).hexdigest()
"""Stands for the whole of MNIST: part of every run's id."""


def _is_file(path: Path) -> bool:
    """Whether there is a file; False also where a folder on the way may not be entered."""
    try:
        return path.is_file()
    except OSError:  # before Python 3.14
        return False


def absent(folder: Path) -> list[str]:
    """The keys of `FILES` whose raw file is not where torchvision looks."""
    return [field for field, file in FILES.items() if not _is_file(file.stored(folder))]


def collect(folder: Path) -> dict[str, Bytes]:
    """The verified elements of those files that `folder` has, by the keys of `FILES`.

    Raises:
        InputError: one of them is damaged or not MNIST's.
    """
    paths = {field: file.find(folder) for field, file in FILES.items()}
    return {field: FILES[field].read(path) for field, path in paths.items() if path}


def store(arrays: Mapping[str, Bytes], folder: Path, scratch: Path) -> None:
    """Write `arrays`, by the keys of `FILES`, below `folder`.

    Each file is written in `scratch`, on the same file system, and moved: it is there whole or not at all.
    """
    for field, array in arrays.items():
        part = scratch / FILES[field].name
        write_idx(part, array)
        path = FILES[field].stored(folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        files.move(part, path)
