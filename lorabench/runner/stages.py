"""What there is to do: a config as stages with their ids and parents. Runs nothing, imports no torch.

A stage's id ends in a hash of the settings that the stage reads, of its parents' ids and of MNIST's checksum. The same
inputs give the same id, and that one rule gives caching, resuming and sharing. A folder of that name is where to look;
`cached` takes the run in it only if its record agrees with what is asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from lorabench import data, methods
from lorabench.config import Config, Entry, Finetune, dump, hashed
from lorabench.errors import ConfigError, InputError, quoted
from lorabench.runs import IMPORTED, Parents, Run, Store, earlier, make_id


@dataclass(frozen=True, slots=True)
class Stage:
    """A run to make. `settings` are hashed into its id; `config` has every default filled in."""

    kind: Literal["pretrain", "fmnist", "finetune"]
    id: str
    seed: int
    settings: dict[str, Any]
    parents: Parents
    config: Config
    method: str | None = None
    k: int | None = None
    named_base: bool = False
    """Whether a user named the base; `config` does not say then how it came about."""

    @property
    def command(self) -> str:
        """What a user types to run this stage."""
        return {"fmnist": "lorabench make-fmnist", "pretrain": "lorabench pretrain"}.get(
            self.kind, f"lorabench finetune {self.method}" + (f" --base {self.parents.base}" if self.named_base else "")
        )

    @property
    def epochs(self) -> int:
        """How many epochs the stage trains."""
        return int(self.settings.get("epochs", 0))

    @property
    def reuse(self) -> bool:
        """Whether what is frozen is computed once; a base has nothing frozen."""
        return self.kind != "finetune" or self.config.reuse

    @property
    def new_record(self) -> Run:
        """The record of its run before it begins."""
        return Run(
            schema=1,
            id=self.id,
            stage=self.kind,
            method=self.method,
            k=self.k,
            seed=self.seed,
            study=self.config.study.name,
            parents=self.parents,
            holdout=self.config.holdout,
            mnist=data.CHECKSUM,
            reuse=self.reuse,
            settings=self.settings,
        )

    def config_text(self, folder: Path, command: str | None = None, **place: Any) -> str:
        """The text of `config.yaml` in the run's `folder`; `place` is the `device` and the `threads` of the run.

        It begins with the `command` that makes the run, by default the stage's own. Of an imported base it says nothing
        of how it was trained.
        """
        made_by = command or f"{self.command} -c {quoted(folder / 'config.yaml')}"
        imported_base = self.kind == "pretrain" and IMPORTED in self.settings
        header = f"{self.id}\n{made_by}"
        return dump(self.config.model_copy(update=place), header, {"pretrain"} if imported_base else set())


@functools.lru_cache
def changed(section: Any, **values: Any) -> Any:
    """The `Section` with other values: one object for all points of a grid, of which there may be 90,000."""
    return section.model_copy(update=values)


def resolve(config: Config) -> Config:
    """`config` with every value that follows another one written out: the seeds, and the method's learning rate."""
    pretrain, finetune = cast("Any", config.pretrain), config.finetune  # hashable, which pydantic does not declare
    chosen_lr = methods.METHODS[finetune.method].rate(finetune.options)
    return config.model_copy(
        update={
            "pretrain": changed(pretrain, seed=config.seed if pretrain.seed is None else pretrain.seed),
            "finetune": finetune.model_copy(
                update={
                    "seed": config.seed if finetune.seed is None else finetune.seed,
                    "lr": chosen_lr if finetune.lr is None else finetune.lr,
                }
            ),
        }
    )


def _images(config: Config) -> dict[str, Any]:
    """What an id says of the images: which data, and how many are held out."""
    return {"mnist": data.CHECKSUM} | ({"holdout": config.holdout} if config.holdout else {})


def fmnist(config: Config) -> Stage:
    """The stage that chooses which images F-MNIST mirrors."""
    return chain(config, "fmnist")[-1]


def pretrain(config: Config) -> Stage:
    """The stage that trains the base on MNIST. F-MNIST, its second test set, has no part in its id."""
    return chain(config, "pretrain")[-1]


def finetune(config: Config) -> Stage:
    """The stage that fine-tunes the base on F-MNIST by `config.finetune.method`."""
    return chain(config, "finetune")[-1]


def on_base(config: Config, base: Run) -> list[Stage]:
    """The fine-tune of `config` on a base that is there, after its F-MNIST.

    Raises:
        InputError: `base` is no finished base, or trained on images that are held out now, or the other way round.
    """
    if base.stage != "pretrain" or base.status != "done":
        raise InputError(f"{base.id} is no finished base: its stage is {base.stage}, its status {base.status}")
    if IMPORTED not in base.settings and base.holdout != config.holdout:
        raise InputError(f"{base.id} was made with holdout {base.holdout}, the fine-tune asks for {config.holdout}")
    config = resolve(config)
    images = _fmnist(config)
    return [images, replace(_finetune(config, images, base.id), named_base=True)]


def chain(config: Config, last: Literal["pretrain", "fmnist", "finetune"]) -> list[Stage]:
    """The stage `last` of one seed, after all that it needs."""
    config = resolve(config)
    images = _fmnist(config)
    if last == "fmnist":
        return [images]
    base = _pretrain(config, images)
    return [images, base] if last == "pretrain" else [images, base, _finetune(config, images, base.id)]


def _fmnist(config: Config) -> Stage:
    settings = hashed(config.fmnist)
    run_id = make_id("fmnist", config.fmnist.seed, {"stage": "fmnist", "settings": settings, **_images(config)})
    return Stage("fmnist", run_id, config.fmnist.seed, settings, Parents(), config)


def _pretrain(config: Config, images: Stage) -> Stage:
    settings = hashed(config.pretrain)
    run_id = make_id("pretrain", settings["seed"], {"stage": "pretrain", "settings": settings, **_images(config)})
    return Stage("pretrain", run_id, settings["seed"], settings, Parents(data=images.id), config)


def _finetune(config: Config, images: Stage, base: str) -> Stage:
    method, k = config.finetune.method, config.finetune.options.get("k")
    settings = hashed(config.finetune)
    inputs = {"stage": "finetune", "settings": settings, **_images(config)} | ({} if config.reuse else {"reuse": False})
    run_id = make_id(f"{method}-k{k}" if k else method, settings["seed"], inputs, base=base, data=images.id)
    parents = Parents(base=base, data=images.id)
    return Stage("finetune", run_id, settings["seed"], settings, parents, config, method, k)


def cached(stage: Stage, store: Store) -> Run | None:
    """The finished run in `store` that `stage` asks for; None if there is none.

    Raises:
        InputError: the folder of that name holds a run that was asked for something else.
    """
    stage = placed(stage, store)
    if (run := store.finished(stage.id)) and (other := _differing(run, stage, store)):
        why = "not what is asked for now; remove it, or make the run in its place with --force"
        raise InputError(f"{store.path(run.id)}: its record says {other}, {why}")
    return run


def placed(stage: Stage, store: Store) -> Stage:
    """`stage` under the id that its run has in `store`, and its parents under theirs.

    An id of 8 digits, as an earlier lorabench made them, is kept where the record of that folder agrees with `stage`.
    """

    def known(run_id: str | None, make: Callable[[Config], Stage]) -> str | None:
        if run_id is None or store.holds(run_id) or not store.holds(earlier(run_id)):
            return run_id
        return placed(make(stage.config), store).id

    base, images = known(stage.parents.base, pretrain), known(stage.parents.data, fmnist)
    stage = replace(stage, parents=Parents(base=base, data=images))
    if store.holds(stage.id) or not (run := store.finished(earlier(stage.id))) or _differing(run, stage, store):
        return stage
    return replace(stage, id=run.id)


def _differing(run: Run, stage: Stage, store: Store) -> str:
    """The first of what `run` says of itself that `stage`, placed, does not ask for; empty if all is the same.

    F-MNIST has no part in a base: it is measured on the one that is asked about.
    """
    pairs = {key: (run.settings.get(key), stage.settings.get(key)) for key in {**run.settings, **stage.settings}}
    pairs |= {"stage": (run.stage, stage.kind), "holdout": (run.holdout, stage.config.holdout)}
    pairs |= {"reuse": (run.reuse, stage.reuse), "mnist": (run.mnist or data.CHECKSUM, data.CHECKSUM)}
    if different := [key for key, (had, asked) in pairs.items() if had != asked]:
        return f"{different[0]} is {pairs[different[0]][0]!r}"
    if stage.kind != "finetune":
        return ""
    if not _same_parent(run, run.parents.base, stage.parents.base, pretrain(stage.config), store):
        return f"its base is {run.parents.base}"
    if not _same_parent(run, run.parents.data, stage.parents.data, fmnist(stage.config), store):
        return f"its F-MNIST is {run.parents.data}"
    return ""


def _same_parent(run: Run, had: str | None, asked: str | None, parent: Stage, store: Store) -> bool:
    """Whether the parent that `run` names is the one that is asked for, which may have been made anew since.

    Where an earlier lorabench's parent is gone, what `run`'s own id has in digits more than the parent's must do.
    """
    if had == asked or had is None or asked is None:
        return had == asked
    if had != earlier(asked):
        return False
    old = store.finished(had)
    return not _differing(old, placed(parent, store), store) if old else run.id != earlier(run.id)


RECIPE = Finetune.model_fields.keys() - Entry.model_fields.keys()
"""What all entries of `study.methods` have of the finetune section; the rest each entry says itself."""


def entries(config: Config) -> list[Config]:
    """`config` once for each entry of `study.methods`, with that entry as its finetune section; or else `config`.

    What an entry does not say, its epochs, batch size, warm-up and seed, is that of `config.finetune`.
    """
    single = config.study.model_copy(update={"methods": ()})
    recipe = config.finetune.model_dump(include=RECIPE)
    return [
        config.model_copy(update={"finetune": Finetune.parse(recipe | entry.model_dump()), "study": single})
        for entry in config.study.methods
    ] or [config]


def same_seeds(config: Config) -> list[str]:
    """A line if the study's seeds are several and change nothing: one run must not pass for many."""
    if len(config.study.seeds) == 1 or config.pretrain.seed is None or config.finetune.seed is None:
        return []
    why = "pretrain.seed and finetune.seed are both set, so the seeds change nothing"
    return [f"study.seeds  {why}; leave one of the two out, or name one seed"]


def study(config: Config) -> list[Stage]:
    """Every stage of a study, parents first, each once: shared ones stand where they are first needed.

    Raises:
        ConfigError: all its seeds are the same runs.
    """
    if problems := same_seeds(config):
        raise ConfigError(problems)
    return each_once(
        stage
        for seed in config.study.seeds
        for entry in entries(config.for_seed(seed))
        for stage in chain(entry, "finetune")
    )


def each_once(stages: Iterable[Stage]) -> list[Stage]:
    """`stages` without repetitions, parents first."""
    order = ("fmnist", "pretrain", "finetune")
    return sorted({stage.id: stage for stage in stages}.values(), key=lambda stage: order.index(stage.kind))
