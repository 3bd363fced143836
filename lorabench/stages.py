"""What there is to do: a config as stages with their ids and parents. Runs nothing, imports no torch.

A stage's id ends in a hash of the settings that the stage reads, of its parents' ids and of MNIST's checksum. The same
inputs give the same id, and that one rule gives caching, resuming and sharing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lorabench import data, methods
from lorabench.config import dump
from lorabench.errors import ConfigError
from lorabench.runs import Parents, Run, make_id

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from lorabench.config import Config


@dataclass(frozen=True)
class Stage:
    """One run to be: `settings` are what its id is made of, `config` what it is run with, nothing left open."""

    kind: Literal["pretrain", "fmnist", "finetune"]
    id: str
    seed: int
    settings: dict[str, Any]
    parents: Parents
    config: Config
    method: str | None = None
    k: int | None = None

    @property
    def command(self) -> str:
        """What a user types to run this stage."""
        return {"fmnist": "lorabench make-fmnist", "pretrain": "lorabench pretrain"}.get(
            self.kind, f"lorabench finetune {self.method}"
        )

    @property
    def epochs(self) -> int:
        """How many epochs the stage trains."""
        return int(self.settings.get("epochs", 0))

    @property
    def draft(self) -> Run:
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
            settings=self.settings,
        )

    def repeat(self, folder: Path, command: str | None = None, **place: Any) -> str:
        """The text of `config.yaml` in the run's `folder`; `place` is the `device` and the `threads` of the run.

        It begins with the `command` that makes the run, by default the stage's own.
        """
        header = f"{self.id}\n{command or self.command} -c {folder / 'config.yaml'}"
        return dump(self.config.model_copy(update=place), header)


def resolve(config: Config) -> Config:
    """`config` with every value that follows another one written out: the seeds, and the method's learning rate."""
    pretrain, finetune = config.pretrain, config.finetune
    return config.model_copy(
        update={
            "pretrain": pretrain.model_copy(update={"seed": config.seed if pretrain.seed is None else pretrain.seed}),
            "finetune": finetune.model_copy(
                update={
                    "seed": config.seed if finetune.seed is None else finetune.seed,
                    "lr": methods.METHODS[finetune.method].lr if finetune.lr is None else finetune.lr,
                }
            ),
        }
    )


def _images(config: Config) -> dict[str, Any]:
    """What an id says of the images: which data, and how many are held out."""
    return {"mnist": data.CHECKSUM} | ({"holdout": config.holdout} if config.holdout else {})


def fmnist(config: Config) -> Stage:
    """The stage that chooses which images F-MNIST mirrors."""
    config = resolve(config)
    settings = config.fmnist.model_dump(mode="json")
    run_id = make_id("fmnist", config.fmnist.seed, {"stage": "fmnist", "settings": settings, **_images(config)})
    return Stage("fmnist", run_id, config.fmnist.seed, settings, Parents(), config)


def pretrain(config: Config) -> Stage:
    """The stage that trains the base on MNIST. F-MNIST, its second test set, has no part in its id."""
    config = resolve(config)
    settings = config.pretrain.model_dump(mode="json")
    run_id = make_id("pretrain", settings["seed"], {"stage": "pretrain", "settings": settings, **_images(config)})
    return Stage("pretrain", run_id, settings["seed"], settings, Parents(data=fmnist(config).id), config)


def finetune(config: Config) -> Stage:
    """The stage that fine-tunes the base on F-MNIST by `config.finetune.method`."""
    config = resolve(config)
    settings = config.finetune.model_dump(mode="json")
    settings.update(settings.pop("options"))
    parents = Parents(base=pretrain(config).id, data=fmnist(config).id)
    inputs = {"stage": "finetune", "settings": settings, "base": parents.base, "data": parents.data}
    method, k = config.finetune.method, config.finetune.options.get("k")
    label = f"{method}-k{k}" if k else method
    run_id = make_id(label, settings["seed"], {**inputs, **_images(config)})
    return Stage("finetune", run_id, settings["seed"], settings, parents, config, method, k)


def chain(config: Config, last: Literal["pretrain", "fmnist", "finetune"]) -> list[Stage]:
    """The stage `last` of one seed, after all that it needs."""
    if last == "fmnist":
        return [fmnist(config)]
    stages = [fmnist(config), pretrain(config)]
    return stages if last == "pretrain" else [*stages, finetune(config)]


def entries(config: Config) -> list[Config]:
    """`config` once for each entry of `study.methods`, with that entry as its finetune section; or else `config`.

    An entry's epochs, batch size, warm-up and seed are those of `config.finetune`.
    """
    single = config.study.model_copy(update={"methods": ()})
    return [
        config.model_copy(update={"finetune": config.finetune.model_copy(update=dict(entry)), "study": single})
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
