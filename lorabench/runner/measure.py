"""A model on the two test sets: MNIST's, and that of F-MNIST."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from lorabench import data, evaluate
from lorabench.data import Mnist, Shifted
from lorabench.errors import RunFailedError
from lorabench.runner.load import load_model, own_config
from lorabench.runner.session import Session
from lorabench.runner.stages import Stage
from lorabench.runs import Metrics, Run

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor, nn

LARGEST_LOSS = 1e15
"""A mean cross-entropy (nats) that a record takes; a model with more has diverged in its last step."""


def test_sets(mnist: Mnist, flips: Shifted, session: Session) -> dict[str, Tensor]:
    """The two test sets (n, 28, 28) on the device: `mnist`, and `fmnist` with its changed images."""
    images = mnist.test_images
    return {"mnist": session.tensor(images), "fmnist": session.tensor(flips.apply(images, flips.test))}


def measure(
    model: nn.Module, mnist: Mnist, flips: Shifted, session: Session
) -> tuple[dict[str, Metrics], dict[str, npt.NDArray[np.uint8]]]:
    """Metrics and predicted digits (n,) of `model` on both test sets.

    Raises:
        RunFailedError: its loss is more than a record takes.
    """
    labels = session.tensor(mnist.test_labels).long()
    slices = {name: torch.from_numpy(mask).to(session.device) for name, mask in data.slices(mnist, flips).items()}
    metrics: dict[str, Metrics] = {}
    predicted: dict[str, npt.NDArray[np.uint8]] = {}
    for name, images in test_sets(mnist, flips, session).items():
        logits = evaluate.predict(model, images)
        measured = evaluate.measure(logits, labels, slices if name == "fmnist" else None)
        if not measured["loss"] < LARGEST_LOSS:
            raise RunFailedError(f"the loss on {name} became {measured['loss']:.3g}; is lr too large?")
        metrics[name] = Metrics.model_validate(measured)
        predicted[name] = logits.argmax(1).cpu().numpy().astype(np.uint8)
    return metrics, predicted


def measure_again(run: Run, session: Session, on: Stage | None = None) -> Run:
    """The run with the metrics that its checkpoint gives here and now, on the data that it was made with.

    Args:
        run: finished, with a model.
        session: where.
        on: the stage of another F-MNIST to measure it on; its id is then what the record says.

    Raises:
        InputError: as `load_model`; or its config cannot be read.
    """
    model, mnist, flips = _opened(run, session)
    if on:
        mnist, flips = session.fmnist_of(on.config)
        run = run.model_copy(update={"parents": run.parents.model_copy(update={"data": on.id})})
    metrics, _ = measure(model, mnist, flips, session)
    return run.model_copy(update={"metrics": metrics})


def mistakes(run: Run, session: Session) -> list[evaluate.Mistake]:
    """The F-MNIST test images that the run's model gets wrong, the most confident first.

    Raises:
        InputError: as `measure_again`.
    """
    model, mnist, flips = _opened(run, session)
    images = flips.apply(mnist.test_images, flips.test)
    logits = evaluate.predict(model, session.tensor(images))
    return evaluate.mistakes(logits, mnist.test_labels, images, flips.test)


def _opened(run: Run, session: Session) -> tuple[nn.Module, Mnist, Shifted]:
    """A run's model on the device, and the data that the run was made with."""
    model = load_model(run, session.store).to(session.device)
    return model, *session.fmnist_of(own_config(run, session.store))
