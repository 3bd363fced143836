"""What a running command shows on stderr: a live display on a terminal, a line per epoch elsewhere."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from lorabench import events

if TYPE_CHECKING:
    from collections.abc import Generator

    from rich.console import Console

    from lorabench.events import Emit, Event


@contextlib.contextmanager
def show(console: Console, *, quiet: bool) -> Generator[Emit]:
    """A function that shows every event that it is given, on `console`, until the block ends."""
    if quiet:
        yield lambda event: None
    elif console.is_terminal and console.is_interactive:
        with _Live(console) as live:
            yield _once(live)
    else:
        yield _once(_Lines(console))


def _once(show: Emit) -> Emit:
    """`show`, without the messages that a second worker repeats."""
    said: set[str] = set()

    def on_event(event: Event) -> None:
        if isinstance(event, events.Message) and event.run_id is None:
            if event.text in said:
                return
            said.add(event.text)
        show(event)

    return on_event


SHOWN = 12
"""So many finished stages keep their bar; of a study's five seeds all do."""


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
            case events.Started() | events.Overall():
                return None


class _Live:
    """A bar for every stage in progress and the last few that are done, one for each download, one for the whole."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._finished: deque[str] = deque()

    def __enter__(self) -> _Live:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def _set(self, name: str, total: float | None, done: float, note: str = "") -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=total, note="")
        self._bars.update(self._tasks[name], total=total, completed=done, note=note)

    def _finish(self, name: str) -> None:
        self._bars.update(self._tasks[name], total=1, completed=1)
        self._finished.append(name)
        if len(self._finished) > SHOWN:
            self._remove(self._finished.popleft())

    def _remove(self, name: str) -> None:
        self._bars.remove_task(self._tasks.pop(name))

    def __call__(self, event: Event) -> None:
        match event:
            case events.Overall(settled, total):
                if total > SHOWN:
                    self._set("all", total, settled, f"{settled:,} of {total:,}")
            case events.Message(text, run_id):
                self._console.print(f"{run_id}: {text}" if run_id else text, markup=False, highlight=False)
                if isinstance(event, events.Failed) and run_id in self._tasks:
                    self._remove(run_id)
            case events.Download(way, done, total):
                self._set(f"fetching MNIST by {way}", total, done, f"{done / 1e6:.1f} MB")
            case events.Started(run_id, epochs):
                self._set(run_id, max(1, epochs), 0)
            case events.EpochDone(run_id, epoch, epochs):
                note = f"epoch {epoch}/{epochs}  loss {event.loss:.3f}  {100 * event.accuracy:.1f}%"
                self._set(run_id, epochs, epoch, note)
            case events.Finished(run_id, cached):
                if run_id in self._tasks:
                    self._finish(run_id)
                elif cached:
                    self._console.print(f"{run_id}: there already", markup=False, highlight=False)
