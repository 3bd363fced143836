"""Runs as TensorBoard reads them: curves per epoch, and settings with final metrics in the HParams tab.

    written = write(store.find("lora-*"), store, Path("events"))     # then: tensorboard --logdir events

Needs the extra `lorabench[tensorboard]`.
"""

from __future__ import annotations

import json
from importlib import import_module
from typing import TYPE_CHECKING, Any

from lorabench.errors import InputError, RunFailedError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch.utils.tensorboard.writer import SummaryWriter

    from lorabench.runs import Run, Store


def write(runs: Sequence[Run], store: Store, folder: Path) -> list[Path]:
    """Write an event file for each run, in a folder named by its id; event files that are there are replaced.

    Curves are named `train/loss` and so on, one step per epoch; metrics `fmnist/accuracy`, `fmnist/flipped`, as
    fractions.

    Returns:
        The event files, in the order of the runs.

    Raises:
        InputError: TensorBoard is not installed, or a run's history is damaged.
        RunFailedError: the folder cannot be written.
    """
    new_writer, to_summaries = _library()
    written: list[Path] = []
    for run in runs:
        history, place = store.history(run), folder / run.id
        try:
            for old in place.glob("events.out.tfevents.*"):
                old.unlink()
            with new_writer(str(place)) as writer:
                for epoch in history:
                    for name in ("loss", "accuracy", "lr", "seconds"):
                        writer.add_scalar(f"train/{name}", getattr(epoch, name), epoch.epoch)
                metrics = final_metrics(run)
                # The first summary would say which settings and metrics there are; TensorBoard believes the first run
                # alone and shows nothing that only others have. Without it, it looks into all of them.
                for summary in to_summaries(hyperparameters(run), metrics)[1:]:
                    writer._get_file_writer().add_summary(summary)  # pyright: ignore[reportPrivateUsage]
                for name, value in metrics.items():
                    writer.add_scalar(name, value, len(history))
        except OSError as error:
            raise RunFailedError(f"{error.filename or place}: cannot be written: {error.strerror or error}") from error
        written += sorted(place.glob("events.out.tfevents.*"))
    return written


def hyperparameters(run: Run) -> dict[str, str | float | bool]:
    """The run's settings as the HParams tab takes them: numbers, words and truth values; the rest as JSON text."""
    settings = {"stage": run.stage, **run.settings}
    return {
        key: value if isinstance(value, str | int | float) else json.dumps(value) for key, value in settings.items()
    }


def final_metrics(run: Run) -> dict[str, float]:
    """`mnist/accuracy`, `fmnist/loss`, `fmnist/flipped`, ...: accuracies as fractions; and `trainable` parameters."""
    found: dict[str, float] = {}
    for test_set, metrics in run.metrics.items():
        found[f"{test_set}/accuracy"] = metrics.accuracy
        found[f"{test_set}/loss"] = metrics.loss
        slices = {f"{test_set}/{name}": part.accuracy for name, part in metrics.slices.items()}
        found |= {name: accuracy for name, accuracy in slices.items() if accuracy is not None}
    return found | ({"trainable": float(run.params.trainable)} if run.params else {})


def _library() -> tuple[type[SummaryWriter], Any]:
    """TensorBoard's writer, and torch's untyped function that makes the summaries of the HParams tab."""
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as error:
        raise InputError('TensorBoard is not installed; pip install "lorabench[tensorboard]"') from error
    return SummaryWriter, import_module("torch.utils.tensorboard.summary").hparams
