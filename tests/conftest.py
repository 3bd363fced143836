"""What the tests of all rooms share."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from lorabench import data

# Threads of torch that spin while they wait take the processor from the tests beside them.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's
# A shell that starts the tests in the background has them ignore Ctrl-C, and so the commands that they start; some of
# the tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first: begun last, it would run while the other processor has nothing left to do."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """A folder with the real MNIST: the user's own, filled by lorabench on the first use."""
    data.load()
    return data.default_dir()


@pytest.fixture
def few_images(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As `data_dir`, but to this process MNIST is a tenth of its images, for runs that are merely there."""
    take_few(monkeypatch)
    return data_dir


def take_few(patch: pytest.MonkeyPatch) -> None:
    """Let MNIST be a tenth of its images until `patch` is undone."""
    mnist = data.load()
    few = data.Mnist(*(array[: len(array) // 10] for array in vars(mnist).values()))

    def load(_: Path | None = None, holdout: int = 0, **__: object) -> data.Mnist:
        return data.hold_out(few, holdout) if holdout else few

    patch.setattr(data, "load", load)


@pytest.fixture
def module_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder from which child processes import before anything else."""
    folder = tmp_path / "modules"
    folder.mkdir()
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    return folder


@pytest.fixture
def module(module_folder: Path) -> Callable[..., str]:
    """Writes a module for child processes, whose `main(folder)` has the given lines; gives its name."""

    def write(lines: str, name: str = "way_of_a_test") -> str:
        body = "".join(f"\n    {line}" for line in lines.strip().splitlines())
        head = "import os, pathlib, shutil, subprocess, sys, time\nfrom lorabench.data import fetch\n"
        main = f"def main(folder):\n    root = pathlib.Path(folder){body}\n"
        (module_folder / f"{name}.py").write_text(head + main)
        return name

    return write
