"""torchvision is imported in a fresh process, with its compiled library loaded or not, and says nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

CANNOT_LOAD = """
def refuse(path):
    raise OSError(path)
torch.ops.load_library = refuse
"""
DECLARED_BY_ANOTHER = (
    CANNOT_LOAD
    + """
other = torch.library.Library("torchvision", "FRAGMENT")
other.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
other.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
)
IMPORT = """
import gc
from lorabench.data import ways
datasets = ways.import_datasets()
assert ways.import_datasets() is datasets
gc.collect()
import torchvision
assert datasets is torchvision.datasets
assert datasets.MNIST.resources
assert torch.ops.torchvision.nms
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        (CANNOT_LOAD, "assert ways._declared"),
        (DECLARED_BY_ANOTHER, "assert not ways._declared"),
    ],
    ids=["as it is", "cannot load", "declared by another"],
)
def test_import_is_quiet(before: str, after: str) -> None:
    code = "import torch" + before + IMPORT + after
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_the_cure_torchvision_fails_where_its_library_does_not_load() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import torch" + CANNOT_LOAD + "import torchvision"],
        capture_output=True,
        text=True,
    )
    assert "operator torchvision::nms does not exist" in done.stderr


def test_the_room_imports_no_torch() -> None:
    code = "import sys, lorabench.data; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
