"""What a running command shows on stderr: a live display on a terminal, a line per epoch elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from lorabench import events
from lorabench.analysis import number
from lorabench.errors import shown

if TYPE_CHECKING:
    from rich.console import Console

    from lorabench.events import Emit, Event
    from lorabench.runner.stages import Stage


@contextlib.contextmanager
def show(console: Console, *, quiet: bool, todo: Sequence[Stage] = (), workers: int = 1) -> Generator[Emit]:
    """A function that shows every event that it is given, on `console`, until the block ends.

    Args:
        console: where.
        quiet: show nothing.
        todo: the stages that will be made, for their names and the time that is left.
        workers: how many will be made side by side.
    """
    if quiet:
        yield lambda event: None
    elif console.is_terminal and console.is_interactive:
        with _Live(console, todo, workers) as live:
            yield _once(live)
    else:
        yield _once(_Lines(console))


def _once(show: Emit) -> Emit:
    """`show`, without the messages that a second worker repeats, and without what no terminal should be sent."""
    said: set[str] = set()

    def on_event(event: Event) -> None:
        if isinstance(event, events.Message):
            if event.run_id is None and event.text in said:
                return
            said.add(event.text)
            event = replace(event, text=shown(event.text, "\n" if isinstance(event, events.Failed) else ""))
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

    def __init__(self, console: Console, todo: Sequence[Stage], workers: int) -> None:
        self._console = console
        self._narrow = console.width < 100
        self._names, self._epochs = _names(todo), {stage.id: stage.epochs for stage in todo}
        self._settled, self._total = 0, len(todo)
        self._left, self._made, self._began = sum(self._epochs.values()), 0, 0.0
        self._opening = f"starting {workers} workers, reading MNIST" if workers > 1 else "reading MNIST" if todo else ""
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=8 if self._narrow else 20),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._finished: deque[str] = deque()

    def __enter__(self) -> _Live:
        self._bars.start()
        if self._opening:
            self._set(self._opening, None, 0)
        self._tell_all()
        return self

    def __exit__(self, *_: object) -> None:
        if self._opening in self._tasks:  # all was there already, and nothing was started
            self._remove(self._opening)
        self._bars.stop()

    def _set(self, name: str, total: float | None, done: float, note: str = "") -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(self._names.get(name, name), total=total, note="")
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
                self._settled, self._total = settled, total
                self._tell_all()
            case events.Message(text, run_id):
                self._console.print(f"{run_id}: {text}" if run_id else text, markup=False, highlight=False)
                if isinstance(event, events.Failed) and run_id in self._tasks:
                    self._remove(run_id)
                    self._left -= self._epochs.pop(run_id, 0)
            case events.Download(way, done, total):
                self._set(f"fetching MNIST by {way}", total, done, f"{done / 1e6:.1f} MB")
            case events.Started(run_id, epochs):
                if self._opening in self._tasks:
                    self._remove(self._opening)
                self._began = self._began or time.monotonic()
                self._set(run_id, max(1, epochs), 0)
            case events.EpochDone(run_id, epoch, epochs):
                accuracy = f"{100 * event.accuracy:.1f}%"
                figures = accuracy if self._narrow else f"loss {event.loss:.3f}  training accuracy {accuracy}"
                left = f"  {_span(event.seconds * (epochs - epoch))} left" if epoch < epochs else ""
                self._set(run_id, epochs, epoch, f"{epoch}/{epochs}  {figures}{left}")
                if run_id in self._epochs:
                    self._epochs[run_id] -= 1
                    self._left, self._made = self._left - 1, self._made + 1
                self._tell_all()
            case events.Finished(run_id, cached):
                if cached:
                    self._left -= self._epochs.pop(run_id, 0)
                if run_id in self._tasks:
                    self._finish(run_id)
                elif cached:
                    self._console.print(f"{run_id}: there already", markup=False, highlight=False)

    def _tell_all(self) -> None:
        """How many stages are settled, and how long the others may take, by the epochs that are done."""
        if self._total < 2:
            return
        spent = time.monotonic() - self._began
        left = f"  about {_span(spent / self._made * self._left)} left" if self._made and self._left else ""
        self._set("all", self._total, self._settled, f"{self._settled:,} of {self._total:,}{left}")


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else number.seconds(seconds)


def _names(todo: Sequence[Stage]) -> dict[str, str]:
    """What a reader calls each stage: `prompt deep s0`."""
    from lorabench.analysis.settings import told_apart

    records = [stage.new_record for stage in todo]
    apart = told_apart(records, records)
    return {run.id: " ".join(filter(None, [run.label, apart[run.id], f"s{run.seed}"])) for run in records}
