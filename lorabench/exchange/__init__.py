"""Take runs elsewhere, and bring bases of one's own and adapters of PEFT back as runs.

    base         a classifier of one's own becomes a base
    merged       plain weights: W1 = W0 + ΔW in one file; and any model read back, against the run
    peft         a folder for Hugging Face's PEFT, and such a folder becomes a finished run
    peft_format  writes and reads such a folder without PEFT, by what peft_types says of each type of adapter
    idx          the run's F-MNIST as IDX files
    events       curves and settings for TensorBoard

    export([run], "peft", Path("exports/lora-k4-s0-7f3c2a91b0d4-peft"), session)

A target is one file with `write(runs, folder, session)` and one entry in `TARGETS`. It writes into a folder beside the
one that was asked for, reads its files again and compares them with the runs. Only then does the folder take its place.
After a failure nothing is left.

Importing this room imports no torch; a target's file is imported when used.
"""

from __future__ import annotations

import fnmatch
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorabench.errors import InputError, UsageError, shown
from lorabench.files import beside

if TYPE_CHECKING:
    from lorabench.runner.session import Session
    from lorabench.runs import Run


@dataclass(frozen=True)
class Target:
    """One entry of the registry.

    Attributes:
        title: what is written; part of a help text.
        module: the file of this room that writes it.
        files: what the files below the folder are called, as glob patterns: all that `--force` may replace.
        loads: how the folder is opened elsewhere; `{folder}` stands for it.
        following: what to type next; `{folder}`, `{run}` and `{base}` stand for the folder and the first run's ids.
        together: takes several runs into one folder; otherwise one run at a time.
        choosy: not every method has such a form; the target's file has a `check(run)` that says so.
    """

    title: str
    module: str
    files: tuple[str, ...]
    loads: str
    following: str = "lorabench report {run}"
    together: bool = False
    choosy: bool = False


TARGETS: dict[str, Target] = {
    "merged": Target(
        title="plain weights W1 = W0 + ΔW",
        module="merged",
        files=("model.safetensors",),
        choosy=True,
        loads='SimpleMnistClassifier().load_state_dict(safetensors.torch.load_file("{folder}/model.safetensors"))',
    ),
    "peft": Target(
        title="a folder for PEFT",
        module="peft",
        files=("adapter_config.json", "adapter_model.safetensors"),
        choosy=True,
        loads='peft.PeftModel.from_pretrained(base, "{folder}")',
        following="lorabench import-peft {folder} --base {base}",
    ),
    "idx": Target(
        title="the run's F-MNIST as IDX files",
        module="idx",
        files=("MNIST/raw/*-ubyte",),
        loads='torchvision.datasets.MNIST("{folder}")',
    ),
    "tensorboard": Target(
        title="curves and settings of one or more runs for TensorBoard",
        module="events",
        files=("*/events.out.tfevents.*",),
        loads="tensorboard --logdir {folder}",
        together=True,
    ),
}


@dataclass(frozen=True)
class File:
    """A file that was written; `name` is its path below the folder."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Same:
    """What was compared with the run: so many images, labels that flipped, and the largest change of a logit.

    `logit_change` is None where bytes were compared, and they were equal.
    """

    name: str
    images: int
    flips: int
    logit_change: float | None


@dataclass(frozen=True)
class Export:
    """A finished export; `loads` and `following` as in `Target`, filled in."""

    runs: tuple[str, ...]
    to: str
    folder: Path
    files: tuple[File, ...]
    compared: tuple[Same, ...]
    loads: str
    following: str


def place(runs: Sequence[Run], to: str, root: Path) -> Path:
    """The folder in `root` that `runs` go into if nobody names another.

    Raises:
        UsageError: there is no such target, or it takes one run and these are several.
    """
    if to not in TARGETS:
        raise UsageError(f"--to {to}: there is no such target; known: {', '.join(TARGETS)}")
    if TARGETS[to].together:
        return root / to
    if len(runs) > 1:
        raise UsageError(f"--to {to} takes one run; these are {len(runs)}: {', '.join(run.id for run in runs[:5])}")
    return root / f"{runs[0].id}-{to}"


def export(runs: Sequence[Run], to: str, out: Path, session: Session, *, force: bool = False) -> Export:
    """Write `runs` into the folder `out`, and read it again.

    Args:
        runs: finished; one, unless the target takes them together.
        to: a key of `TARGETS`.
        out: made, with its parents; must be empty, not there, or hold this very export already.
        session: where the runs are, and where to compare.
        force: replace an earlier export of the same kind in `out`.

    Raises:
        UsageError: as `check`.
        InputError: as `check`; or a file of a run is missing or damaged.
        RunFailedError: what was written is not what the run computes, or the disk refuses.
    """
    from lorabench.runs import sha256_file

    target = TARGETS[to]
    check(runs, to, out)
    with beside(out) as folder:
        compared: list[Same] = _module(target).write(runs, folder, session)
        written, present = (
            {name: sha256_file(place / name) for name in sorted(_files(place))} for place in (folder, out)
        )
        if present and present != written and not force:
            raise UsageError(f"{out} holds another export; name another folder, or --force to replace it")
        files = [File(name, (folder / name).stat().st_size, sha256) for name, sha256 in written.items()]
    following = target.following.format(folder=shlex.quote(str(out)), run=runs[0].id, base=runs[0].parents.base)
    loads = target.loads.format(folder=shown(str(out)))
    return Export(tuple(run.id for run in runs), to, out, tuple(files), tuple(compared), loads, following)


def check(runs: Sequence[Run], to: str, out: Path) -> None:
    """Look at what can be known before anything is written; the arguments are those of `export`.

    Raises:
        UsageError: a method has no such form, or `out` holds what no such export writes.
        InputError: a run is not finished.
    """
    target = TARGETS[to]
    for run in runs:
        if run.status != "done":
            raise InputError(f"{run.id} cannot be exported: its status is {run.status}")
        if target.choosy:
            _module(target).check(run)
    if not out.name or out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UsageError(f"--out {out}: name a folder, new or empty")
    if foreign := sorted(name for name in _files(out) if not any(fnmatch.fnmatch(name, p) for p in target.files)):
        raise UsageError(f"{out} holds {foreign[0]}, which no such export writes; name another folder")


def _module(target: Target) -> Any:
    """The target's file, imported when it is used, for it imports torch."""
    return import_module(f"lorabench.exchange.{target.module}")


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}
