"""What the figures of some runs are drawn from, gathered from the runs folder and MNIST.

material = gather(runs, store, data_dir=None)
figures.write(material, Path("figures"))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lorabench import config, data, methods
from lorabench.analysis.settings import collect, featured_setting
from lorabench.errors import InputError
from lorabench.report.figures import Material, Pictures

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lorabench.runs import Run, Store


def gather(runs: Sequence[Run], store: Store, data_dir: Path | None) -> Material:
    """The records of `runs` and of their bases, their epochs, and test images of the run that the report shows in full.

    What cannot be had, say MNIST where there is no network, is left out.

    Raises:
        InputError: a run's history is not the one that it wrote.
    """
    parents = [run.parents.base for run in runs if run.parents.base]
    bases = [base for name in dict.fromkeys(parents) if (base := store.finished(name))]
    everything = list({run.id: run for run in [*runs, *bases]}.values())
    history = {run.id: store.history(run) for run in everything}
    try:
        found: Pictures | str = _pictures(everything, store, data_dir)
    except InputError as error:
        found = f"test images and what was taken for what; {error}"
    return Material(everything, history, found)


def _pictures(runs: Sequence[Run], store: Store, data_dir: Path | None) -> Pictures | str:
    arm = featured_setting(collect(runs).settings)
    if arm is None:
        return "a finished fine-tuned run"
    run = arm.runs[0]
    predicted = store.predictions(run)
    if not {"labels", "fmnist", "before_fmnist"} <= set(predicted):
        return f"the predictions of {run.id}, which recorded none"
    own = config.load([store.intact(run, "config.yaml")], methods=methods.schemas()).config
    mnist = data.load(data_dir)
    mnist = data.hold_out(mnist, own.holdout) if own.holdout else mnist
    if not np.array_equal(mnist.test_labels, predicted["labels"]):
        return f"the test images of {run.id}, which were others than MNIST's"
    shifted = data.choose(mnist, own.fmnist)
    return Pictures(
        label=f"{arm.label}, seed {run.seed},",
        mnist=mnist.test_images,
        fmnist=shifted.apply(mnist.test_images, shifted.test),
        flipped=shifted.test,
        labels=mnist.test_labels,
        before=predicted["before_fmnist"],
        after=predicted["fmnist"],
    )
