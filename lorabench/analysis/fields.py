"""A run as flat, named values: what `ls --where`, `--sort` and `--cols` and `report --fail-on` speak of.

    fields(run)["fmnist.flipped.accuracy"]    # Fraction(597, 613): the units of run.json, and exact
    fields(run)["lr"]                         # short for settings.lr

Measured names are always there, null where a run has none; settings, checks and env are those of the run.
"""

from __future__ import annotations

import difflib
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

from lorabench.analysis.settings import SETS, SLICES
from lorabench.errors import UsageError
from lorabench.runs import Cost, Params

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lorabench.query import Value
    from lorabench.runs import Metrics, Run, Slice

HELP = "(`lorabench ls --cols help` lists them)"
_MEASURED = {"mnist", "fmnist", "before", "forgotten", "params", "cost", "checkpoint_bytes", "checks"}
_ALIKE = 0.6
"""How alike a name must be to be suggested; difflib's own measure and default."""


def fields(run: Run) -> dict[str, Value]:
    """Every value of a run that can be asked for, by its name.

    `low` and `high` of an accuracy are no fields: they need scipy, and `ls` must answer at once.
    """
    named: dict[str, Value] = {
        "id": run.id,
        "stage": run.stage,
        "method": run.method,
        "k": run.k,
        "seed": run.seed,
        "status": run.status,
        "study": run.study,
        "started": run.started,
        "ended": run.ended,
        "base": run.parents.base,
        "data": run.parents.data,
        "holdout": run.holdout,
        "error": run.error and run.error.message,
        "checkpoint_bytes": run.checkpoint_bytes,
        "forgotten": _forgotten(run),
    }
    for prefix, metrics in (("", run.metrics), ("before.", run.before)):
        for name in SETS:
            named |= _metrics(f"{prefix}{name}", metrics.get(name))
    for prefix, part, kind in (("params", run.params, Params), ("cost", run.cost, Cost)):
        named |= {f"{prefix}.{name}": getattr(part, name, None) for name in kind.model_fields}
    for prefix, mapping in (("settings", run.settings), ("checks", run.checks), ("env", run.env)):
        named.update(_flat(prefix, mapping))
    short = {name.removeprefix("settings."): value for name, value in named.items() if name.startswith("settings.")}
    return {**short, **named}


def measured(name: str) -> bool:
    """Whether a field says what came of a run, so that it lacks something if it has none; the others describe it."""
    return name.partition(".")[0] in _MEASURED


def check_names(wanted: Iterable[str], known: Iterable[str], hint: str = "") -> None:
    """Refuse the first of the `wanted` names that is not among the `known` ones; the message ends with `hint`.

    Raises:
        UsageError: it names those that are nearest.
    """
    names = set(known)
    for name in wanted:
        if name not in names:
            near = difflib.get_close_matches(name, sorted(names), n=3, cutoff=_ALIKE)
            meant = f"; did you mean {' or '.join(near)}?" if near else ""
            raise UsageError(f"no run here has a field {name}{meant} {HELP}{hint}")


def _forgotten(run: Run) -> Fraction | None:
    """What fine-tuning lost on MNIST, as a fraction of its images."""
    before, after = run.before.get("mnist"), run.metrics.get("mnist")
    return Fraction(before.correct, before.n) - Fraction(after.correct, after.n) if before and after else None


def _metrics(name: str, metrics: Metrics | None) -> dict[str, Value]:
    named = _counted(name, metrics)
    named[f"{name}.loss"] = metrics.loss if metrics else None
    if name.endswith("fmnist"):
        for part in SLICES:
            named |= _counted(f"{name}.{part}", metrics.slices.get(part) if metrics else None)
    return named


def _counted(name: str, counts: Metrics | Slice | None) -> dict[str, Value]:
    right, n = (counts.correct, counts.n) if counts else (None, None)
    accuracy = Fraction(right, n) if right is not None and n else None
    return {f"{name}.accuracy": accuracy, f"{name}.correct": right, f"{name}.n": n}


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Value]]:
    """Nested mappings as dotted names; a list as its items with commas between them."""
    if isinstance(value, dict):
        for key, inner in cast("Mapping[str, Any]", value).items():
            yield from _flat(f"{prefix}.{key}", inner)
    elif isinstance(value, list | tuple):
        yield prefix, ",".join(map(str, cast("list[Any]", value)))
    elif value is None or isinstance(value, str | int | float):
        yield prefix, value
