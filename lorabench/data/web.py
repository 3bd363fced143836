"""One way to MNIST: torchvision's own download. Runs as a child process, see `child`."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from lorabench.data import child
from lorabench.data.vision import import_datasets

_TIMEOUT_S = 60  # torchvision sets none, and a child whose parent was killed must end some day


def main(folder: str) -> None:
    """Download the four files and unpack them into `folder`/MNIST/raw.

    The environment variable LORABENCH_MIRROR names a place to take them from instead of torchvision's.
    """
    mnist = import_datasets().MNIST
    if mirror := os.environ.get("LORABENCH_MIRROR"):
        mnist.mirrors = [mirror.rstrip("/") + "/"]
    socket.setdefaulttimeout(_TIMEOUT_S)
    with child.online(Path(folder)):
        mnist(folder, train=False, download=True)
