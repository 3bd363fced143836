"""Figures from run records: `report --figures DIR` writes them, and a page can take them inline.

    material = gather(runs, store, data_dir=None)
    figures.write(material, Path("out"))        # PNG and SVG of all that can be drawn
    figures.svgs(material)                      # [("Test accuracy against the rank k", "<svg ...>"), ...]

    style       their look
    images      confusion matrices, sample images        training    curves by epoch, spectra of the weights' change
    planes      accuracy against k and against trained parameters, learning against forgetting

matplotlib is imported by the first figure that is drawn, not by this room. Only its Figure objects are used, never
pyplot, and none of its global settings stays changed.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.sax.saxutils import quoteattr

from lorabench import files
from lorabench.analysis.settings import collect, featured_setting
from lorabench.errors import InputError
from lorabench.runs import Epoch, Run, Store

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.figure import Figure

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


class Entry(NamedTuple):
    """A figure that there can be: the name of its files, what it shows, and who draws it or raises `Missing`."""

    name: str
    title: str
    draw: Callable[[Material], Figure]


@dataclass(frozen=True)
class Outcome:
    """What became of a figure: the `files` written, or what is `missing` for it."""

    name: str
    title: str
    files: tuple[Path, ...] = ()
    missing: str | None = None


def _entries() -> list[Entry]:
    """All figures in their order. A new one is a function of its material and a line here."""
    from lorabench.report.figures import images, planes, training

    return [
        Entry("confusions", "Confusion matrices", images.confusions),
        Entry("samples", "Sample images", images.samples),
        Entry("rank", "Accuracy against k", planes.ranks),
        Entry("parameters", "Accuracy against trained parameters", planes.parameters),
        Entry("forgetting", "Learning against forgetting", planes.forgetting),
        Entry("spectra", "Spectrum of the weights' change", training.spectra),
        Entry("curves", "Training curves", training.curves),
    ]


def draw(name: str, material: Material) -> Figure:
    """One figure, for whoever wants to go on with it.

    Raises:
        Missing: it cannot be drawn from `material`.
        KeyError: there is none of this name.
    """
    with _studio() as entries:
        return next(entry for entry in entries if entry.name == name).draw(material)


def svgs(material: Material) -> list[tuple[str, str]]:
    """Title and `<svg>` element of each figure that can be drawn; all of them can stand in one page."""
    pictures: list[tuple[str, str]] = []
    with _studio() as entries:
        for entry in entries:
            with contextlib.suppress(Missing):
                pictures.append((entry.title, _svg(entry.draw(material), entry.name, entry.title)))
    return pictures


def write(material: Material, folder: Path) -> list[Outcome]:
    """Write each figure that can be drawn into `folder` as PNG (300 dots per inch) and as SVG.

    Raises:
        InputError: the folder cannot be written.
        RunFailedError: the disk is full.
    """
    outcomes: list[Outcome] = []
    with _studio() as entries:
        for entry in entries:
            try:
                figure = entry.draw(material)
            except Missing as missing:
                outcomes.append(Outcome(entry.name, entry.title, missing=str(missing)))
                continue
            png = io.BytesIO()
            figure.savefig(png, format="png", metadata={"Software": None})
            contents = {".png": png.getvalue(), ".svg": _svg(figure, entry.name, entry.title).encode()}
            paths = tuple(folder / f"{entry.name}{suffix}" for suffix in contents)
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise files.failure(folder, error) from error
            for path, content in zip(paths, contents.values(), strict=True):
                files.write(path, content)
            outcomes.append(Outcome(entry.name, entry.title, paths))
    return outcomes


def _svg(figure: Figure, name: str, title: str) -> str:
    """A figure's `<svg>` element, its text drawn as outlines; the same figure gives the same bytes.

    Every id in it begins with `name`, so that no other figure's markers or clips are taken for its own, and its style
    reaches nothing outside it.
    """
    buffer = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=metadata)
    text = re.sub(r"\A.*?(?=<svg\b)", "", buffer.getvalue(), flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'((?:xlink:)?href=")#', rf"\1#{name}-", text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = text.replace('<style type="text/css">*{', f'<style type="text/css">#{name} *{{')
    return text.replace("<svg ", f'<svg id={quoteattr(name)} role="img" aria-label={quoteattr(title)} ', 1)


@contextlib.contextmanager
def _studio() -> Generator[list[Entry]]:
    """The figures, for as long as matplotlib has our settings.

    On its first use matplotlib says on stderr that it builds a font cache, or where: that is nobody's concern here.
    """
    log = logging.getLogger("matplotlib")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        from lorabench.report.figures.style import styled

        with styled():
            yield _entries()
    finally:
        log.setLevel(level)
