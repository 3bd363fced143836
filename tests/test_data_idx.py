"""IDX files: what is written is what is read, here and by torchvision; nothing damaged is read at all."""

from __future__ import annotations

import gzip
import re
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from lorabench.data import read_idx, write_idx
from lorabench.data.ways import import_datasets
from lorabench.errors import InputError

IMAGES = np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 3, 5)
LABELS = np.array([7, 0, 255], dtype=np.uint8)
HEADER = struct.pack(">4B3I", 0, 0, 8, 3, 2, 3, 5)


@pytest.mark.parametrize("array", [IMAGES, LABELS, LABELS[:0], IMAGES[:, ::2]], ids=["3d", "1d", "empty", "strided"])
def test_round_trip(array: np.ndarray, tmp_path: Path) -> None:
    write_idx(tmp_path / "x", array)
    (tmp_path / "x.gz").write_bytes(gzip.compress((tmp_path / "x").read_bytes()))
    for name in ("x", "x.gz"):
        found = read_idx(tmp_path / name)
        assert found.dtype == np.uint8
        assert found.flags.writeable
        np.testing.assert_array_equal(found, array)


def test_bytes_are_those_of_the_format(tmp_path: Path) -> None:
    write_idx(tmp_path / "x", IMAGES)
    assert (tmp_path / "x").read_bytes() == HEADER + bytes(range(30))


def test_torchvision_reads_what_is_written(tmp_path: Path) -> None:
    write_idx(tmp_path / "images", IMAGES)
    write_idx(tmp_path / "labels", LABELS)
    reader = import_datasets().mnist
    np.testing.assert_array_equal(reader.read_image_file(str(tmp_path / "images")).numpy(), IMAGES)
    np.testing.assert_array_equal(reader.read_label_file(str(tmp_path / "labels")).numpy(), LABELS)


@pytest.mark.parametrize("array", [IMAGES.astype(np.int64), IMAGES[0]], ids=["int64", "2d"])
def test_other_arrays_are_not_written(array: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="uint8 in 1 or 3"):
        write_idx(tmp_path / "x", array)
    assert not (tmp_path / "x").exists()


BODY = bytes(range(30))
HUGE = struct.pack(">4B3I", 0, 0, 8, 3, 2**31, 2**31, 2**31)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x", b"", "expected 00000801 or 00000803"),
        ("x", b"PK\3\4" + BODY, "504b0304"),
        ("x", b"\0\0\x0d\3" + HEADER[4:] + BODY, "00000d03"),  # float32
        ("x", HEADER[:10], "expected 12 bytes of dimensions, has 6"),
        ("x", HEADER + BODY[:-1], "expected 46 bytes, has 45"),
        ("x", HEADER + BODY + b"!", "expected 46 bytes, has 47"),
        ("x", HUGE + BODY, "has 46"),
        ("x.gz", HEADER + BODY, "damaged gzip"),
        ("x.gz", gzip.compress(HEADER[:10], mtime=0), "expected 12 bytes of dimensions, has 6"),
        ("x.gz", gzip.compress(HEADER + BODY[:-1], mtime=0), "expected 30 bytes after its header, has 29"),
        ("x.gz", gzip.compress(HEADER + BODY + b"!", mtime=0), "expected 30 bytes after its header, has more"),
        (
            "x.gz",
            gzip.compress(HUGE + BODY, mtime=0),
            r"claims 9,903,520,314,283,042,199,192,993,792",
        ),
        ("x.gz", gzip.compress(HEADER + BODY, mtime=0)[:-30], "damaged gzip|expected 30 bytes"),
        ("x.gz", gzip.compress(HEADER + BODY, mtime=0)[:-8] + bytes(8), "damaged gzip.*CRC"),
    ],
)
def test_damage_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"^{re.escape(str(tmp_path / name))}: .*({message})"):
        read_idx(tmp_path / name)


def test_a_cut_gzip_file_says_how_much_it_has(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(256, size=(1000, 28, 28), dtype=np.uint8)
    write_idx(tmp_path / "x", noise)
    whole = gzip.compress((tmp_path / "x").read_bytes())
    (tmp_path / "x.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"expected 784,000 bytes after its header, has 39\d,\d{3}$"):
        read_idx(tmp_path / "x.gz")


def test_no_memory_is_taken_for_what_a_header_claims(tmp_path: Path) -> None:
    claim = struct.pack(">4B3I", 0, 0, 8, 3, 1 << 10, 1 << 10, 1 << 9)  # half a gigabyte
    (tmp_path / "x").write_bytes(claim + BODY)
    (tmp_path / "x.gz").write_bytes(gzip.compress(claim + BODY))
    tracemalloc.start()
    try:
        for name in ("x", "x.gz"):
            with pytest.raises(InputError):
                read_idx(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none", "No such file"), (tmp_path, "directory")):
        with pytest.raises(InputError, match=f"{path}: cannot be read: .*{reason}"):
            read_idx(path)
