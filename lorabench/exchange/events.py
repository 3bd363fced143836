"""Runs as TensorBoard reads them: curves per epoch, and settings with final metrics in the HParams tab.

Needs the extra `lorabench[tensorboard]`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from lorabench.errors import InputError
from lorabench.exchange import Same
from lorabench.runs import Run

if TYPE_CHECKING:
    from lorabench.runner.session import Session


def write(runs: Sequence[Run], folder: Path, session: Session) -> list[Same]:
    """Write an event file for each run, in a folder named by its id. There are no images to compare on.

    Curves are named `train/loss` and so on, one step per epoch; metrics `fmnist/accuracy`, `fmnist/flipped`, as
    fractions.

    Raises:
        InputError: TensorBoard is not installed, or a run's history is damaged.
    """
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as error:
        raise InputError('TensorBoard is not installed; pip install "lorabench[tensorboard]"') from error
    to_summaries = import_module("torch.utils.tensorboard.summary").hparams  # has no types
    for run in runs:
        history, metrics = session.store.history(run), final_metrics(run)
        with SummaryWriter(str(folder / run.id)) as writer:
            for epoch in history:
                for name in ("loss", "accuracy", "lr", "seconds"):
                    writer.add_scalar(f"train/{name}", getattr(epoch, name), epoch.epoch)
            # The first summary would say which settings and metrics there are; TensorBoard believes the first run
            # alone and shows nothing that only others have. Without it, it looks into all of them.
            for summary in to_summaries(hyperparameters(run), metrics)[1:]:
                writer._get_file_writer().add_summary(summary)  # pyright: ignore[reportPrivateUsage]
            for name, value in metrics.items():
                writer.add_scalar(name, value, len(history))
    return []


def hyperparameters(run: Run) -> dict[str, str | float | bool]:
    """The run's settings as the HParams tab takes them: numbers, words and truth values; the rest as JSON text."""
    settings = {"stage": run.stage, **run.settings}
    return {
        key: value if isinstance(value, str | int | float) else json.dumps(value) for key, value in settings.items()
    }


def final_metrics(run: Run) -> dict[str, float]:
    """`mnist/accuracy`, `fmnist/loss`, `fmnist/flipped`, ...: accuracies as fractions; and `trainable` parameters."""
    values: dict[str, float] = {}
    for test_set, metrics in run.metrics.items():
        values |= {f"{test_set}/accuracy": metrics.accuracy, f"{test_set}/loss": metrics.loss}
        slices = {f"{test_set}/{name}": part.accuracy for name, part in metrics.slices.items()}
        values |= {name: accuracy for name, accuracy in slices.items() if accuracy is not None}
    return values | ({"trainable": float(run.params.trainable)} if run.params else {})
