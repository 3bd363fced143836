"""Commands that make one run: pretrain, make-fmnist, finetune-lora, finetune."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lorabench.cli import complete
from lorabench.cli.options import Choosing, Training, command
from lorabench.cli.stages import (
    Alpha,
    Base,
    Epochs,
    K,
    Lr,
    Targets,
    answer,
    dry_run,
    load,
    log,
    named_base,
    opened,
    run_stages,
)

if TYPE_CHECKING:
    from lorabench.config import Config
    from lorabench.report.blocks import Picture
    from lorabench.runner.stages import Stage
    from lorabench.runs import Run


@command()
def pretrain(shared: Training, lr: Lr = None, epochs: Epochs = None) -> None:
    """Train the 784-256-128-10 classifier on MNIST."""
    _make("pretrain", shared, {"pretrain.lr": lr, "pretrain.epochs": epochs})


@command()
def make_fmnist(
    shared: Choosing,
    fraction: Annotated[float | None, typer.Option(help="Which part of each class is mirrored.")] = None,
    classes: Annotated[str | None, typer.Option(metavar="DIGIT,...", help="Which digits, e.g. 2,3.")] = None,
    axis: Annotated[
        str | None,
        typer.Option(
            metavar="horizontal|vertical|both",
            autocompletion=complete.words("horizontal", "vertical", "both"),
            help="How to mirror.",
        ),
    ] = None,
    write_idx: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also write F-MNIST for torchvision.datasets.MNIST(DIR)."),
    ] = None,
) -> None:
    """Make F-MNIST, in which 30% of the twos and threes are mirrored."""
    flags = {
        "fmnist.fraction": fraction,
        "fmnist.classes": classes,
        "fmnist.axis": axis,
        "fmnist.seed": shared.seed,
    }
    _make("fmnist", shared, flags, write_idx)


@command()
def finetune_lora(
    shared: Training,
    k: K = None,
    init: Annotated[
        str | None, typer.Option(metavar="talk|kaiming|gaussian", autocompletion=complete.inits, help="How A is drawn.")
    ] = None,
    alpha: Alpha = None,
    targets: Targets = None,
    lr: Lr = None,
    epochs: Epochs = None,
    base: Base = None,
) -> None:
    """Repair the classifier on F-MNIST by LoRA; the same as `finetune lora`."""
    _finetune("lora", shared, k=k, init=init, alpha=alpha, targets=targets, lr=lr, epochs=epochs, base=base)


@command()
def finetune(
    shared: Training,
    method: Annotated[
        str, typer.Argument(metavar="METHOD", autocompletion=complete.methods, help="One of the methods below.")
    ],
    k: K = None,
    init: Annotated[
        str | None,
        typer.Option(metavar="NAME", autocompletion=complete.inits, help="How the method draws its weights."),
    ] = None,
    alpha: Alpha = None,
    targets: Targets = None,
    lr: Lr = None,
    epochs: Epochs = None,
    base: Base = None,
) -> None:
    """Repair the classifier on F-MNIST by any method."""
    _finetune(method, shared, k=k, init=init, alpha=alpha, targets=targets, lr=lr, epochs=epochs, base=base)


def _finetune(method: str, shared: Training, *, base: str | None, **own: Any) -> None:
    flags = {"finetune.method": method, **{f"finetune.{key}": value for key, value in own.items()}}
    _make("finetune", shared, flags, base=base)


def _measured(run: Run, images: Stage, settings: Config, shared: Choosing) -> Run:
    """A base that was made beside another F-MNIST, measured on the one that is asked about."""
    from lorabench.runner import measure

    log(shared, f"{run.id} was measured on {run.parents.data}; measuring it on {images.id}")
    with opened(shared, settings) as session:
        return measure.measure_again(run, session, on=images)


def _preview(settings: Config, shared: Choosing, write_idx: Path | None) -> tuple[Picture, list[Path]]:
    """Some of the changed images of F-MNIST, and its files, written below `write_idx`."""
    from lorabench import data
    from lorabench.report import digits

    mnist = data.load(shared.data_dir, settings.holdout)
    shifted = data.choose(mnist, settings.fmnist)
    pictures = digits.preview(*data.examples(mnist, shifted), called=data.shifts.of(shifted.options).word)
    return pictures, data.write_fmnist(write_idx, mnist, shifted) if write_idx else []


def _make(
    kind: Literal["pretrain", "fmnist", "finetune"],
    shared: Choosing,
    flags: dict[str, Any],
    write_idx: Path | None = None,
    base: str | None = None,
) -> None:
    """Run one stage after those that it needs, and show it."""
    from lorabench import config
    from lorabench.report import detail
    from lorabench.report.blocks import group, line, stack
    from lorabench.report.tables import introduced
    from lorabench.runner import stages

    loaded = load(shared, flags)
    start = named_base(shared, base) if base else None
    todo = stages.on_base(loaded.config, start) if start else stages.chain(loaded.config, kind)
    stage = todo[-1]
    if shared.dry_run:
        dry_run(todo, loaded, shared)
        return
    cached = not shared.force and stages.cached(stage, shared.store) is not None
    if missing := [parent.id for parent in todo[:-1] if not stages.cached(parent, shared.store)]:
        them = "them" if len(missing) > 1 else "it"
        log(shared, f"{stage.id} needs {' and '.join(missing)}: making {them} first")
    run = run_stages(todo, loaded.config, shared, workers=1, force=[stage])[stage.id]
    images = stages.placed(todo[0], shared.store)
    if kind == "pretrain" and run.parents.data != images.id:
        run = _measured(run, images, loaded.config, shared)
    pictures, written = None, list[Path]()
    if kind == "fmnist" and (write_idx or not shared.json):
        pictures, written = _preview(loaded.config, shared, write_idx)
    folder = shared.store.path(run.id)
    usual = stages.placed(stages.chain(config.load().config, kind)[-1], shared.store).id
    on_this = [] if run.id == usual else ["-c", folder / "config.yaml"]
    following = ["report", run.id] if kind == "finetune" else ["finetune-lora", "--k", 4, *on_this]
    told = [block for block in [introduced([run], shared.store)] if block]
    files = line(f"wrote {len(written)} files below {write_idx}") if written else None
    answer(
        shared,
        kind,
        lambda: {
            **detail.summary_data(run, cached=cached, folder=folder, next_command=shared.following(*following)),
            "written": [str(path) for path in written],
        },
        lambda: stack([pictures, files, group(detail.summary(run, cached=cached, folder=folder), *told)]),
        shared.following(*following),
    )
