"""F-MNIST as IDX files, as `torchvision.datasets.MNIST` reads them, and which images are changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lorabench import data
from lorabench.errors import RunFailedError
from lorabench.exchange import Same
from lorabench.runner.measure import own_config
from lorabench.runner.session import Session
from lorabench.runs import Run


def write(runs: Sequence[Run], folder: Path, session: Session) -> list[Same]:
    """Write the F-MNIST that the one run of `runs` is or was measured on, read it again, compare every byte.

    Raises:
        InputError: the run's config is missing or damaged.
        RunFailedError: what was read is not what was written.
    """
    (run,) = runs
    mnist, flips = session.fmnist_of(own_config(run, session.store))
    data.write_fmnist(folder, mnist, flips)
    compared: list[Same] = []
    for split, images, labels, mask in (
        ("train", mnist.train_images, mnist.train_labels, flips.train),
        ("t10k", mnist.test_images, mnist.test_labels, flips.test),
    ):
        expected = {"images-idx3": flips.apply(images, mask), "labels-idx1": labels, "flips-idx1": mask}
        for name, array in expected.items():
            path = folder / "MNIST" / "raw" / f"{split}-{name}-ubyte"
            if not np.array_equal(data.read_idx(path), array):
                raise RunFailedError(f"{path.name}, read again, is not what was written; nothing was exported")
        compared.append(Same(f"F-MNIST {split}", len(images), 0, None))
    return compared
