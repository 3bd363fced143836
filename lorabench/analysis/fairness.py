"""What makes a comparison unfair, rows with other base weights, images, budget or machine; and what it lacks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lorabench.runs import Run

GROUND = ("lorabench", "torch", "device", "machine")
"""What `env` says that can change a result and is in no id."""


@dataclass(frozen=True)
class Unequal:
    """Something that should be the same and is not: value -> the labels of the rows that have it."""

    what: str
    values: dict[str, list[str]]


def unequal(rows: Iterable[tuple[str, Sequence[Run]]]) -> list[Unequal]:
    """What differs between, or within, the rows: each a label and its runs.

    Base weights are compared seed by seed, and of several seeds the first one that differs is told; budgets (images
    seen: steps times batch size) are compared among runs of one stage. What a run does not record is not held
    against it.
    """
    return _differing((*fact, label) for label, runs in rows for run in runs for fact in _facts(run))


def _differing(facts: Iterable[tuple[str, str, str, str]]) -> list[Unequal]:
    """Of facts, each with among which runs it should be the same, its value and whose: those that are not the same."""
    by_fact: dict[str, dict[str, dict[str, list[str]]]] = {}
    for fact, among, value, label in facts:
        labels = by_fact.setdefault(fact, {}).setdefault(among, {}).setdefault(value, [])
        if label not in labels:
            labels.append(label)
    differing = {
        fact: [(among, values) for among, values in groups.items() if len(values) > 1]
        for fact, groups in by_fact.items()
    }
    return [Unequal(f"{fact}{among}", values) for fact, groups in differing.items() for among, values in groups[:1]]


def _facts(run: Run) -> Iterator[tuple[str, str, str]]:
    """What, among which runs it should be the same, and its value."""
    if base := run.checks.get("base_sha256"):
        yield "base weights", f" of seed {run.seed}", str(base)[:8]
    if run.metrics:
        yield "measured images", "", f"{run.holdout:,} held out" if run.holdout else "the test set"
    if run.parents.data:
        yield "F-MNIST", "", run.parents.data
    if run.cost and "batch_size" in run.settings:
        yield "budget", f" of {run.stage}", f"{run.cost.steps * run.settings['batch_size']:,} images"
    for key in (*GROUND, "threads"):
        if key in run.env:
            yield key, "", str(run.env[key])


def ground(run: Run) -> dict[str, str]:
    """What the run was made with, as far as it says so: the same id gives the same result on the same ground."""
    return {key: str(run.env[key]) for key in GROUND if key in run.env}


def other_ground(runs: Iterable[tuple[str, Mapping[str, str]]]) -> list[Unequal]:
    """In what the grounds of `runs`, given by id, are not the same, and which runs have which."""
    return _differing((key, "", value, run_id) for run_id, facts in runs for key, value in facts.items())


def grounds(runs: Iterable[Run]) -> list[Unequal]:
    """`other_ground` of those that were measured."""
    return other_ground((run.id, ground(run)) for run in runs if run.metrics)


@dataclass(frozen=True)
class Unfinished:
    """A run that has no result, and why, as far as it is known."""

    id: str
    status: str
    error: str


def unfinished(runs: Iterable[Run]) -> list[Unfinished]:
    """The runs among `runs` that are not done."""
    return [
        Unfinished(run.id, run.status, f"{run.error.type}: {run.error.message}" if run.error else "")
        for run in runs
        if run.status != "done"
    ]
