"""What several commands share: options, configs, stages, runs by name."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorabench.cli import complete
from lorabench.cli.options import (
    Choosing,
    Device,
    Folder,
    Images,
    Making,
    Messages,
    Output,
    Runs,
    Settings,
    Writing,
    emit,
)
from lorabench.cli.streams import stderr, stdout
from lorabench.errors import InputError, RunFailedError, UsageError, shown

if TYPE_CHECKING:
    from lorabench.config import Config, Loaded, Source
    from lorabench.events import Event
    from lorabench.report.blocks import Block
    from lorabench.runner.queue import Result
    from lorabench.runner.session import Session
    from lorabench.runner.stages import Stage
    from lorabench.runs import Broken, Run, Study

Names = Annotated[
    list[str], typer.Argument(metavar="RUN...", help="Id, unique prefix, glob, or @last.", autocompletion=complete.runs)
]
MaybeNames = Annotated[
    list[str] | None,
    typer.Argument(metavar="[RUN]...", help="Id, unique prefix, glob, or @last.", autocompletion=complete.runs),
]
K = Annotated[int | None, typer.Option("--k", "-k", help="The rank (PEFT calls it r).")]
Lr = Annotated[float | None, typer.Option("--lr", help="The learning rate at its peak.")]
Epochs = Annotated[int | None, typer.Option("--epochs", help="Passes over the training images.")]
Workers = Annotated[
    int | None, typer.Option("--workers", "-j", help="How many run side by side; default: one per core.")
]
Alpha = Annotated[
    float | None, typer.Option(help="α: LoRA's part is multiplied by α/k, without it by 1; rsLoRA's by α/√k.")
]
Targets = Annotated[
    str | None,
    typer.Option(metavar="LAYER,...", autocompletion=complete.layers, help="Only these layers, e.g. fc1,fc3."),
]


Base = Annotated[
    str | None,
    typer.Option(metavar="RUN", autocompletion=complete.runs, help="Start from this base, e.g. an imported one."),
]


def _scheduler(engine: str | None) -> str | None:
    if engine:
        from lorabench.runner import engines

        try:
            engines.scheduler(engine)
        except UsageError as error:
            raise typer.BadParameter(str(error)) from error
    return engine


Engine = Annotated[
    str | None,
    typer.Option(
        envvar="LORABENCH_ENGINE",
        metavar="dask://HOST:PORT",
        callback=_scheduler,
        help="Run on this Dask cluster (`dask scheduler --host HOST`), not on this machine; tls:// with certificates.",
    ),
]


def load(shared: Settings, flags: dict[str, Any]) -> Loaded:
    from lorabench import config

    return checked(config.check(gather(shared, flags)))


def checked(loaded: Loaded) -> Loaded:
    """The same, once what it expects of the study is known to be a figure of it."""
    if loaded.config.expect:
        from lorabench.analysis import claims

        claims.check_keys(loaded.config.expect, loaded.origins)
    return loaded


def gather(shared: Settings, flags: dict[str, Any]) -> Source:
    from lorabench import config

    def called(key: str) -> str:
        if key == "finetune.method" and isinstance(shared, Making):  # an argument, or the command's own name
            return "the command"
        return "--seed" if key == "study.seeds" and shared.flags.get("seed") is not None else config.option(key)

    return config.gather(shared.config or [], shared.sets or [], {**shared.flags, **flags}, called)


def device_settings(shared: Device) -> Config:
    """The settings of a command that reads no config: the device and the threads."""
    from lorabench import config

    return config.load(flags=shared.flags).config


def of_methods(source: Source) -> Loaded:
    """The settings of a command that runs each of `study.methods`.

    Raises:
        ConfigError: as `config.check`.
        UsageError: an option says what each of these methods says itself.
    """
    from lorabench import config
    from lorabench.runner.stages import RECIPE

    loaded = checked(config.check(source))
    for section, *key in source.options if loaded.config.study.methods else ():
        if section == "finetune" and key and key[0] not in RECIPE:
            place = source.places[section, *key]
            raise UsageError(f"{place}: study.methods of the config says every method's {key[0]}; change it there")
    return loaded


def study_plan(source: Source) -> tuple[Loaded, list[Stage], int]:
    """A study's settings, its stages, and how many workers are to make them; errors as `of_methods`."""
    from lorabench.runner import engines, stages

    loaded = of_methods(source)
    study, todo = loaded.config.study, stages.study(loaded.config)
    return loaded, todo, study.workers or min(engines.cores(), sum(stage.kind == "finetune" for stage in todo))


def run_stages(
    todo: Sequence[Stage],
    settings: Config,
    shared: Making,
    *,
    workers: int,
    force: Sequence[Stage],
    keep_going: bool = False,
    engine: str | None = None,
    on_result: Callable[[Result], None] | None = None,
) -> dict[str, Run]:
    """The runs of `todo`, by the id that their stages have there."""
    from lorabench import events
    from lorabench.cli import progress
    from lorabench.runner import queue

    with progress.show(stderr(), quiet=shared.quiet, todo=todo, workers=workers) as show:

        def on_event(event: Event) -> None:
            show(event)
            if shared.debug and isinstance(event, events.Failed):
                traceback.print_exception(event.error)

        return queue.run(
            todo,
            settings,
            shared.store,
            data_dir=shared.data_dir,
            workers=workers,
            force={stage.id for stage in force} if shared.force else (),
            patient=not shared.no_wait,
            keep_going=keep_going,
            engine=engine,
            on_result=on_result,
            emit=on_event,
        )


def dry_run(todo: Sequence[Stage], loaded: Loaded, shared: Writing, workers: int = 1) -> None:
    """Say what would be run, what is there, who set which setting, and about how long it would take."""
    from lorabench import sweep
    from lorabench.report.sweep import time_lines
    from lorabench.runner import stages

    cached = {
        stages.placed(stage, shared.store).id: not shared.force and stages.cached(stage, shared.store) is not None
        for stage in todo
    }
    missing = [stage for stage in todo if not cached[stages.placed(stage, shared.store).id]]
    seconds, unknown = sweep.time_of(missing, shared.store, workers)
    expected = {"missing": len(missing), "seconds": seconds, "unknown": unknown, "workers": workers}
    settings = loaded.config.model_dump(mode="json")
    lines = [
        *(f"{'cached   ' if done else 'would run'}  {run_id}" for run_id, done in cached.items()),
        *(f"{key} set by {origin}" for key, origin in loaded.origins.items()),
        f"would run {len(missing)}, cached {len(cached) - len(missing)}",
        *time_lines(seconds, unknown, workers),
    ]
    say(shared, "dry-run", {"stages": cached, **expected, "settings": settings, "origins": loaded.origins}, lines)


@contextlib.contextmanager
def opened(shared: Runs, settings: Config) -> Generator[Session]:
    """The runs folder and MNIST, for a command that computes with them; what it does is shown."""
    from lorabench.cli import progress
    from lorabench.runner.session import open_session

    data_dir = shared.data_dir if isinstance(shared, Images) else None
    with (
        progress.show(stderr(), quiet=shared.quiet) as on_event,
        open_session(shared.store, data_dir, settings, on_event) as session,
    ):
        yield session


def answer(
    shared: Folder,
    command: str,
    data: Callable[[], dict[str, Any]],
    document: Callable[[], Block],
    following: str | None = None,
) -> None:
    """Print the result of a command: its `data` for a program, or else its `document` and what may be typed next."""
    if shared.json:
        emit({"command": command, **data()})
        return
    from lorabench.report.writers.terminal import renderable

    console = stdout()
    console.print(renderable(document()), crop=False)
    if following:
        console.print(f"\nnext  {following}", markup=False, soft_wrap=True)


def say(shared: Output, command: str, data: dict[str, Any], lines: Sequence[str]) -> None:
    """Print the result of a command that is a few lines: none is folded, each may be long."""
    if shared.json:
        emit({"command": command, **data})
    else:
        typer.echo("\n".join(lines))


def reporting(shared: Folder) -> str:
    """The command that shows the newest study, or makes one where there is none."""
    with contextlib.suppress(InputError):
        if shared.store.newest_study():
            return shared.following("report")
    return shared.following("study")


def find(shared: Runs, names: Sequence[str]) -> list[Run]:
    """The runs that all names stand for, each once, in the order of the names."""
    runs, broken = select(shared, names)
    for folder in broken:
        log(shared, f"left out: {folder.reason}")
    return runs


def named_base(shared: Runs, name: str) -> Run:
    """The one run that `--base` names."""
    runs = find(shared, [name])
    if len(runs) != 1:
        raise UsageError(f"--base {name} fits {len(runs)} runs; name one")
    return runs[0]


def select(shared: Folder, names: Sequence[str]) -> tuple[list[Run], list[Broken]]:
    """As `Store.select`, also where the shell completed the names to paths: `runs/lora-k4-s0-7f3c2a91b0d4/`."""
    from lorabench.runs import AmbiguousError

    try:
        return shared.store.select(
            [Path(name).name if Path(name).parent == shared.runs_dir else name for name in names]
        )
    except AmbiguousError as error:
        from datetime import UTC, datetime

        from lorabench.report import listing

        known, _ = shared.store.scan()
        choices = listing.choices(error.name, error.fitting, known, datetime.now(UTC))
        raise UsageError(*choices.splitlines()) from error


def remember(shared: Folder, name: str, todo: Sequence[Stage], **how: Any) -> None:
    """Note which runs the newest study consists of; `how` as in `Store.remember_study`."""
    from lorabench.runner import stages

    with result_first():
        shared.store.remember_study(name, [stages.placed(stage, shared.store).id for stage in todo], **how)


@contextlib.contextmanager
def result_first() -> Generator[None]:
    """Where a note is written, once the result is shown: a full disk must not hide that."""
    try:
        yield
    except RunFailedError as error:
        error.after_result = True
        raise


def asked(shared: Choosing, seeds: str | None, workers: int | None, engine: str | None) -> dict[str, Any]:
    """The settings that a command which runs many sets by its options: `--seed 4` is `--seeds 4`."""
    if seeds is not None and shared.seed is not None:
        raise UsageError("give --seed or --seeds, not both")
    if seeds is not None and seeds.isdecimal() and 1 < int(seeds) < 1000:
        log(shared, f"--seeds {seeds} is seed {seeds} alone; for {seeds} seeds write 0-{int(seeds) - 1}")
    beside_cluster(engine, {"--workers": workers, "--data-dir": shared.typed_data_dir})
    return {"study.seeds": seeds if shared.seed is None else str(shared.seed), "study.workers": workers}


def beside_cluster(engine: str | None, idle: dict[str, Any]) -> None:
    """Refuse what would say how workers on this machine work, by its name, where those of a cluster do the work."""
    for name, value in idle.items():
        if engine and value is not None:
            raise UsageError(f"{name}: the workers of {engine} have their own; leave it out")


def noted_study(shared: Runs, name: str | None = None) -> tuple[Study | None, list[Run], list[str]]:
    """The study of that name or else the newest, its runs, and a line for each that cannot be read or is gone.

    Where no note says which they are, or only a damaged one, these are all runs.
    """
    runs, broken = shared.store.scan()
    for folder in broken:
        log(shared, f"left out: {folder.reason}")
    by_id = {run.id: run for run in runs}
    lost: list[str] = []
    named = None
    try:
        named = shared.store.study(name) if name else shared.store.newest_study()
    except InputError as error:
        if name:
            raise
        log(shared, f"which runs the newest study has is not known, so all are shown: {error}")
        lost.append(str(error))
    if named is not None:
        if not by_id.keys() & set(named.runs):
            which = f"the study {name}" if name else "the newest study"
            raise InputError(f"the runs of {which} are not in {shared.runs_dir} any more; lorabench ls")
        gone = [run_id for run_id in named.runs if run_id not in by_id]
        unread = {folder.id for folder in broken}
        lost += [f"{run_id}  {'cannot be read' if run_id in unread else 'is not there any more'}" for run_id in gone]
        return named, [by_id[run_id] for run_id in named.runs if run_id in by_id], lost
    if not any(run.stage == "finetune" and run.status == "done" for run in runs):
        raise InputError(f"there is no study in {shared.runs_dir} yet; `lorabench study` makes one")
    return None, runs, lost + [f"{folder.id}  cannot be read" for folder in broken]


def newest_costs(shared: Runs) -> list[dict[str, Any] | None]:
    """What `bench` and `scale --measure` measured last; None if it never did, or its note is damaged, which is told."""
    return shared.store.newest_costs(lambda text: log(shared, text))


def log(shared: Messages, text: str) -> None:
    if not shared.quiet:
        print(shown(text), file=sys.stderr)  # noqa: T201
