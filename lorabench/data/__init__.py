"""MNIST, and F-MNIST, which is made from it.

    mnist.py     load(): the verified arrays
    flip.py      F-MNIST: which images are mirrored
    layout.py    the four files of MNIST: names, checksums, places
    idx.py       the format of these files
    fetch.py     brings them into the data folder, by one of two ways:
    web.py         torchvision's download
    hub.py         a package on PyPI
    child.py     both ways run in a child process, watched
    vision.py    torchvision, also where its compiled library does not load

Nothing here imports torch before it is needed.
"""

from lorabench.data.flip import Axis, Flips, census, choose, examples, mirror, slices, write_fmnist
from lorabench.data.idx import read_idx, write_idx
from lorabench.data.layout import CHECKSUM
from lorabench.data.mnist import Mnist, default_dir, hold_out, load

__all__ = [
    "CHECKSUM",
    "Axis",
    "Flips",
    "Mnist",
    "census",
    "choose",
    "default_dir",
    "examples",
    "hold_out",
    "load",
    "mirror",
    "read_idx",
    "slices",
    "write_fmnist",
    "write_idx",
]
