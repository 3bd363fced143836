"""The study from Python: in a notebook, a script or a REPL.

import lorabench

found = lorabench.study(seeds=5, k=4)    # a notebook shows it as tables; print(found) as a terminal does
found.runs, found.data                   # its records, and what `lorabench study --json` prints
lorabench.runs("runs")                   # a flat dict for each run: pandas.DataFrame(lorabench.runs("runs"))
"""

from __future__ import annotations

import warnings
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lorabench.report.writers import Report


def study(
    seeds: int | str | Sequence[int] | None = None,
    k: int | None = None,
    *,
    runs_dir: Path | str = "runs",
    data_dir: Path | str | None = None,
    config: Path | str | None = None,
    settings: Mapping[str, Any] | None = None,
    workers: int | None = None,
    engine: str | None = None,
    force: bool = False,
    quiet: bool = False,
) -> Report:
    """Run the talk's whole story, as `lorabench study` does; what is in `runs_dir` already is taken from there.

    The worker processes do not import the calling script, which needs no `__main__` guard.

    Args:
        seeds: how many, 5 for 0 to 4; or which, as a sequence or as "0-4"; None: the config's, five.
        k: LoRA's rank; None: the config's, 4.
        runs_dir: where runs are.
        data_dir: where MNIST is; None: the user's cache.
        config: a YAML file, or the name of a config that comes with lorabench, such as "methods".
        settings: further ones by config key: {"finetune.lr": 1e-2}.
        workers: how many runs are made side by side, each in a process of its own; None: one for each core;
            1: in this process.
        engine: `dask://HOST:PORT` or `tls://HOST:PORT` for the workers of that cluster.
        force: make again what is there already.
        quiet: show no progress on stderr.

    Returns:
        The report of these runs.

    Raises:
        LorabenchError: as the command says it in one line.
    """
    from lorabench import config as room
    from lorabench.cli import progress
    from lorabench.cli.streams import stderr
    from lorabench.errors import UsageError
    from lorabench.report.shown import study_shown
    from lorabench.report.writers import Report
    from lorabench.runner import engines, queue, stages
    from lorabench.runs import Store

    named = range(seeds) if isinstance(seeds, int) else seeds
    flags = {
        "study.seeds": named if named is None or isinstance(named, str) else ",".join(map(str, named)),
        "finetune.k": k,
        "study.workers": workers,
        **(settings or {}),
    }
    given = {key: value for key, value in flags.items() if value is not None}
    chosen = room.load([Path(config)] if config else [], flags=given).config
    if k is not None and chosen.study.methods:
        raise UsageError("k: study.methods of the config says every method's rank; change it there")
    store, todo = Store(Path(runs_dir)), stages.study(chosen)
    with progress.show(stderr(), quiet=quiet) as on_event:
        done = queue.run(
            todo,
            chosen,
            store,
            data_dir=Path(data_dir) if data_dir else None,
            workers=chosen.study.workers or min(engines.cores(), sum(stage.kind == "finetune" for stage in todo)),
            force={stage.id for stage in todo} if force else (),
            engine=engine,
            emit=on_event,
        )
    store.remember_study(chosen.study.name, [stages.placed(stage, store).id for stage in todo])
    shown = study_shown(list(done.values()), *store.newest_costs(warnings.warn))
    return Report(shown.table, shown.data, shown.runs)


def runs(runs_dir: Path | str = "runs") -> list[dict[str, Any]]:
    """A flat dict for each run of a folder, by the names that `lorabench ls --cols help` lists; shares are floats.

    A folder that holds no readable run is left out; `lorabench ls` says why.
    """
    from lorabench.analysis.fields import long_fields
    from lorabench.runs import Store

    found, _ = Store(Path(runs_dir)).scan()
    return [
        {name: float(value) if isinstance(value, Fraction) else value for name, value in long_fields(run).items()}
        for run in found
    ]
