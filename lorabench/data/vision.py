"""One way to MNIST: torchvision's own download, which runs as a child process, see `fetch`.

torchvision is imported also where its compiled library does not load: a CUDA build of it beside a CPU-only torch.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.machinery
import importlib.util
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorabench.data.fetch import online

if TYPE_CHECKING:
    from types import ModuleType

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

    `import torchvision` adds meta kernels to two operators of its compiled library without asking whether it
    has loaded, and fails with "operator torchvision::nms does not exist" if not (pytorch/vision#9085). Where
    they are missing, declaring them is enough: they stay without kernels, and torchvision says so if called.
    """
    torch: Any = importlib.import_module("torch")
    if path := _compiled_library():
        # torchvision does the same in a moment, and the system loads a library only once.
        with contextlib.suppress(ImportError, OSError):
            torch.ops.load_library(path)
    missing = [schema for name, schema in _SCHEMAS.items() if not hasattr(torch.ops.torchvision, name)]
    if missing:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in missing:
            library.define(schema)
        _declared.append(library)
    return importlib.import_module("torchvision.datasets")


def _compiled_library() -> str | None:
    package = importlib.util.find_spec("torchvision")
    folders = package.submodule_search_locations if package else None
    library = importlib.machinery.PathFinder.find_spec("_C", list(folders or ()))
    return library.origin if library else None
