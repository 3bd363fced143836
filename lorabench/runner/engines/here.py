"""Stages in this process, one after the other."""

from __future__ import annotations

import contextlib
import functools
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from lorabench.config import Config
    from lorabench.events import Tell
    from lorabench.runner.engines import Perform
    from lorabench.runs import Store


class Here(Executor):
    """Runs each call at once, in this process and thread."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call `fn` now; the future that comes back is done."""
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - handed on by the future, as every executor does
            future.set_exception(error)
        return future


@contextlib.contextmanager
def open_here(
    store: Store, data_dir: Path | None, settings: Config, tell: Tell
) -> Generator[tuple[Executor, Perform, int]]:
    """`open_engine` for one worker."""
    from lorabench.runner import make
    from lorabench.runner.session import open_session

    with open_session(store, data_dir, settings, tell) as lab:
        yield Here(), functools.partial(make.perform, lab=lab), 1
