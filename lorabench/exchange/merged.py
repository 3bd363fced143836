"""Plain weights: `model.safetensors`, a `SimpleMnistClassifier` that computes what the run does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabench import checkpoint, methods
from lorabench.errors import UsageError
from lorabench.exchange.verify import compare
from lorabench.model import SimpleMnistClassifier
from lorabench.runner.load import load_model
from lorabench.runs import write_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lorabench.exchange import Same
    from lorabench.runner.session import Session
    from lorabench.runs import Run


def check(run: Run) -> None:
    """Refuse, by a UsageError, a run whose method does not merge into plain weights."""
    if run.method in methods.METHODS and (exempt := methods.METHODS[run.method].exemption("merge", run.settings)):
        raise UsageError(f"{run.method} does not merge: {exempt.reason}")


def write(runs: Sequence[Run], folder: Path, session: Session) -> list[Same]:
    """Merge the one run of `runs`, write it, read it again, compare.

    Raises:
        InputError: as `load_model`.
        RunFailedError: as `compare`.
    """
    (run,) = runs
    # In float64, so that each weight is rounded once.
    plain = methods.merge(load_model(run, session.store).double()).float()
    path = folder / "model.safetensors"
    write_atomic(path, checkpoint.encode(checkpoint.trained(plain), {}))
    fresh = SimpleMnistClassifier()
    fresh.load_state_dict(checkpoint.decode(path, checkpoint.trained(fresh), {}))
    return compare(run, fresh, session)
