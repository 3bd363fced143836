"""Each method's learning rate, chosen on held-out images: a grid of equal size for all, one fine-tune a point.

curves, done = tune(curves(config), perform, print)     # fine-tunes at every point, and beyond a grid's edge
print(curvestable(rows(curves, done), ...))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lorabench import methods
from lorabench.analysis.inference import accuracy
from lorabench.analysis.quantities import count
from lorabench.config import Config
from lorabench.runner import stages
from lorabench.runner.stages import Stage
from lorabench.runs import Run, Store

WIDENINGS = 2
"""How often a grid is widened whose best is at its edge."""
HALF_DECADES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
"""As far as a grid is widened."""
GRID = HALF_DECADES[WIDENINGS:-WIDENINGS]
"""1e-4 to 1e-1: where every method begins."""
HOLDOUT = 5000
"""Images held out of the training set if the config says nothing of them."""


@dataclass(frozen=True)
class Curve:
    """One entry of `study.methods` over the learning rates `lrs`, rising; `config` has the entry as its finetune."""

    config: Config
    lrs: tuple[float, ...] = GRID

    @property
    def entry(self) -> dict[str, Any]:
        """The method and what of it differs from its defaults, as an entry of `study.methods` says it."""
        finetune = self.config.finetune
        defaults = methods.METHODS[finetune.method].defaults
        own = {key: value for key, value in finetune.options.items() if value != defaults[key]}
        return {"method": finetune.method, **({"targets": list(finetune.targets)} if finetune.targets else {}), **own}

    @property
    def label(self) -> str:
        """The values of `entry` as words."""
        return " ".join(str(value) for value in self.entry.values())

    def stage(self, lr: float, seed: int) -> Stage:
        """The fine-tune at one point."""
        config = self.config.for_seed(seed)
        return stages.finetune(config.model_copy(update={"finetune": config.finetune.model_copy(update={"lr": lr})}))

    def stages(self) -> list[Stage]:
        """The fine-tunes at all points, for every seed of the study."""
        return [self.stage(lr, seed) for lr in self.lrs for seed in self.config.study.seeds]

    def values(self, done: Mapping[str, Run]) -> list[float | None]:
        """Mean held-out accuracy on F-MNIST in percent at each of `lrs`; None where a run failed."""
        means: list[float | None] = []
        for lr in self.lrs:
            runs = [done.get(self.stage(lr, seed).id) for seed in self.config.study.seeds]
            mean = accuracy(count(run.metrics, "fmnist") for run in runs if run)
            means.append(mean.mean if mean and mean.n == len(runs) else None)
        return means

    def best(self, done: Mapping[str, Run]) -> float | None:
        """The learning rate of the highest value, the smallest of several; None if every run failed."""
        scored = [(value, lr) for value, lr in zip(self.values(done), self.lrs, strict=True) if value is not None]
        return max(scored, key=lambda point: (point[0], -point[1]))[1] if scored else None

    def widened(self, done: Mapping[str, Run]) -> Curve:
        """The curve with half a decade more on the side at whose edge its best is; else itself."""
        best = self.best(done)
        low, high = HALF_DECADES.index(self.lrs[0]), HALF_DECADES.index(self.lrs[-1])
        low -= best == self.lrs[0]
        high += best == self.lrs[-1]
        return replace(self, lrs=HALF_DECADES[low : high + 1])


@dataclass(frozen=True)
class CurveRow:
    """One method: accuracy in percent on held-out F-MNIST at each of `lrs`, None where training failed.

    `entry` is the method as an entry of `study.methods`, without its learning rate.
    """

    label: str
    entry: dict[str, object]
    lrs: list[float]
    accuracy: list[float | None]
    best: float | None

    @property
    def edge(self) -> bool:
        """Whether the best is the first or the last that was tried, so that a better one may lie beyond."""
        return self.best in (self.lrs[0], self.lrs[-1])


def curves(config: Config) -> list[Curve]:
    """A curve over `GRID` for each entry of `study.methods`, or for the finetune section alone.

    Where the config holds no images out, `HOLDOUT` are: the test set has no say in a setting.
    """
    held_out = config.model_copy(update={"holdout": config.holdout or HOLDOUT})
    return [Curve(entry) for entry in stages.entries(held_out)]


def tune(
    curves: list[Curve], perform: Callable[[list[Stage]], Mapping[str, Run]], log: Callable[[str], None]
) -> tuple[list[Curve], dict[str, Run]]:
    """Fine-tune at every point of the curves, and beyond the edge of those whose best is there.

    Args:
        curves: the curves to begin with.
        perform: makes the runs of stages and returns those that did not fail, by id.
        log: hears which curves are widened.

    Returns:
        The curves, some of them wider, and all runs that did not fail by id.
    """
    done = dict(perform(todo(curves)))
    for _ in range(WIDENINGS):
        wider = [curve.widened(done) for curve in curves]
        new = sorted({lr for old, curve in zip(curves, wider, strict=True) for lr in curve.lrs if lr not in old.lrs})
        if not new:
            break
        for old, curve in zip(curves, wider, strict=True):
            if curve != old:
                log(f"{curve.label}: the best is {curve.best(done):g}, at the edge of the grid; one point more")
        tried = {stage.id for stage in todo(curves)}
        curves = wider
        done |= perform([stage for stage in todo(curves) if stage.id not in tried])
    return curves, done


def recalled(config: Config, store: Store) -> tuple[list[Curve], dict[str, Run]]:
    """What `tune` gave of these settings, from the runs that are in `store`."""

    def kept(asked: Sequence[Stage]) -> dict[str, Run]:
        return {stage.id: run for stage in asked if (run := stages.cached(stage, store))}

    return tune(curves(config), kept, lambda _: None)


def todo(curves: Sequence[Curve]) -> list[Stage]:
    """The stages of all curves and what they start from, parents first, each once."""
    bases = [
        stage
        for curve in curves
        for seed in curve.config.study.seeds
        for stage in stages.chain(curve.config.for_seed(seed), "pretrain")
    ]
    return stages.each_once([*bases, *(stage for curve in curves for stage in curve.stages())])


def rows(curves: Sequence[Curve], done: Mapping[str, Run]) -> list[CurveRow]:
    """The curves as the report shows them."""
    return [
        CurveRow(curve.label, curve.entry, list(curve.lrs), curve.values(done), curve.best(done)) for curve in curves
    ]
