"""What a running command shows on stderr: a live display on a terminal, a line per epoch elsewhere."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from lorabench import events

if TYPE_CHECKING:
    from collections.abc import Generator

    from rich.console import Console

    from lorabench.events import Event, Tell


@contextlib.contextmanager
def show(console: Console, *, quiet: bool) -> Generator[Tell]:
    """A function that shows every event that it is given, on `console`, until the block ends."""
    if quiet:
        yield lambda event: None
    elif console.is_terminal and console.is_interactive:
        with _Live(console) as live:
            yield live
    else:
        yield _Lines(console)


class _Lines:
    """One line for each event that a log should keep."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._ways: set[str] = set()

    def __call__(self, event: Event) -> None:
        if text := self._line(event):
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _line(self, event: Event) -> str | None:
        match event:
            case events.Message(text, run_id):
                return f"{run_id}: {text}" if run_id else text
            case events.Download(way):
                if way in self._ways:
                    return None
                self._ways.add(way)
                return f"fetching MNIST: {way}"
            case events.EpochDone():
                return (
                    f"{event.run_id}: epoch {event.epoch}/{event.epochs}, loss {event.loss:.4f}, "
                    f"training accuracy {100 * event.accuracy:.2f}%, {event.seconds:.2f} s"
                )
            case events.Finished(run_id, cached):
                return f"{run_id}: {'there already' if cached else 'done'}"
            case events.Started():
                return None


class _Live:
    """A bar for every stage in progress, and one for a download."""

    def __init__(self, console: Console) -> None:
        epochs = MofNCompleteColumn()
        self._stages = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            epochs,
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=False,
        )
        self._download = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            console=console,
            transient=True,
        )
        self._console = console
        self._tasks: dict[str, TaskID] = {}
        self._ways: dict[str, TaskID] = {}

    def __enter__(self) -> _Live:
        self._stages.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._download.stop()
        self._stages.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case events.Message(text, run_id):
                self._console.print(f"{run_id}: {text}" if run_id else text, markup=False, highlight=False)
            case events.Download(way, done, total):
                if way not in self._ways:
                    self._ways[way] = self._stages.add_task(f"fetching MNIST: {way}", total=total, note="")
                self._stages.update(self._ways[way], completed=done, total=total)
            case events.Started(run_id, epochs):
                self._tasks[run_id] = self._stages.add_task(run_id, total=max(1, epochs), note="")
            case events.EpochDone():
                note = f"loss {event.loss:.3f}  {100 * event.accuracy:.1f}%"
                self._stages.update(self._tasks[event.run_id], completed=event.epoch, note=note)
            case events.Finished(run_id, cached):
                if run_id in self._tasks:
                    task = self._tasks[run_id]
                    total = next(t.total for t in self._stages.tasks if t.id == task)
                    self._stages.update(task, completed=total)
                    self._stages.stop_task(task)
                elif not cached:
                    self._console.print(run_id, markup=False)
