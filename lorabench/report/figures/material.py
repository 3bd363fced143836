"""What figures are drawn from: plain data, gathered from the runs folder and MNIST before anything is drawn.

figures.write(gather(runs, store, data_dir=None), Path("figures"))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lorabench.analysis.settings import collect, featured_setting
from lorabench.errors import InputError
from lorabench.runs import Epoch, Run, Store

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Bytes = npt.NDArray[np.uint8]
    Mask = npt.NDArray[np.bool_]


class Missing(Exception):  # noqa: N818 - it is no failure: a figure is left out
    """A figure cannot be drawn from what there is; `str()` says what it needs."""


@dataclass(frozen=True)
class Pictures:
    """The n test images of one fine-tuned run, and what was made of them.

    Attributes:
        label: what the figure calls the run.
        mnist: (n, 28, 28).
        fmnist: (n, 28, 28), the same images, those under `flipped` changed.
        flipped: (n,).
        labels: (n,), true digits.
        before: (n,), the base's digits for `fmnist`.
        after: (n,), the fine-tuned model's.
    """

    label: str
    mnist: Bytes
    fmnist: Bytes
    flipped: Mask
    labels: Bytes
    before: Bytes
    after: Bytes


@dataclass(frozen=True)
class Material:
    """Run records with their bases, in any order; epochs by run id; test images, or why there are none."""

    runs: Sequence[Run]
    history: Mapping[str, Sequence[Epoch]] = field(default_factory=dict[str, "Sequence[Epoch]"])
    pictures: Pictures | str = "test images, which were not given"

    @property
    def changed(self) -> str:
        """What the shift of the F-MNIST calls an image that it changed, such as `mirrored`."""
        from lorabench.data import shifts

        return shifts.named(next((run.settings for run in self.runs if run.stage == "fmnist"), dict[str, Any]())).word


def gather(runs: Sequence[Run], store: Store, data_dir: Path | None) -> Material:
    """The records of `runs` and of what they were made from, their epochs, and the featured run's test images.

    What cannot be had, say MNIST where there is no network, is left out.

    Raises:
        InputError: a run's history is not the one that it wrote.
    """
    parents = dict.fromkeys(name for run in runs for name in (run.parents.base, run.parents.data) if name)
    made = [parent for name in parents if (parent := store.finished(name))]
    everything = list({run.id: run for run in [*runs, *made]}.values())
    history = {run.id: store.history(run) for run in everything}
    try:
        pictures: Pictures | str = _pictures(everything, store, data_dir)
    except InputError as error:
        pictures = f"test images and what was taken for what; {error}"
    return Material(everything, history, pictures)


def _pictures(runs: Sequence[Run], store: Store, data_dir: Path | None) -> Pictures | str:
    arm = featured_setting(collect(runs).settings)
    if arm is None:
        return "a finished fine-tuned run"
    return _of(arm.runs[0], f"{arm.label}, seed {arm.runs[0].seed},", store, data_dir)


def pictures_of(run: Run, store: Store, data_dir: Path | None) -> Pictures | None:
    """The test images of a fine-tuned run; None if they, or what was taken for what, cannot be had."""
    try:
        pictures = _of(run, run.id, store, data_dir)
    except InputError:
        return None
    return None if isinstance(pictures, str) else pictures


def _of(run: Run, label: str, store: Store, data_dir: Path | None) -> Pictures | str:
    predicted = store.predictions(run)
    if not {"labels", "fmnist", "before_fmnist"} <= set(predicted):
        return f"the predictions of {run.id}, which recorded none"
    import numpy as np

    from lorabench import config, data

    own = config.load([store.intact(run, "config.yaml")]).config
    mnist = data.load(data_dir, own.holdout)
    if not np.array_equal(mnist.test_labels, predicted["labels"]):
        return f"the test images of {run.id}, which were others than MNIST's"
    shifted = data.choose(mnist, own.fmnist)
    return Pictures(
        label=label,
        mnist=mnist.test_images,
        fmnist=shifted.apply(mnist.test_images, shifted.test),
        flipped=shifted.test,
        labels=mnist.test_labels,
        before=predicted["before_fmnist"],
        after=predicted["fmnist"],
    )
