"""A study's arms: one way to fine-tune, over all seeds, and the bases that its runs started from.

Metrics belong to a run and a test set, and two F-MNISTs are two test sets: what a base gives is kept by base and
F-MNIST, and no mean and no difference is formed across them.

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

SLICES = {"flipped": "mirrored", "upright": "not mirrored", "rest": "other digits"}
"""The parts of F-MNIST's test set in their order, and what a reader calls them."""
OnImages = tuple[str, str | None]
"""Ids of a base and of an F-MNIST that it was measured on."""


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

    Fine-tunes whose bases were trained in other ways are of other arms, if `runs` has all these bases; those on another
    F-MNIST always are.
    """
    known = list(runs)
    tuned = [run for run in known if run.stage == "finetune" and run.status == "done"]
    return fold(tuned, records(known))


def records(runs: Iterable[Run]) -> dict[str, Run]:
    """The runs that others are made from, bases and F-MNISTs, by id."""
    return {run.id: run for run in runs if run.stage != "finetune"}


def _asked(run: Run) -> dict[str, Any]:
    """What a run was asked for, except its seed; and F-MNIST, which has no part in a base."""
    return {key: value for key, value in run.settings.items() if key != "seed"} | (
        {} if run.reuse else {"reuse": False}
    )


def _images(data: str | None, made: Mapping[str, Run]) -> dict[str, Any]:
    """What tells an F-MNIST from others: its id, and if its record is in `made` its settings."""
    known = made[data].settings if data and data in made else {}
    return {"data": data, **{f"fmnist.{key}": value for key, value in known.items()}}


def fold(runs: Sequence[Run], bases: Mapping[str, Run]) -> list[Arm]:
    """Runs of one label and one recipe as one arm, in the order in which they first appear.

    The members of an arm are told apart by their seed and their base, and sorted by these; of those that are not, the
    last counts.

    Args:
        runs: finished.
        bases: by id; their recipes count only if each run's base is among them. F-MNISTs too, for their settings.
    """
    complete = all(run.parents.base in bases for run in runs if run.parents.base)
    of_base = {
        base: {f"pretrain.{key}": value for key, value in _asked(run).items()}
        for base, run in bases.items()
        if complete and run.stage == "pretrain"
    }
    groups: dict[str, dict[tuple[int, str], Run]] = {}
    recipes: dict[str, Mapping[str, Any]] = {}
    for run in runs:
        what = _asked(run) | _images(run.parents.data, bases) | of_base.get(run.parents.base or "", {})
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

    Where something else tells them apart too, the learning rate is left out, each has its own, and F-MNIST's id.
    """
    differing = [key for key in mine if any(other.get(key) != mine[key] for other in all_)]
    telling = differing
    for spared in (("data", "lr"), ("data",), ("lr",)):
        fewer = [key for key in differing if key not in spared]
        if sum(all(other.get(key) == mine[key] for key in fewer) for other in all_) == 1:
            telling = fewer
            break
    return [value if isinstance(value := mine[key], str) and value.isalpha() else f"{key}={value}" for key in telling]


def main_arm(found: Sequence[Arm]) -> Arm | None:
    """The arm that the report shows in full: the talk's LoRA with k = 4, or another LoRA, or the first."""
    return min(
        found,
        key=lambda arm: (arm.method != "lora", arm.k != 4, arm.runs[0].settings.get("init", "talk") != "talk"),
        default=None,
    )


def bases(runs: Iterable[Run]) -> dict[OnImages, dict[str, Metrics]]:
    """(base, F-MNIST) -> the base's metrics per test set, as its fine-tunes measured them, or failing that it itself.

    What a base itself measured on an F-MNIST that nothing else among `runs` is about is left out; its MNIST is not.
    """
    done = [run for run in runs if run.status == "done"]
    found: dict[OnImages, dict[str, Metrics]] = {}
    for run in done:
        if run.stage == "finetune":
            key = run.parents.base or f"the base of {run.id}", run.parents.data
            found[key] = {**found.get(key, {}), **run.before}
    asked = list(dict.fromkeys(data for _, data in found)) or [run.id for run in done if run.stage == "fmnist"]
    for run in done:
        if run.stage == "pretrain":
            own, mnist = run.parents.data, {name: run.metrics[name] for name in run.metrics if name == "mnist"}
            if not asked or own in asked:
                found[run.id, own] = {**run.metrics, **found.get((run.id, own), {})}
            elif not any(base == run.id for base, _ in found):
                found[run.id, asked[0]] = mnist
            for key in found:
                if key[0] == run.id:
                    found[key] = {**mnist, **found[key]}
    return found


def ways(runs: Sequence[Run], *, by_images: bool = True) -> dict[str, dict[OnImages, dict[str, Metrics]]]:
    """What a reader calls each way in which the bases were trained -> what `bases` gives for these bases.

    That is `base`, or `base epochs=1` and `base epochs=3`, as far as the bases are among `runs`; and if they were
    measured on several F-MNISTs, and not without `by_images`, `base fmnist.fraction=0.1` and so on.
    """
    known, made = bases(runs), records(runs)
    whole = all(base in made for base, _ in known)
    recipes = {
        (base, data): (_asked(made[base]) if whole else {}) | (_images(data, made) if by_images else {})
        for base, data in known
    }
    distinct = list({str(sorted(what.items())): what for what in recipes.values()}.values())
    groups: dict[str, dict[OnImages, dict[str, Metrics]]] = {}
    for key, metrics in known.items():
        label = " ".join(["base", *distinctive(recipes[key], distinct)])
        groups.setdefault(label, {})[key] = metrics
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


def base_metrics(run: Run, known: Mapping[OnImages, Mapping[str, Metrics]]) -> dict[str, Metrics]:
    """The metrics of the base of the fine-tune `run` on the images of `run`, from `known`, which `bases` gives."""
    return {**known.get((run.parents.base or "", run.parents.data), {}), **run.before}


def facing(first: Run, second: Run) -> tuple[Mapping[str, Metrics], Mapping[str, Metrics]]:
    """The metrics of two runs on the test sets that both were measured on.

    On another F-MNIST there is no difference to be formed; but a fine-tune has measured its base on its own.
    """
    if first.holdout != second.holdout:
        return {}, {}
    if first.id == second.parents.base:
        return {**_on(first, second.parents.data), **second.before}, second.metrics
    if second.id == first.parents.base:
        return first.metrics, {**_on(second, first.parents.data), **first.before}
    return _on(first, second.parents.data), _on(second, first.parents.data)


def _on(run: Run, data: str | None) -> dict[str, Metrics]:
    return {name: found for name, found in run.metrics.items() if name == "mnist" or run.parents.data == data}


def beside(runs: Sequence[Run]) -> list[Run]:
    """`runs`, in which a base that was measured on an F-MNIST of none of its fine-tunes has what these measured."""
    found: list[Run] = []
    for run in runs:
        own = [other for other in runs if other.parents.base == run.id and other.status == "done" and other.before]
        if own and run.parents.data not in {other.parents.data for other in own}:
            parents = run.parents.model_copy(update={"data": own[0].parents.data})
            metrics = {**run.metrics, **own[0].before}
            found.append(run.model_copy(update={"parents": parents, "metrics": metrics}))
        else:
            found.append(run)
    return found
