"""The same bits on other releases of torch and Python: a two-seed study by each interpreter, held against the first.

    python tests/benchmarks/releases.py venv-2.6/bin/python venv-2.13/bin/python venv-2.14/bin/python

Each is the interpreter of an environment that has lorabench's dependencies; lorabench itself is taken from here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
SETS = ("study.seeds=0-1", "pretrain.epochs=1", "finetune.epochs=1", "study.workers=1")
VERSIONS = (
    "import platform; from importlib.metadata import version; "
    "print(platform.python_version(), version('torch'), version('torchvision'))"
)


def results(runs: Path) -> dict[str, Any]:
    """Each file's bytes, and of each record what was measured, by name."""
    found: dict[str, Any] = {str(path.relative_to(runs)): path.read_bytes() for path in runs.glob("*/*.safetensors")}
    for path in runs.glob("*/predictions.npz"):
        with np.load(path) as arrays:
            found[str(path.relative_to(runs))] = {name: arrays[name].tobytes() for name in arrays.files}
    for path in runs.glob("*/run.json"):
        record = json.loads(path.read_text("utf-8"))
        found[str(path.relative_to(runs))] = record["metrics"], record["before"]
    return found


def study(python: str, runs: Path) -> dict[str, Any]:
    """The results of a study that the interpreter makes into the folder."""
    sets = [word for text in SETS for word in ("-s", text)]
    command = [python, "-m", "lorabench", "study", "--quiet", "--runs-dir", str(runs), *sets]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT)})
    return results(runs)


def main(interpreters: list[str]) -> int:
    """Print a line for each; 1 if one gave something else than the first."""
    first: dict[str, Any] = {}
    worst = 0
    with tempfile.TemporaryDirectory() as folder:
        for number, python in enumerate(interpreters):
            said = subprocess.run([python, "-c", VERSIONS], check=True, capture_output=True, text=True).stdout.split()
            made = study(python, Path(folder) / str(number))
            first = first or made
            unlike = sorted(name for name in first.keys() | made.keys() if first.get(name) != made.get(name))
            worst |= bool(unlike)
            print(f"Python {said[0]}, torch {said[1]}, torchvision {said[2]}: ", end="")
            print(f"{len(made)} results, {len(unlike)} differ{': ' if unlike else ''}{', '.join(unlike)}")
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
