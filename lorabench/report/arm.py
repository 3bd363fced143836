"""A study's arms: one way to fine-tune, over all seeds, and the bases that its runs started from.

Accuracies in the report are in percent, as people quote them; `run.json` holds fractions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lorabench.runs import Metrics, Run

SETS = {"mnist": "MNIST", "fmnist": "F-MNIST"}
"""The test sets in their order, and what a reader calls them."""

SLICES = {"flipped": "flipped", "upright": "same digits, upright", "rest": "other digits"}
"""The parts of F-MNIST's test set in their order, and what a reader calls them."""


@dataclass(frozen=True)
class Arm:
    """Finished runs that differ in nothing but their seeds. `label` tells the arms of a study apart.

    `recipe` is all that they were asked for, seeds apart; of their bases too, under `pretrain.`, if that is known.
    """

    label: str
    method: str
    k: int | None
    runs: tuple[Run, ...]
    recipe: Mapping[str, Any]


def accuracy(metrics: Metrics) -> float:
    """In percent."""
    return 100 * metrics.correct / metrics.n


def arms(runs: Iterable[Run]) -> list[Arm]:
    """The arms among `runs`, in the order in which they first appear.

    Fine-tunes whose bases were trained in other ways are of other arms, if `runs` has all these bases.
    """
    known = list(runs)
    tuned = [run for run in known if run.stage == "finetune" and run.status == "done"]
    return fold(tuned, records(known))


def records(runs: Iterable[Run]) -> dict[str, Run]:
    """The pretrained runs by id."""
    return {run.id: run for run in runs if run.stage == "pretrain"}


def recipe(run: Run) -> dict[str, Any]:
    """All that a run was asked for, except its seed."""
    return _asked(run) | {"data": run.parents.data}


def _asked(run: Run) -> dict[str, Any]:
    """The same without F-MNIST, which has no part in a base."""
    return {key: value for key, value in run.settings.items() if key != "seed"}


def fold(runs: Sequence[Run], bases: Mapping[str, Run]) -> list[Arm]:
    """Runs of one label and one recipe as one arm, in the order in which they first appear.

    The members of an arm are told apart by their seed and their base, and sorted by these; of those that are not, the
    last counts.

    Args:
        runs: finished.
        bases: by id. Their recipes count only if each run's base is among them.
    """
    complete = all(run.parents.base in bases for run in runs if run.parents.base)
    of_base = {
        base: {f"pretrain.{key}": value for key, value in _asked(run).items()}
        for base, run in bases.items()
        if complete
    }
    groups: dict[str, dict[tuple[int, str], Run]] = {}
    recipes: dict[str, Mapping[str, Any]] = {}
    for run in runs:
        what = recipe(run) | of_base.get(run.parents.base or "", {})
        key = f"{run.label} {sorted(what.items())}"
        recipes[key] = what
        groups.setdefault(key, {})[run.seed, run.parents.base or ""] = run
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
                recipe=recipes[key],
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


def ways(runs: Sequence[Run]) -> dict[str, dict[str, dict[str, Metrics]]]:
    """What a reader calls each way in which the bases were trained -> what `bases` gives for these bases.

    That is `base`, or `base epochs=1` and `base epochs=3`, as far as the bases are among `runs`.
    """
    known, found = bases(runs), records(runs)
    recipes = {base: _asked(found[base]) for base in known if base in found}
    if len(recipes) < len(known):
        return {"base": known}
    distinct = list({str(sorted(what.items())): what for what in recipes.values()}.values())
    groups: dict[str, dict[str, dict[str, Metrics]]] = {}
    for base, metrics in known.items():
        label = " ".join(["base", *distinctive(recipes[base], distinct)])
        groups.setdefault(label, {})[base] = metrics
    return groups


def partner(run: Run, others: Sequence[Run], bases: Mapping[str, Run]) -> Run | None:
    """Which of `others`, the members of another arm, `run` is compared with.

    One of which the one was made from the other; or else one of the same seed, and if there are several the one on the
    same base, or on a base of the same seed.

    Args:
        run: a member of an arm.
        others: all members of another arm.
        bases: by id, as far as they are known.
    """

    def origin(one: Run) -> int | None:
        base = one if one.stage == "pretrain" else bases.get(one.parents.base or "")
        return base.seed if base else None

    kin = [other for other in others if run.id == other.parents.base or other.id == run.parents.base]
    twins = [other for other in others if other.seed == run.seed]
    siblings = [other for other in twins if other.parents.base == run.parents.base]
    alike = [other for other in others if other.seed == run.seed or other.stage != run.stage]
    cousins = [other for other in alike if (seed := origin(other)) is not None and seed == origin(run)]
    return next(iter([*kin, *siblings, *cousins, *(twins if len(twins) == 1 else ())]), None)


def base_metrics(run: Run, known: Mapping[str, Mapping[str, Metrics]]) -> dict[str, Metrics]:
    """The metrics of the base of the fine-tune `run`, per test set, from `known`, which `bases` gives."""
    return {**known.get(run.parents.base or "", {}), **run.before}
