"""A study's arms: one way to fine-tune, over all seeds, and the bases that its runs started from.

Accuracies in the report are in percent, as people quote them; `run.json` holds fractions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from lorabench.runs import Metrics, Run

SETS = {"mnist": "MNIST", "fmnist": "F-MNIST"}
"""The test sets in their order, and what a reader calls them."""

SLICES = {"flipped": "flipped", "upright": "same digits, upright", "rest": "other digits"}
"""The parts of F-MNIST's test set in their order, and what a reader calls them."""


@dataclass(frozen=True)
class Arm:
    """Finished runs that differ in nothing but their seed. `label` tells the arms of a study apart."""

    label: str
    method: str
    k: int | None
    runs: tuple[Run, ...]


def accuracy(metrics: Metrics) -> float:
    """In percent."""
    return 100 * metrics.correct / metrics.n


def arms(runs: Iterable[Run]) -> list[Arm]:
    """The arms among `runs`, in the order in which they first appear; of one seed the last run counts."""
    tuned = [run for run in runs if run.stage == "finetune" and run.status == "done"]
    return fold(tuned, recipe, lambda run: run.seed)


def recipe(run: Run) -> dict[str, Any]:
    """All that a run was asked for, except its seed."""
    return {key: value for key, value in run.settings.items() if key != "seed"} | {"data": run.parents.data}


def fold(
    runs: Iterable[Run], recipe: Callable[[Run], Mapping[str, Any]], member: Callable[[Run], tuple[Any, ...] | int]
) -> list[Arm]:
    """Runs of one label and one recipe as one arm, in the order in which they first appear.

    Args:
        runs: finished.
        recipe: what an arm's runs have in common.
        member: what tells them apart; of those that it does not, the last counts. They are sorted by it.
    """
    groups: dict[str, dict[Any, Run]] = {}
    recipes: dict[str, Mapping[str, Any]] = {}
    for run in runs:
        what = recipe(run)
        key = f"{run.label} {sorted(what.items())}"
        recipes[key] = what
        groups.setdefault(key, {})[member(run)] = run
    found: list[Arm] = []
    for key, members in groups.items():
        first = next(iter(members.values()))
        twins = [recipes[other] for other in groups if other.split(" ", 1)[0] == first.label]
        found.append(
            Arm(
                label=" ".join([first.label, *distinctive(recipes[key], twins)]),
                method=first.method or first.label,
                k=first.k,
                runs=tuple(run for _, run in sorted(members.items(), key=lambda item: item[0])),
            )
        )
    return found


def distinctive(mine: Mapping[str, Any], all_: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings in which arms of one label differ, as words: `kaiming`, `alpha=2.0`.

    Where something else tells them apart too, the learning rate is left out: each has its own.
    """
    differing = [key for key in mine if any(other.get(key) != mine[key] for other in all_)]
    telling = [key for key in differing if key != "lr"]
    if sum(all(other.get(key) == mine[key] for key in telling) for other in all_) > 1:
        telling = differing
    return [value if isinstance(value := mine[key], str) and value.isalpha() else f"{key}={value}" for key in telling]


def main_arm(found: Sequence[Arm]) -> Arm | None:
    """The arm that the report shows in full: the talk's LoRA with k = 4, or another LoRA, or the first."""
    return min(
        found,
        key=lambda arm: (arm.method != "lora", arm.k != 4, arm.runs[0].settings.get("init", "talk") != "talk"),
        default=None,
    )


def bases(runs: Iterable[Run]) -> dict[str, dict[str, Metrics]]:
    """Base's id -> its metrics per test set, as its fine-tunes measured them, or failing that it itself."""
    found: dict[str, dict[str, Metrics]] = {}
    for run in runs:
        if run.status == "done" and run.stage == "pretrain":
            found[run.id] = {**run.metrics, **found.get(run.id, {})}
        elif run.status == "done" and run.stage == "finetune":
            base = run.parents.base or f"the base of {run.id}"
            found[base] = {**found.get(base, {}), **run.before}
    return found


def base_metrics(run: Run, known: Mapping[str, Mapping[str, Metrics]]) -> dict[str, Metrics]:
    """The metrics of the base of the fine-tune `run`, per test set, from `known`, which `bases` gives."""
    return {**known.get(run.parents.base or "", {}), **run.before}
