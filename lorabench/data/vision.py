"""One way to MNIST: torchvision's own download, which runs as a child process, see `fetch`.

torchvision is imported also where its compiled library does not load: a CUDA build of it beside a CPU-only torch.
"""

from __future__ import annotations

import functools
import importlib
import os
import socket
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from lorabench.data.fetch import online

_TIMEOUT_S = 60  # torchvision sets none, and a child whose parent was killed must end some day
_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_declared: list[Any] = []
"""The `torch.library.Library` that holds the schemas: they are withdrawn when it is collected."""


def main(folder: str) -> None:
    """Download the four files and unpack them into `folder`/MNIST/raw.

    The environment variable LORABENCH_MIRROR names a place to take them from instead of torchvision's.
    """
    mnist = import_datasets().MNIST
    if mirror := os.environ.get("LORABENCH_MIRROR"):
        mnist.mirrors = [mirror.rstrip("/") + "/"]
    socket.setdefaulttimeout(_TIMEOUT_S)
    with online(Path(folder)):
        mnist(folder, train=False, download=True)


@functools.cache
def import_datasets() -> ModuleType:
    """The module `torchvision.datasets`.

    `import torchvision` adds meta kernels to two operators of its compiled library without asking whether it has
    loaded, and fails with "operator torchvision::nms does not exist" if not (pytorch/vision#9085). Declaring them is
    then enough: they stay without kernels, and torchvision says so if called. They are declared after that failure
    alone, since the library of an intact pair aborts the process where somebody has declared them before it.

    Raises:
        ImportError, RuntimeError: torchvision is not installed, or cannot be imported for another reason.
    """
    try:
        return importlib.import_module("torchvision.datasets")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
        del sys.modules[name]  # what is half imported
    torch: Any = importlib.import_module("torch")
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
    _declared.append(library)
    return importlib.import_module("torchvision.datasets")
