"""Digits and masks in an .npz file, one number for each image of a test set: read with every doubt checked.

    read(path, np.uint8)["mnist"]             # (10000,), the predicted digits

A few kilobytes of .npz can claim to be gigabytes. Nothing here allocates more than MNIST has images.
"""

from __future__ import annotations

import io
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorabench.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_ARRAYS = 16
MAX_LENGTH = 60_000
MAX_HEADER = 200
"""Bytes of text; numpy's own for one dimension has under 70 and is padded to 118."""


def read(path: Path, dtype: type[np.generic]) -> dict[str, npt.NDArray[Any]]:
    """Every array of the file by name.

    Args:
        path: an .npz file, compressed or not.
        dtype: of all arrays, a type of one byte.

    Raises:
        InputError: it cannot be read, or holds anything but arrays (n,) of `dtype`, n at most 60,000.
    """
    try:
        if path.stat().st_size > MAX_ARRAYS * 2 * MAX_LENGTH:
            raise ValueError("too large")
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MAX_ARRAYS:
                raise ValueError(f"{len(members)} arrays")
            return {member.filename.removesuffix(".npy"): _array(archive, member, dtype) for member in members}
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        tokenize.TokenError,
        EOFError,
        ValueError,
        RuntimeError,
    ) as error:
        raise InputError(f"{path}: no arrays of digits or masks: {error or 'cut short'}") from error


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, dtype: type[np.generic]) -> npt.NDArray[Any]:
    import numpy as np

    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member.filename!r} is packed in another way than numpy's")
    limit = 12 + MAX_HEADER + MAX_LENGTH
    with archive.open(member) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{member.filename!r} is larger than {limit:,} bytes")
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError(f"{member.filename!r} has another version of the format than 1.0")
    shape, _, stored = np.lib.format.read_array_header_1_0(stream, max_header_size=MAX_HEADER)
    rest = data[stream.tell() :]
    if stored != np.dtype(dtype) or len(shape) != 1 or shape[0] != len(rest):
        raise ValueError(f"{member.filename!r} has {len(rest)} bytes for an array {shape} of {stored}")
    return np.frombuffer(rest, dtype=dtype)
