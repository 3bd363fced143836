"""What a user asks to be written is whole or not there; links, devices and pipes stay what they are."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from lorabench import config, data, files
from lorabench.data.mnist import Mnist
from lorabench.errors import InputError, RunFailedError
from lorabench.runs import write_atomic


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    files.write(tmp_path / "a.md", b"old")
    (tmp_path / "b.md").hardlink_to(tmp_path / "a.md")
    files.write(tmp_path / "a.md", b"new")
    assert (tmp_path / "a.md").read_bytes() == b"new"
    assert (tmp_path / "b.md").read_bytes() == b"old"
    (tmp_path / "folder.md").mkdir()
    for path in (tmp_path / "none" / "a.md", tmp_path / "folder.md"):
        with pytest.raises(InputError, match="cannot be written"):
            files.write(path, b"newer")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.md", "b.md", "folder.md"]


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.md").write_bytes(b"old")
    (tmp_path / "link.md").symlink_to("real/a.md")
    (tmp_path / "dangling.md").symlink_to("real/b.md")
    files.write(tmp_path / "link.md", b"new")
    files.write(tmp_path / "dangling.md", b"made")
    assert (tmp_path / "link.md").is_symlink()
    assert [(tmp_path / "real" / name).read_bytes() for name in ("a.md", "b.md")] == [b"new", b"made"]


def test_what_is_no_regular_file_is_written_into(tmp_path: Path) -> None:
    """As root, a report once took the place of /dev/null."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    heard: list[bytes] = []
    reader = threading.Thread(target=lambda: heard.append(pipe.read_bytes()))
    reader.start()
    files.write(pipe, b"through")
    reader.join()
    assert (heard, pipe.is_fifo()) == ([b"through"], True)
    (tmp_path / "null").symlink_to("/dev/null")
    files.write(tmp_path / "null", b"nothing")
    assert (tmp_path / "null").is_char_device()


def test_a_full_disk_is_told_from_a_wrong_place_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    files.write(tmp_path / "a.md", b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunFailedError, match=r"a\.md: cannot be written: No space left on device"):
        files.write(tmp_path / "a.md", b"new")
    with pytest.raises(RunFailedError, match="No space"), files.beside(tmp_path / "folder") as part:
        files.write(part / "b", b"b")
    assert [path.name for path in tmp_path.iterdir()] == ["a.md"]
    assert (tmp_path / "a.md").read_bytes() == b"old"


def test_what_dead_processes_left_is_removed_by_the_next_and_what_live_ones_write_is_not(tmp_path: Path) -> None:
    gone, here = 2**22 + 1, os.getppid()
    for name in (f".a.md.{gone}.part", f".a.md.{here}.part", f".b.md.{gone}.part", ".a.md.mine.part"):
        (tmp_path / name).write_bytes(b"half")
    files.write(tmp_path / "a.md", b"new")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == sorted(["a.md", f".a.md.{here}.part", f".b.md.{gone}.part", ".a.md.mine.part"])


def test_a_name_with_signs_of_a_pattern_is_a_name(tmp_path: Path) -> None:
    gone = 2**22 + 1
    for name in ("[a].md", "*.md"):
        (tmp_path / f".{name}.{gone}.part").write_bytes(b"half")
        (tmp_path / f".b.md.{gone}.part").write_bytes(b"another's")
        files.write(tmp_path / name, b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["*.md", f".b.md.{gone}.part", "[a].md"]


def test_a_folder_takes_its_place_whole_or_leaves_what_was_there(tmp_path: Path) -> None:
    with files.beside(tmp_path / "new" / "out") as part:
        (part / "a").write_text("first")
    with pytest.raises(InputError, match="cannot be written"), files.beside(tmp_path / "new" / "out") as part:
        (part / "a").rename(part / "b")
    assert (tmp_path / "new" / "out" / "a").read_text() == "first"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


def test_a_place_that_is_open_elsewhere_is_taken_once_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, where another program has the file open for a moment, or for good."""
    refused = [3]

    def replace(old: str, new: str) -> None:
        if refused[0]:
            refused[0] -= 1
            raise PermissionError(errno.EACCES, "Access is denied", str(old))
        Path(old).rename(new)

    monkeypatch.setattr(os, "replace", replace)
    files.write(tmp_path / "a.md", b"new")
    write_atomic(tmp_path / "run.json", b"new")
    with files.beside(tmp_path / "out") as part:
        (part / "a").write_bytes(b"new")
    assert [path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()] == [b"new"] * 3
    refused[0] = 1_000_000
    monkeypatch.setattr(files, "PATIENCE_S", 0.1)
    with pytest.raises(InputError, match="Access is denied"):
        files.write(tmp_path / "b.md", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.md", "out", "run.json"]


def test_half_an_fmnist_is_never_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command once took it for MNIST itself, and refused for ever."""
    images, labels = np.zeros((40, 28, 28), np.uint8), np.tile(np.arange(10, dtype=np.uint8), 4)
    mnist = Mnist(images, labels, images, labels)
    shifted = data.choose(mnist, config.Config().fmnist)
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    (tmp_path / "MNIST" / "raw" / "notes.txt").write_text("mine")
    fsync, calls = os.fsync, iter(range(4))

    def filling(number: int) -> None:
        if next(calls, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(number)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", filling)
        with pytest.raises(RunFailedError, match="No space"):
            data.write_fmnist(tmp_path, mnist, shifted)
    assert [path.name for path in (tmp_path / "MNIST" / "raw").iterdir()] == ["notes.txt"]
    assert len(data.write_fmnist(tmp_path, mnist, shifted)) == 6
    assert (tmp_path / "MNIST" / "raw" / "notes.txt").read_text() == "mine"
