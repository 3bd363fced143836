"""A program that dies at every step that it takes on disk, one after the other, and looks at what it leaves.

    python tests/crashing.py fresh FOLDER      # the first try of a run
    python tests/crashing.py again FOLDER      # over a finished one, as with --force

Every file that Python opens, moves, makes or removes is a step (an audit event). A child process is killed before its
n-th one, for n = 1, 2, 3, ... until it comes to its end; then another child does the same work undisturbed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

from lorabench.runs import Run, Store

ID = "lora-k4-s0-00000000"
STEPS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.scandir", "os.utime", "shutil.rmtree"}


def work(store: Store, content: bytes) -> None:
    """A whole run, and the note of a study and of a bench."""
    draft = Run(schema=1, id=ID, stage="finetune", method="lora", k=4, seed=0)
    with store.locked(ID, wait=False), store.start(draft, "seed: 0\n") as folder:
        folder.write("model.safetensors", content)
        folder.finish(folder.run)
    store.remember_study("study", [ID])
    store.remember_bench({})


def child(call: Callable[[], None]) -> int:
    """How a process ended that did nothing but this call."""
    pid = os.fork()
    if not pid:
        call()
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def dying(step: int, store: Store, content: bytes) -> None:
    """The work, killed before its `step`-th step."""
    steps = count(1)

    def hook(event: str, _: tuple[object, ...]) -> None:
        if event in STEPS and next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    work(store, content)


def tree(root: Path) -> set[str]:
    """Every path below `root` but the locks."""
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.suffix != ".lock"}


def main(scene: str, folder: Path) -> None:
    """Die at every step."""
    store = Store(folder / "reference")
    work(store, b"new")
    want = tree(store.root)
    for step in count(1):
        store = Store(folder / str(step))
        if scene == "again":
            work(store, b"old")
        status = child(lambda store=store, step=step: dying(step, store, b"new"))
        runs, broken = store.scan()
        assert not broken, (step, broken)
        for run in runs:
            if run.status == "done":
                assert store.intact(run, "model.safetensors").read_bytes() in (b"new", b"old"), step
            else:
                assert run.status == "interrupted", (step, run.status)
        if not status:
            sys.stdout.write(f"{step - 1}\n")
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
        assert child(lambda store=store: work(store, b"new")) == 0, step
        assert tree(store.root) == want, (step, tree(store.root) ^ want)
        assert store.intact(store.load(ID), "model.safetensors").read_bytes() == b"new"


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
