"""MNIST, verified.

    mnist = load()
    mnist.train_images.shape    # (60000, 28, 28), uint8

Source: LeCun, Cortes and Burges, The MNIST database of handwritten digits, 1998. The files are fetched once,
see `fetch`; every load verifies them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from lorabench.data.fetch import Message, Progress, fetch
from lorabench.data.layout import FILES, absent, collect

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


def default_dir() -> Path:
    """The default data folder: $LORABENCH_DATA, or one in the user's cache."""
    named = os.environ.get("LORABENCH_DATA")
    return Path(named).expanduser() if named else platformdirs.user_cache_path("lorabench")


def load(
    data_dir: Path | None = None,
    holdout: int = 0,
    *,
    progress: Progress | None = None,
    message: Message | None = None,
) -> Mnist:
    """Read MNIST from `data_dir` (None: `default_dir()`), after fetching it if it is not there.

    The four files may lie in `data_dir` itself or in `data_dir`/MNIST/raw, where torchvision looks; raw or
    compressed.

    Args:
        data_dir: made if need be; may be read-only if it has the files.
        holdout: how many images of the training set are the test set, see `hold_out`; 0 for MNIST's own.
        progress: told the way, the bytes so far and the bytes in all, as a download goes on.
        message: told, in a sentence, what happens.

    Raises:
        InputError: a file is damaged or not MNIST's, MNIST could not be fetched, or `data_dir` cannot be
            written.
    """
    folder = data_dir.expanduser() if data_dir else default_dir()
    if absent(folder):
        arrays = {} if os.access(folder, os.W_OK) else collect(folder)
        if len(arrays) < len(FILES):
            fetch(folder, progress or _ignore, message or _ignore)
            arrays = collect(folder)
    else:
        arrays = collect(folder)
    mnist = Mnist(**arrays)
    return hold_out(mnist, holdout) if holdout else mnist


def _ignore(*_: object) -> None:
    """For a caller who wants to be told nothing."""
