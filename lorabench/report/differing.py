"""What is not the same in runs that are compared: config, base, data, code, environment; only the lines that differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorabench.report.setting import flatten, shown
from lorabench.report.style import grid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lorabench.report.blocks import Block
    from lorabench.runs import Run

Facts = dict[tuple[str, str], Any]

_DIRTY = "uncommitted"


@dataclass(frozen=True)
class Setting:
    """A fact that is not the same in all runs; None where a run has no such fact.

    `kind` is "config", "base", "data", "code" or "environment".
    """

    kind: str
    key: str
    values: list[Any]


def differing(runs: Sequence[Run], mirroring: Sequence[Mapping[str, Any]]) -> list[Setting]:
    """The facts that differ, by kind, and whether code was uncommitted: two such runs of one commit may differ too.

    `mirroring` holds the settings of each run's F-MNIST, as far as they are known.
    """
    found = [_facts(run, flips) for run, flips in zip(runs, mirroring, strict=True)]
    keys = dict.fromkeys(key for facts in found for key in facts)
    rows = [Setting(*key, [facts.get(key) for facts in found]) for key in keys]
    order = list(dict.fromkeys(row.kind for row in rows))
    differ = [
        row for row in rows if any(v != row.values[0] for v in row.values) or (row.key == _DIRTY and any(row.values))
    ]
    return sorted(differ, key=lambda row: order.index(row.kind))


def _facts(run: Run, mirroring: Mapping[str, Any]) -> Facts:
    env = dict(run.env)
    git: Mapping[str, Any] = env.pop("git", None) or {}
    images = {name: metrics.n for name, metrics in run.metrics.items()}
    kinds: dict[str, Mapping[str, Any]] = {
        "config": {"stage": run.stage, **flatten(run.settings)},
        "base": {"run": run.parents.base, "weights": run.checks.get("base_sha256")},
        "data": {
            "F-MNIST": run.parents.data,
            **{f"F-MNIST {key}": value for key, value in mirroring.items()},
            **{f"test images, {name}": n for name, n in images.items()},
        },
        "code": {"lorabench": env.pop("lorabench", None), "commit": git.get("commit"), _DIRTY: git.get("dirty")},
        "environment": flatten(env),
    }
    return {(kind, key): value for kind, facts in kinds.items() for key, value in facts.items()}


def differing_table(rows: Sequence[Setting], names: Sequence[str]) -> Block:
    """The rows under their kinds; `names` are what the table calls the runs."""
    table = grid("what differs", "", *names, align="<<" + "<" * len(names))
    last = ""
    for row in rows:
        values = [shown(value)[:12] if row.key in ("commit", "weights") else shown(value) for value in row.values]
        table.add_row(row.kind if row.kind != last else "", row.key, *values)
        last = row.kind
    return table
