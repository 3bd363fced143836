"""IDX, the file format in which MNIST is published (LeCun, Cortes and Burges, 1998), for arrays of bytes.

    bytes 0, 1    zero
    byte 2        element type: 8 = unsigned byte, the only one here
    byte 3        number of dimensions d: 1 for labels, 3 for images
    4·d bytes     the dimensions, big-endian
    the rest      the elements, the last dimension fastest

Nothing here trusts what a header says.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import os
import struct
import zlib
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from lorabench.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]

_UBYTE = 8
_CHUNK = 1 << 20
_MOST = 60_000 * 28 * 28
"""Elements of MNIST's largest file."""


def write_idx(path: Path, array: Bytes) -> None:
    """Write `array`, uint8 of shape (n,) or (n, rows, columns); it is on disk when this returns.

    Raises:
        ValueError: another type or number of dimensions.
    """
    import numpy as np

    if array.dtype != np.uint8 or array.ndim not in (1, 3):
        raise ValueError(f"IDX files here hold uint8 in 1 or 3 dimensions, not {array.dtype} in {array.ndim}")
    with path.open("wb") as file:
        file.write(bytes((0, 0, _UBYTE, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape))
        file.write(np.ascontiguousarray(array).data)
        file.flush()
        os.fsync(file.fileno())


def read_idx(path: Path) -> Bytes:
    """Read an IDX file, raw or (by a name in .gz) compressed: uint8 of shape (n,) or (n, rows, columns).

    Memory is taken for what the file holds, never for what its header merely claims.

    Raises:
        InputError: the file cannot be read, is no such IDX file, or its header and its size disagree.
    """
    import numpy as np

    if path.suffix == ".gz":
        return _read_packed(path)
    with _reading(path), path.open("rb") as file:
        shape = _read_header(file, path)
        size = os.fstat(file.fileno()).st_size
        if size != (expected := file.tell() + math.prod(shape)):
            raise InputError(f"{path}: expected {expected:,} bytes, has {size:,}")
        return np.fromfile(file, dtype=np.uint8).reshape(shape)


def _read_packed(path: Path) -> Bytes:
    import numpy as np

    data = bytearray()
    with _reading(path), gzip.open(path) as file:
        shape = _read_header(file, path)
        expected = math.prod(shape)
        if expected > _MOST:
            raise InputError(f"{path}: expected at most {_MOST:,} elements, its header claims {expected:,}")
        # EOFError is gzip's word for a file cut short; the count below says it in numbers.
        with contextlib.suppress(EOFError):
            while len(data) <= expected and (chunk := file.read1(_CHUNK)):
                data += chunk
    if len(data) != expected:
        size = f"{len(data):,}" if len(data) < expected else "more"
        raise InputError(f"{path}: expected {expected:,} bytes after its header, has {size}")
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)


def _read_header(file: BinaryIO | gzip.GzipFile, path: Path) -> tuple[int, ...]:
    magic = file.read(4)
    if magic not in (bytes((0, 0, _UBYTE, 1)), bytes((0, 0, _UBYTE, 3))):
        raise InputError(f"{path}: expected 00000801 or 00000803, as IDX files begin, has {magic.hex()!r}")
    dimensions = file.read(4 * magic[3])
    if len(dimensions) != 4 * magic[3]:
        raise InputError(f"{path}: expected {4 * magic[3]} bytes of dimensions, has {len(dimensions)}")
    return struct.unpack(f">{magic[3]}I", dimensions)


@contextlib.contextmanager
def _reading(path: Path) -> Generator[None]:
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: damaged gzip file: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
