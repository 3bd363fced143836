"""MNIST as it is loaded from files that are there: wherever they lie, verified, and never changed."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import platformdirs
import pytest

from lorabench import data
from lorabench.data import fetch
from lorabench.data.mnist import FILES
from lorabench.data.ways import import_datasets
from lorabench.errors import InputError

if TYPE_CHECKING:
    Place = Callable[[Path, str], Path]

RAW = Path("MNIST", "raw")
PLACES: dict[str, Place] = {
    "raw, as torchvision keeps it": lambda folder, name: folder / RAW / name,
    "gz, as torchvision keeps it": lambda folder, name: folder / RAW / f"{name}.gz",
    "raw, in the folder": lambda folder, name: folder / name,
    "gz, in the folder": lambda folder, name: folder / f"{name}.gz",
    "raw, as other tools name it": lambda folder, name: folder / name.replace("-idx", ".idx"),
    "gz, as other tools name it, in raw": lambda folder, name: folder / "raw" / f"{name.replace('-idx', '.idx')}.gz",
}


@pytest.fixture(scope="session")
def packed(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the four files compressed."""
    folder = tmp_path_factory.mktemp("packed")
    for file in FILES.values():
        raw = file.stored(data_dir).read_bytes()
        (folder / f"{file.name}.gz").write_bytes(gzip.compress(raw, compresslevel=1))
    return folder


def fill(folder: Path, place: Place, data_dir: Path, packed: Path) -> None:
    for file in FILES.values():
        path = place(folder, file.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(packed / f"{file.name}.gz" if path.suffix == ".gz" else file.stored(data_dir), path)


@pytest.fixture
def tmp_path(tmp_path: Path) -> Generator[Path]:
    """pytest's, but not kept: each holds MNIST."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.fixture
def folder(data_dir: Path, packed: Path, tmp_path: Path) -> Path:
    """A folder of the test's own with MNIST as torchvision keeps it."""
    fill(tmp_path, PLACES["raw, as torchvision keeps it"], data_dir, packed)
    return tmp_path


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no way to download anything."""
    monkeypatch.setattr(fetch, "WAYS", ())


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder below `folder`: when it was written, how long it is."""
    found = {str(path.relative_to(folder)): path.stat() for path in folder.rglob("*")}
    return {name: (status.st_mtime_ns, status.st_size) for name, status in found.items()}


def test_the_arrays(data_dir: Path) -> None:
    mnist = data.load(data_dir)
    assert mnist.train_images.shape == (60000, 28, 28)
    assert mnist.test_images.shape == (10000, 28, 28)
    assert mnist.train_labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert mnist.test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(mnist.train_labels)[[2, 3]].tolist() == [5958, 6131]
    assert np.bincount(mnist.test_labels)[[2, 3]].tolist() == [1032, 1010]
    for field, file in FILES.items():
        array = getattr(mnist, field)
        assert array.dtype == np.uint8
        assert array.flags.writeable  # torch.from_numpy warns of others
        assert hashlib.sha256(array.tobytes()).hexdigest() == file.sha256


def test_torchvision_reads_our_files_to_the_same_arrays(data_dir: Path) -> None:
    mnist = data.load(data_dir)
    for split in ("train", "test"):
        theirs = import_datasets().MNIST(data_dir, train=split == "train")
        np.testing.assert_array_equal(theirs.data.numpy(), getattr(mnist, f"{split}_images"))
        np.testing.assert_array_equal(theirs.targets.numpy(), getattr(mnist, f"{split}_labels"))


def test_loading_imports_neither_torch_nor_torchvision(data_dir: Path) -> None:
    code = "import pathlib, sys; from lorabench import data; data.load(pathlib.Path(sys.argv[1])); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(data_dir)], capture_output=True, text=True, check=True)
    assert not {"torch", "torchvision"} & set(done.stdout.split())


def test_the_checksum_is_part_of_run_ids_and_stays() -> None:
    assert data.CHECKSUM == "c473ce9de4170e6fe7638543697b7512b19cc4b2c68279feabf4a085461033dd"


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("place", PLACES)
def test_files_are_found_stored_and_left_alone(place: str, data_dir: Path, packed: Path, tmp_path: Path) -> None:
    fill(tmp_path, PLACES[place], data_dir, packed)
    before = listing(tmp_path)
    mnist = data.load(tmp_path)
    np.testing.assert_array_equal(mnist.test_labels, data.load(data_dir).test_labels)
    after = listing(tmp_path)
    assert all(file.stored(tmp_path).is_file() for file in FILES.values())
    assert {name: after[name] for name in before if name not in {"MNIST", str(RAW)}}.items() <= before.items()
    assert not [name for name in after if "fetch" in name]


@pytest.mark.usefixtures("offline")
def test_files_in_several_places_are_put_together(folder: Path) -> None:
    images = FILES["train_images"].stored(folder)
    shutil.move(images, folder / images.name)
    assert data.load(folder).train_images.shape == (60000, 28, 28)


@pytest.mark.usefixtures("offline")
def test_a_read_only_folder_is_not_written(folder: Path) -> None:
    def allow(mode: int) -> None:
        for path in (folder, folder / "MNIST", folder / RAW):
            path.chmod(mode)

    before = listing(folder)
    allow(stat.S_IRUSR | stat.S_IXUSR)
    try:
        data.load(folder)
    finally:
        allow(stat.S_IRWXU)
    assert listing(folder) == before


@pytest.mark.usefixtures("offline")
def test_compressed_files_in_a_read_only_folder_are_unpacked_elsewhere(
    packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = listing(packed)

    def deny(*_: object) -> bool:
        return False

    monkeypatch.setattr(os, "access", deny)  # root may write anywhere
    assert data.load(packed).test_images.shape == (10000, 28, 28)
    assert listing(packed) == before


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def edit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-400] ^= 1
    path.write_bytes(content)


def reshape(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:4] + struct.pack(">3I", 10000, 14, 56) + content[16:])


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "expected 7,840,016 bytes, has 7,839,016"),
        (edit, "not MNIST's: expected checksum 6d87418db22c…, has "),
        (reshape, r"not MNIST's: expected an array of shape \(10000, 28, 28\), has \(10000, 14, 56\)"),
    ],
)
@pytest.mark.parametrize("place", ["raw, as torchvision keeps it", "raw, in the folder"])
def test_a_damaged_file_is_named_and_kept(
    damage: Callable[[Path], None], message: str, place: str, data_dir: Path, packed: Path, tmp_path: Path
) -> None:
    fill(tmp_path, PLACES[place], data_dir, packed)
    path = PLACES[place](tmp_path, FILES["test_images"].name)
    damage(path)
    content = path.read_bytes()
    with pytest.raises(InputError, match=f"^{path}: {message}.*; delete it, and lorabench fetches it again$"):
        data.load(tmp_path)
    assert path.read_bytes() == content


@pytest.mark.usefixtures("offline")
def test_a_cut_gz_file_is_named(packed: Path, tmp_path: Path) -> None:
    shutil.copytree(packed, tmp_path, dirs_exist_ok=True)
    path = tmp_path / f"{FILES['test_images'].name}.gz"
    cut(path)
    with pytest.raises(InputError, match=f"^{path}: expected 7,840,000 bytes after its header, has 7,8"):
        data.load(tmp_path)
    assert not (tmp_path / "MNIST").exists()


@pytest.mark.usefixtures("offline")
def test_a_missing_file_is_not_made_up(folder: Path) -> None:
    FILES["test_labels"].stored(folder).unlink()
    before = listing(folder)
    with pytest.raises(InputError, match="could not be fetched"):
        data.load(folder)
    assert {name: was for name, was in listing(folder).items() if not name.startswith(".")} == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match=f"^{tmp_path / 'file' / 'data'}: cannot be written: [^\n]*$"):
        data.load(tmp_path / "file" / "data")


def test_which_folder_is_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LORABENCH_DATA", raising=False)
    assert data.default_dir() == platformdirs.user_cache_path("lorabench")
    monkeypatch.setenv("LORABENCH_DATA", "~/mnist")
    assert data.default_dir() == Path.home() / "mnist"
    monkeypatch.setenv("LORABENCH_DATA", str(folder))
    edit(FILES["test_labels"].stored(folder))
    with pytest.raises(InputError, match=str(folder)):
        data.load()


def test_a_folder_below_the_home_folder_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `LORABENCH_DATA='~/x'` hands it to a command."""
    asked: list[Path] = []

    def absent(folder: Path) -> bool:
        asked.append(folder)
        raise InputError("stop")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("lorabench.data.fetch.absent", absent)
    with pytest.raises(InputError, match="stop"):
        data.load(Path("~/x"))
    assert asked == [tmp_path / "x"]
