"""Small mistakes, one at a time, in a copy of the tree: the tests that are named with a mistake must notice it.

    python tests/mutants.py              # all of them: prints those that survive, and then exits with 1
    python tests/mutants.py adalora      # those with this word in their file or in one of their texts

A mutant is run in a fork of a process that has imported everything slow, so that a hundred take a few minutes.
"""

# ruff: noqa: T201 -- a program
from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from mutant_list import MUTANTS, ROOT, Mutant

PATIENCE = 300
"""Seconds after which a mutant's tests are ended."""
QUICK = ["-x", "-q", "-n0", "--assert=plain", "-pno:cacheprovider", "-pno:hypothesispytest"]
SLOW = ("hypothesis.strategies", "pydantic", "rich", "safetensors.torch", "scipy.stats", "torch._dynamo", "typer")
"""What is imported once, for all."""


def outcome(root: Path, tests: str) -> tuple[int, str]:
    """Of pytest on `tests` in the tree at `root`: its exit status, 1 if a test fails and 0 if none; what it says."""
    said = root.parent / "said"
    child = os.fork()
    if not child:
        status = 3  # pytest's own, for what should not happen
        try:
            signal.alarm(PATIENCE)
            os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
            os.dup2(1, 2)
            status = pytest.main([*QUICK, f"--rootdir={root}", *shlex.split(tests)])
            sys.stdout.flush()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said.read_text("utf-8")


def copied(folder: Path) -> Path:
    """The tree in `folder`, and this process and its children so that they import lorabench from there."""
    root = folder / "tree"
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns(".*", "__pycache__", "*.egg-info"))
    sys.dont_write_bytecode = True  # what is compiled twice in one second would not be noticed to have changed
    os.environ |= {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    sys.path[:] = [str(root), *(path for path in sys.path if not Path(path).is_relative_to(ROOT))]
    os.chdir(root)
    spec = importlib.util.find_spec("lorabench")
    assert spec
    assert spec.origin == str(root / "lorabench" / "__init__.py"), spec.origin
    for slow in SLOW:
        importlib.import_module(slow)
    return root


def trial(root: Path, mutant: Mutant) -> str | None:
    """What is wrong with it, other than that it is a mutant; None if it is noticed."""
    path = root / mutant.file
    text = path.read_text("utf-8")
    if (places := text.count(mutant.old)) != 1:
        return f"stands {places} times  {mutant}"
    path.write_text(text.replace(mutant.old, mutant.new), "utf-8")
    status, said = outcome(root, mutant.tests)
    path.write_text(text, "utf-8")
    if status == 1:
        return None
    return f"survives  {mutant}" if status == 0 else f"ends its tests with {status}  {mutant}\n{said}"


def main(word: str = "") -> int:
    """Try the mutants with `word`; how many survive, or cannot be tried."""
    chosen = [mutant for mutant in MUTANTS if word in str(mutant)]
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        root = copied(Path(folder).resolve())
        whole: dict[str, bool] = {}
        for mutant in chosen:
            if mutant.tests not in whole:
                status, said = outcome(root, mutant.tests)
                whole[mutant.tests] = status == 0
                if status:
                    print(f"without any mistake {mutant.tests} ends with {status}:\n{said}", flush=True)
            problem = trial(root, mutant) if whole[mutant.tests] else f"not tried  {mutant}"
            if problem:
                print(problem, flush=True)
                bad += 1
    print(f"{len(chosen)} mutants, {bad} not noticed")
    return bad


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]) > 0)
