"""Plain weights: `model.safetensors`, a `SimpleMnistClassifier` that computes what the run does, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lorabench import checkpoint, evaluate, methods
from lorabench.errors import RunFailedError, UsageError
from lorabench.exchange import Same
from lorabench.model import SimpleMnistClassifier
from lorabench.runner.measure import load_model, own_config, test_sets
from lorabench.runner.session import Session
from lorabench.runs import Run, write_atomic

if TYPE_CHECKING:
    from torch import nn

LIMIT = 1e-4
"""How far a logit may be off, of logits that reach some tens."""


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


def compare(run: Run, model: nn.Module, session: Session) -> list[Same]:
    """Compare `model`, read back, with the run itself, on the 10,000 test images of MNIST and of the run's F-MNIST.

    Raises:
        RunFailedError: another digit for any image, or a logit further off than `LIMIT`.
    """
    # A run that was measured on held-out images is compared on the test images all the same; no label is looked at.
    settings = own_config(run, session.store).model_copy(update={"holdout": 0})
    mnist, flips = session.fmnist_of(settings)
    original, model = load_model(run, session.store).to(session.device), model.to(session.device)
    compared: list[Same] = []
    for name, images in test_sets(mnist, flips, session).items():
        old, new = evaluate.predict(original, images), evaluate.predict(model, images)
        flips = int((old.argmax(1) != new.argmax(1)).sum())
        change = (old - new).abs().max().item()
        if flips or not change <= LIMIT:
            raise RunFailedError(
                f"the files of {run.id}, read again, predict {flips} images of {name} otherwise, "
                f"with logits up to {change:.1e} off (allowed: {LIMIT:.0e}); nothing was exported"
            )
        compared.append(Same(name, len(images), flips, change))
    return compared
