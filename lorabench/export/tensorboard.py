"""Runs as TensorBoard's event files, a folder for each. `lorabench.tensorboard` does the work."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabench import tensorboard

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lorabench.export import Same
    from lorabench.runner.work import Lab
    from lorabench.runs import Run


def write(runs: Sequence[Run], folder: Path, lab: Lab) -> list[Same]:
    """Write the event files; records of what was measured have no images to be compared on.

    Raises:
        InputError: TensorBoard is not installed, or a run's history is damaged.
        RunFailedError: the folder cannot be written.
    """
    tensorboard.write(runs, lab.store, folder)
    return []
