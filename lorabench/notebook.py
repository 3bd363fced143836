"""The study from Python: in a notebook, a script or a REPL.

import lorabench

found = lorabench.study(seeds=5, k=4)    # a notebook shows it as tables; print(found) as a terminal does
found.runs, found.data                   # its records, and what `lorabench study --json` prints
lorabench.runs("runs")                   # a flat dict for each run: pandas.DataFrame(lorabench.runs("runs"))
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

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
    from lorabench.cli.options import Training
    from lorabench.cli.stages import beside_cluster, remember, run_stages, study_plan
    from lorabench.config import gather
    from lorabench.report.shown import study_shown
    from lorabench.report.writers import Report

    beside_cluster(engine, {"workers": workers, "data_dir": data_dir})
    named = range(seeds) if isinstance(seeds, int) else seeds
    asked = {
        "study.seeds": named if named is None or isinstance(named, str) else ",".join(map(str, named)),
        "finetune.k": k,
        "study.workers": workers,
    }

    def called(key: str) -> str:
        return f'settings["{key}"]' if settings and key in settings else key.rpartition(".")[2]

    source = gather([Path(config)] if config else [], flags={**asked, **(settings or {})}, called=called)
    loaded, todo, side_by_side = study_plan(source)
    folder = Path(data_dir) if data_dir else None
    shared = Training(runs_dir=Path(runs_dir), data_dir=folder, force=force, quiet=quiet)
    done = run_stages(todo, loaded.config, shared, workers=side_by_side, force=todo, engine=engine)
    remember(shared, loaded.config.study.name, todo)
    shown = study_shown(list(done.values()), *shared.store.newest_costs(warnings.warn))
    return Report(shown.table, shown.data, shown.runs)


def runs(runs_dir: Path | str = "runs") -> list[dict[str, Any]]:
    """A flat dict for each run of a folder, by the names that `lorabench ls --cols help` lists; shares are floats.

    A folder that holds no readable run is left out; `lorabench ls` says why.
    """
    from lorabench.analysis.listing import long_fields
    from lorabench.runs import Store

    records, _ = Store(Path(runs_dir)).scan()
    return [
        {name: float(value) if isinstance(value, Fraction) else value for name, value in long_fields(run).items()}
        for run in records
    ]
