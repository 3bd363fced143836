"""The settings of a report, each a way to fine-tune over all its seeds, and the bases that its runs started from.

    runs = collect(store.runs(...))
    featured_setting(runs.settings).label       # "lora-k4"
    runs.base_of(run).metrics["fmnist"]         # what the base of a fine-tune gave on the F-MNIST of the fine-tune

Metrics belong to a run and a test set, and two F-MNISTs are two test sets: what a base gives is kept by base and
F-MNIST, and no mean and no difference is formed across them.

Accuracies in the report are in percent, as people quote them; `run.json` holds fractions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from lorabench.runs import IMPORTED, Metrics, Run

OnImages = tuple[str, str | None]
"""Ids of a base and of an F-MNIST that it was measured on."""


@dataclass(frozen=True)
class Setting:
    """Finished runs that differ in nothing but their seeds. `label` tells the settings of a study apart.

    `recipe` is all that they were asked for, seeds apart; of their bases too, under `pretrain.`, if that is known.
    """

    label: str
    method: str
    k: int | None
    runs: tuple[Run, ...]
    recipe: Mapping[str, Any]


class Collection(tuple[Run, ...]):
    """The runs of a report in their order, and what several of its tables need of them, each formed once."""

    @cached_property
    def records(self) -> dict[str, Run]:
        """The runs that others are made from, bases and F-MNISTs, by id."""
        return records(self)

    @property
    def base(self) -> Run | None:
        """The first finished base whose sizes are recorded: every base has the same architecture."""
        return next((run for run in self if run.stage == "pretrain" and run.status == "done" and run.params), None)

    @cached_property
    def settings(self) -> list[Setting]:
        """The settings of the finished fine-tunes, in the order in which they first appear.

        Fine-tunes whose bases were trained in other ways are of other settings, if all these bases are among the runs;
        those on another F-MNIST always are.
        """
        tuned = [run for run in self if run.stage == "finetune" and run.status == "done"]
        return group_by_setting(tuned, self.records)

    @cached_property
    def bases(self) -> dict[OnImages, dict[str, Metrics]]:
        """(base, F-MNIST) -> its metrics per test set, as its fine-tunes measured them, or failing that it itself.

        What a base itself measured on an F-MNIST that nothing else among the runs is about is left out; its MNIST is
        not.
        """
        done = [run for run in self if run.status == "done"]
        bases: dict[OnImages, dict[str, Metrics]] = {}
        for run in done:
            if run.stage == "finetune":
                key = run.parents.base or f"the base of {run.id}", run.parents.data
                bases[key] = {**bases.get(key, {}), **run.before}
        asked = list(dict.fromkeys(data for _, data in bases)) or [run.id for run in done if run.stage == "fmnist"]
        for run in done:
            if run.stage == "pretrain":
                own, mnist = run.parents.data, {name: run.metrics[name] for name in run.metrics if name == "mnist"}
                if not asked or own in asked:
                    bases[run.id, own] = {**run.metrics, **bases.get((run.id, own), {})}
                elif not any(base == run.id for base, _ in bases):
                    bases[run.id, asked[0]] = mnist
                for key in bases:
                    if key[0] == run.id:
                        bases[key] = {**mnist, **bases[key]}
        return bases

    @cached_property
    def bases_by_recipe(self) -> dict[str, dict[OnImages, dict[str, Metrics]]]:
        """What a reader calls each way in which the bases were trained -> the `bases` that were trained so.

        That is `base`, or `base epochs=1` and `base epochs=3`, as far as the bases are among the runs; and if they
        were measured on several F-MNISTs `base fmnist.fraction=0.1` and so on.
        """
        return self._bases_by_recipe(by_images=True)

    @cached_property
    def bases_by_training(self) -> dict[str, dict[OnImages, dict[str, Metrics]]]:
        """The same, whatever F-MNISTs they were measured on."""
        return self._bases_by_recipe(by_images=False)

    def _bases_by_recipe(self, *, by_images: bool) -> dict[str, dict[OnImages, dict[str, Metrics]]]:
        made = self.records
        whole = all(base in made for base, _ in self.bases)
        recipes = {
            (base, data): (_asked(made[base]) if whole or _imported(made.get(base)) else {})
            | (_images(data, made) if by_images else {})
            for base, data in self.bases
        }
        distinct = list({str(sorted(recipe.items())): recipe for recipe in recipes.values()}.values())
        groups: dict[str, dict[OnImages, dict[str, Metrics]]] = {}
        for key, metrics in self.bases.items():
            label = " ".join(["base", *differing_words(recipes[key], distinct)])
            groups.setdefault(label, {})[key] = metrics
        return groups

    def base_of(self, run: Run) -> Run:
        """The base of the fine-tune `run`, as its metrics on the images of `run` say it."""
        return run.model_copy(update={"metrics": self.base_metrics(run)})

    def with_bases(self, setting: Setting) -> Setting:
        """`setting`, whose runs say what their bases gave, even where another run of the report measured that."""
        runs = tuple(run.model_copy(update={"before": self.base_metrics(run)}) for run in setting.runs)
        return replace(setting, runs=runs)

    def base_metrics(self, run: Run) -> dict[str, Metrics]:
        """The metrics of the base of the fine-tune `run` on the images of `run`."""
        return {**self.bases.get((run.parents.base or "", run.parents.data), {}), **run.before}


def collect(runs: Iterable[Run]) -> Collection:
    """`runs` as a collection; one that is a collection already keeps what it knows."""
    return runs if isinstance(runs, Collection) else Collection(runs)


def records(runs: Iterable[Run]) -> dict[str, Run]:
    """The runs that others are made from, bases and F-MNISTs, by id."""
    return {run.id: run for run in runs if run.stage != "finetune"}


def _imported(base: Run | None) -> bool:
    """Whether nobody knows how the base was trained; no mean is formed of it and of others."""
    return base is not None and IMPORTED in base.settings


def _asked(run: Run) -> dict[str, Any]:
    """What a run was asked for, except its seed; and F-MNIST, which has no part in a base."""
    return {key: value for key, value in run.settings.items() if key != "seed"} | (
        {} if run.reuse else {"reuse": False}
    )


def _images(data: str | None, made: Mapping[str, Run]) -> dict[str, Any]:
    """What tells an F-MNIST from others: its id, and if its record is in `made` its settings."""
    known = made[data].settings if data and data in made else {}
    return {"data": data, **{f"fmnist.{key}": value for key, value in known.items()}}


def group_by_setting(runs: Sequence[Run], bases: Mapping[str, Run]) -> list[Setting]:
    """Runs of one label and one recipe as one setting, in the order in which they first appear.

    A setting has one run for each seed and base, and is sorted by these; of duplicates the last is kept.

    Args:
        runs: finished.
        bases: by id; their recipes count only if each run's base is among them, those of imported ones always.
            F-MNISTs too, for their settings.
    """
    members: dict[tuple[str, str], dict[tuple[int, str], Run]] = {}
    recipes: dict[tuple[str, str], Mapping[str, Any]] = {}
    complete = all(run.parents.base in bases for run in runs if run.parents.base)
    known = {run_id: base for run_id, base in bases.items() if complete or base.stage != "pretrain" or _imported(base)}
    for run in runs:
        recipe = _recipe(run, known)
        key = run.label, str(sorted(recipe.items()))
        recipes[key] = recipe
        members.setdefault(key, {})[run.seed, run.parents.base or ""] = run
    settings: list[Setting] = []
    for key, own in members.items():
        first = next(iter(own.values()))
        of_label = [recipe for other, recipe in recipes.items() if other[0] == first.label]
        settings.append(
            Setting(
                label=" ".join([first.label, *differing_words(recipes[key], of_label)]),
                method=first.method or first.label,
                k=first.k,
                runs=tuple(own[place] for place in sorted(own)),
                recipe=recipes[key],
            )
        )
    return settings


def _recipe(run: Run, bases: Mapping[str, Run]) -> dict[str, Any]:
    """All that a fine-tune was asked for, seeds apart, and as far as `bases` know it what its base was."""
    base = bases.get(run.parents.base or "")
    of_base = {f"pretrain.{key}": value for key, value in _asked(base).items()} if base else {}
    return _asked(run) | _images(run.parents.data, bases) | of_base


def told_apart(runs: Sequence[Run], known: Iterable[Run]) -> dict[str, str]:
    """Id -> the settings, as words, in which a run differs from those of `runs` that have its label: `lr=0.01`.

    How their bases were trained is left out where the fine-tunes' own settings tell as much.

    Args:
        runs: what is to be told apart.
        known: where the bases and F-MNISTs are among that they were made from.
    """
    bases = records(known)
    of_label: dict[str, dict[str, dict[str, Any]]] = {}
    for run in runs:
        asked = _recipe(run, bases) if run.stage == "finetune" else _asked(run)
        of_label.setdefault(run.label, {})[run.id] = {"holdout": run.holdout or None, **asked}
    words: dict[str, str] = {}
    for recipes in of_label.values():
        keys = dict.fromkeys(key for recipe in recipes.values() for key in recipe)
        differing = [key for key in keys if _kinds(recipes.values(), [key]) > 1]
        own = [key for key in differing if not key.startswith("pretrain.")]
        told = own if _kinds(recipes.values(), own) == _kinds(recipes.values(), differing) else differing
        for run_id, recipe in recipes.items():
            given = [(key, value) for key in told if (value := recipe.get(key)) is not None]
            words[run_id] = " ".join(_word(key, value) for key, value in given if key != "data" or value not in bases)
    return words


def _kinds(recipes: Iterable[Mapping[str, Any]], keys: Iterable[str]) -> int:
    """How many of the recipes differ in these keys."""
    return len({tuple(str(recipe.get(key)) for key in keys) for recipe in recipes})


def _word(key: str, value: Any) -> str:
    if isinstance(value, list):
        value = ",".join(map(str, value))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if key.endswith(IMPORTED):
        key, value = key.replace(IMPORTED, "tensors"), value[:12]
    return value if isinstance(value, str) and value.isalpha() else f"{key}={value}"


def differing_words(recipe: Mapping[str, Any], recipes: Sequence[Mapping[str, Any]]) -> list[str]:
    """The settings in which `recipe` differs from the other `recipes`, as words: `kaiming`, `alpha=2.0`.

    Where something else tells them apart too, the learning rate is left out, each has its own, and F-MNIST's id. What
    was imported is told by its tensors, and the others by what differs among them.
    """
    tensors = {key: recipe[key] for key in recipe if key.endswith(IMPORTED)}
    alike = [other for other in recipes if {key for key in other if key.endswith(IMPORTED)} == tensors.keys()]
    differing = [
        key for key in recipe if any(other.get(key) != recipe[key] for other in (recipes if key in tensors else alike))
    ]
    telling = differing
    for spared in (("data", "lr"), ("data",), ("lr",)):
        fewer = [key for key in differing if key not in spared]
        if sum(all(other.get(key) == recipe[key] for key in fewer) for other in recipes) == 1:
            telling = fewer
            break
    return [_word(key, recipe[key]) for key in telling]


def featured_setting(settings: Sequence[Setting]) -> Setting | None:
    """The setting that the report shows in full: the talk's LoRA with k = 4, or another LoRA, or the first."""
    return min(
        settings,
        key=lambda each: (each.method != "lora", each.k != 4, each.runs[0].settings.get("init", "talk") != "talk"),
        default=None,
    )


def matched_run(run: Run, others: Sequence[Run], bases: Mapping[str, Run]) -> Run | None:
    """Which of `others`, the runs of another setting, `run` is compared with.

    Its own base or fine-tune; else the run of the same seed, preferring the same base, or a base of the same seed.

    Args:
        run: of a setting.
        others: all runs of another setting.
        bases: by id, as far as they are known.
    """

    def base_seed(other: Run) -> int | None:
        base = other if other.stage == "pretrain" else bases.get(other.parents.base or "")
        return base.seed if base else None

    related = [other for other in others if run.id == other.parents.base or other.id == run.parents.base]
    same_seed = [other for other in others if other.seed == run.seed]
    same_base = [other for other in same_seed if other.parents.base == run.parents.base]
    alike = [other for other in others if other.seed == run.seed or other.stage != run.stage]
    of_base_seed = [other for other in alike if (seed := base_seed(other)) is not None and seed == base_seed(run)]
    return next(iter([*related, *same_base, *of_base_seed, *(same_seed if len(same_seed) == 1 else ())]), None)


def pairs(runs: Iterable[Run], reference: Sequence[Run], bases: Mapping[str, Run]) -> list[tuple[Run, Run]]:
    """Each of `runs` that matches one of `reference`, the runs of another setting, after it; `bases` by id.

    Both have the metrics that can be held against each other, see `comparable`.
    """
    both = [(other, run) for run in runs if (other := matched_run(run, reference, bases))]
    return [
        (other.model_copy(update={"metrics": before}), run.model_copy(update={"metrics": after}))
        for other, run in both
        for before, after in [comparable(other, run)]
    ]


def comparable(first: Run, second: Run) -> tuple[Mapping[str, Metrics], Mapping[str, Metrics]]:
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
    return {name: metrics for name, metrics in run.metrics.items() if name == "mnist" or run.parents.data == data}


def beside(runs: Sequence[Run]) -> Collection:
    """`runs`, in which a base that was measured on an F-MNIST of none of its fine-tunes has what these measured."""
    measured: list[Run] = []
    for run in runs:
        own = [other for other in runs if other.parents.base == run.id and other.status == "done" and other.before]
        if own and run.parents.data not in {other.parents.data for other in own}:
            parents = run.parents.model_copy(update={"data": own[0].parents.data})
            metrics = {**run.metrics, **own[0].before}
            measured.append(run.model_copy(update={"parents": parents, "metrics": metrics}))
        else:
            measured.append(run)
    return Collection(measured)
