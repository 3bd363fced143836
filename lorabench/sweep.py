"""A grid of settings over seeds: which points there are, what there is to do, how long that may take.

    source = config.gather(files, sets, flags)
    planned = plan(source, ["k=1,2,4", "lora.lr=1e-3,3e-3"])
    queue.run(planned.todo, planned.config, store, keep_going=True, ...)

Every point is an ordinary fine-tune of each seed, as `lorabench finetune` would make it, so the points share their
bases and F-MNIST, and what another command has made is not made again. Runs nothing, imports no torch.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from lorabench import config, methods
from lorabench.analysis import inference
from lorabench.analysis.fairness import Unequal, ground, other_ground
from lorabench.analysis.inference import Difference, Estimate, Folded, accuracy, over_seeds
from lorabench.analysis.quantities import HEADLINE, SETS, Count, Measured, Quantity, count, shown_in
from lorabench.config import Config, KeyPath, Loaded, Source, dotted
from lorabench.config.source import parse_yaml
from lorabench.errors import ConfigError, InputError, UsageError
from lorabench.runner import stages
from lorabench.runner.queue import Result
from lorabench.runner.stages import Stage
from lorabench.runs import Run, Store, uncollected

METHOD = ("finetune", "method")
RANK = ("finetune", "k")
MOST_RUNS = 100_000
"""Fine-tunes of one sweep: a typing error must not become a year's work."""


@dataclass(frozen=True)
class Axis:
    """One setting and the values that it takes in turn.

    Attributes:
        key: as the user wrote it.
        path: where a config has the setting.
        method: the fine-tuning method that the key names, if any.
        place: who asked for it, for messages.
    """

    key: str
    path: KeyPath
    values: tuple[Any, ...]
    method: str | None
    place: str


@dataclass(frozen=True)
class Point:
    """A value for every axis, and the fine-tunes that this asks for, by seed."""

    values: tuple[Any, ...]
    tuned: tuple[Stage, ...]


@dataclass(frozen=True)
class Plan:
    """A checked sweep.

    Attributes:
        loaded: the first point's configuration and who set what in it.
        axes: in the order in which they were named.
        points: every combination of the axes' values, the last axis fastest.
        todo: all stages, parents first, each once.
    """

    loaded: Loaded
    axes: tuple[Axis, ...]
    points: tuple[Point, ...]
    todo: tuple[Stage, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The axes as the user wrote them."""
        return tuple(axis.key for axis in self.axes)

    @property
    def ranks(self) -> bool:
        """Whether an axis has two values of k or more."""
        return any(axis.path == RANK and len(axis.values) > 1 for axis in self.axes)

    @property
    def config(self) -> Config:
        """What all points have in common: name, seeds, workers, device, threads, images held out."""
        return self.loaded.config


def parse_grid(texts: Sequence[str], problems: list[str]) -> dict[str, list[Any]]:
    """`["k=1,2,4"]` as `{"k": [1, 2, 4]}`; values are read as YAML, so a list is written `[fc1, fc3]`.

    A text that has not this form, or names an axis again, adds a line to `problems`.
    """
    grid: dict[str, list[Any]] = {}
    for text in texts:
        key, _, values = (part.strip() for part in text.partition("="))
        if not key or not values:
            problems.append(f"--grid {text}  must have the form KEY=VALUE,VALUE")
        elif key in grid:
            problems.append(f"--grid {text}  names {key} again; write all its values in one list")
        else:
            try:
                inner = parse_yaml(f"values: [{values}]", f"--grid {text}")
            except ConfigError as error:
                problems += error.problems
                continue
            problems += inner.problems
            grid[key] = inner.values["values"]
    return grid


def plan(source: Source, axes: Sequence[str] = ()) -> Plan:
    """Check every point of the grid by the same rules as any config.

    Args:
        source: all settings; its section `sweep` may have a grid.
        axes: further axes as texts, see `parse_grid`; they win over those of the same key in `source`.

    Raises:
        ConfigError: with the problems of all axes and points, each once.
        UsageError: there is no axis.
    """
    grid = parse_grid(axes, source.problems)
    for key in grid:
        source.places["sweep", "grid", key] = f"--grid {key}"
    section = _section(source, grid)
    problems: list[str] = []
    found = [axis for key, values in section.grid.items() if (axis := _axis(key, values, source, problems))]
    if not section.grid and not source.problems:
        raise UsageError("there is nothing to sweep over: name an axis, --grid k=1,2,4, or write a sweep: section")
    problems += _disputes(found, source)
    combinations = math.prod(len(axis.values) for axis in found)
    if combinations > MOST_RUNS:
        raise ConfigError([*problems, f"sweep.grid  has {combinations:,} points; at most {MOST_RUNS:,} will do"])
    with uncollected():
        return _plan(section, found, source, problems)


def _section(source: Source, grid: Mapping[str, Sequence[Any]]) -> config.Sweep:
    """The section `sweep` with the axes of `grid`, taken out of `source`."""
    for key, values in grid.items():
        _put(source.values, ("sweep", "grid", key), values)
    alone = {key: values for key, values in source.values.items() if key == "sweep"}
    try:
        section = config.check(config.Source(alone, source.places)).config.sweep
    except ConfigError:
        config.check(source)  # has the same problem, and perhaps others besides
        raise
    source.values.pop("sweep", None)
    return section


def _axis(key: str, values: tuple[Any, ...], source: Source, problems: list[str]) -> Axis | None:
    place = source.places.get(("sweep", "grid", key), "")
    parts = tuple(key.split("."))
    sections = config.Config.model_fields
    if len(parts) > 1 and parts[0] in methods.METHODS:
        return Axis(key, ("finetune", *parts[1:]), values, parts[0], place)
    if len(parts) > 1 and parts[0] not in sections:
        near = config.nearest(parts[0], [*sections, *methods.METHODS])
        problems.append(f"{place}  {key}  {parts[0]} is neither a section nor a method{near}")
        return None
    if key in sections and isinstance(getattr(config.Config(), key), config.Section):
        problems.append(f"{place}  {key}  is a whole section; name one setting, e.g. finetune.k")
        return None
    path = parts if len(parts) > 1 or key in sections else ("finetune", key)
    if path == ("holdout",) and len(values) > 1:
        why = "the points would be measured on different images, and could not be compared"
        problems.append(f"{place}  holdout  {why}; set it for all of them, -s holdout=5000")
    return Axis(key, path, values, None, place)


def _disputes(axes: Sequence[Axis], source: Source) -> Iterable[str]:
    """A line for each thing that two axes, or an axis and a setting, say differently."""
    for axis, other in itertools.combinations(axes, 2):
        if axis.path == other.path:
            yield f"{other.place}  {other.key}  is the same setting as {axis.key}"
        elif axis.method and other.method and axis.method != other.method:
            yield f"{other.place}  {other.key}  is of another method than {axis.key}; sweep one after the other"
    by_axis = any(axis.path == METHOD for axis in axes)
    for axis in axes:
        if axis.path in source.options:
            yield f"{source.places[axis.path]}  {axis.key} is an axis of the grid; leave one of the two out"
        if axis.method and (by_axis or _get(source.values, METHOD) not in (None, axis.method)):
            short = dotted(axis.path)
            yield f"{axis.place}  {axis.key}  says the method, and finetune.method another; write {short}"
    if _get(source.values, ("study", "methods")):
        yield "study.methods  has no part in a sweep; make finetune.method an axis"


def _at(source: Source, axes: Sequence[Axis], values: Sequence[Any]) -> Source:
    """A copy of `source` in which each axis has its value of `values`."""
    point = config.Source(copy.deepcopy(source.values), dict(source.places), list(source.problems))
    for axis, value in zip(axes, values, strict=True):
        _put(point.values, axis.path, copy.deepcopy(value))
        point.places[axis.path] = axis.place
        if axis.method:
            _put(point.values, METHOD, axis.method)
            point.places[METHOD] = axis.place
    return point


def _get(values: dict[str, Any], path: KeyPath) -> Any:
    """What stands at `path`; None if nothing does."""
    value: Any = values
    for part in path:
        value = cast("dict[Any, Any]", value).get(part) if isinstance(value, dict) else None
    return value


def _put(values: dict[str, Any], path: KeyPath, value: Any) -> None:
    """Let `value` stand at `path`; what is wrongly no mapping on the way there stays, for the check to find."""
    inner: Any = values
    for part in path[:-1]:
        inner = cast("dict[Any, Any]", inner).setdefault(part, {}) if isinstance(inner, dict) else None
    if isinstance(inner, dict):
        inner[path[-1]] = value


def _plan(section: config.Sweep, axes: Sequence[Axis], source: Source, problems: list[str]) -> Plan:
    """Every point checked, and as stages where none has `problems`; only then are points told that are the same."""
    first: Loaded | None = None
    points: list[Point] = []
    every: dict[str, Stage] = {}
    owner: dict[str, tuple[Any, ...]] = {}
    repeated: list[str] = []
    combinations = list(itertools.product(*(axis.values for axis in axes)))
    alike = config.Config.model_fields.keys() - {axis.path[0] for axis in axes}
    for values in combinations:
        try:
            loaded = config.check(_at(source, axes, values))
        except ConfigError as error:
            problems += error.problems
            continue
        if problems:
            continue
        first = first or loaded
        runs = len(combinations) * len(first.config.study.seeds)
        if runs > MOST_RUNS:
            raise ConfigError([f"sweep.grid  asks for {runs:,} fine-tunes; at most {MOST_RUNS:,} will do"])
        # One object for all points where none differs: they may be 90,000.
        update = {key: getattr(first.config, key) for key in alike}
        update["study"] = stages.changed(update.get("study", loaded.config.study), name=section.name)
        own = loaded.config.model_copy(update=update)
        repeated += stages.same_seeds(own)
        tuned: dict[str, Stage] = {}
        for seed in own.study.seeds:
            *parents, last = stages.chain(own.for_seed(seed), "finetune")
            tuned[last.id] = last
            for stage in parents:
                every.setdefault(stage.id, stage)
        every |= tuned
        points.append(Point(values, tuple(tuned.values())))
        if twin := next((owner[run_id] for run_id in tuned if run_id in owner), None):
            repeated.append(f"sweep.grid  {_difference(axes, twin, values)}")
        owner |= dict.fromkeys(tuned, values)
    if problems or repeated or first is None:
        raise ConfigError(list(dict.fromkeys(problems or repeated)))
    common = replace(first, config=first.config.model_copy(update={"sweep": section}))
    return Plan(common, tuple(axes), tuple(points), tuple(stages.each_once(every.values())))


def _difference(axes: Sequence[Axis], twin: Sequence[Any], values: Sequence[Any]) -> str:
    """Why two points that are the same runs are a mistake."""
    differing = [
        f"{axis.key}={json.dumps(old)} and {axis.key}={json.dumps(new)}"
        for axis, old, new in zip(axes, twin, values, strict=True)
        if old != new
    ]
    hint = "; seeds are named by --seeds or study.seeds" if any(axis.key == "seed" for axis in axes) else ""
    return f"{', '.join(differing)} are the same runs{hint}" if differing else "a value is named twice"


def preview(planned: Plan, store: Store, workers: int, force: bool = False) -> SweepPlan:
    """What `planned` would do with the runs that are in `store`."""
    cached: set[str] = set() if force else {stage.id for stage in planned.todo if stages.cached(stage, store)}
    missing = [stage for stage in planned.todo if stage.id not in cached]
    points = [(p.values, len(p.tuned), sum(stage.id in cached for stage in p.tuned)) for p in planned.points]
    seconds, unknown = time_of(missing, store, workers)
    return SweepPlan(planned.keys, tuple(points), len(missing), len(cached), seconds, unknown, workers)


def time_of(missing: Sequence[Stage], store: Store, workers: int) -> tuple[float, int]:
    """About how many seconds stages take, `workers` side by side, and how many are like no past run and not in that.

    A run takes as long as the median of the finished ones that are like it: of one stage, with the same epochs and
    batch size, and of the same method if there are any.
    """
    known: dict[tuple[Any, ...], list[float]] = {}
    for run in store.scan()[0] if missing else []:
        if run.status == "done" and run.cost:
            for alike in _alike(run.stage, run.method, run.settings):
                known.setdefault(alike, []).append(run.cost.wall_s)
    medians = {alike: statistics.median(seconds) for alike, seconds in known.items()}
    seconds = [
        next((medians[alike] for alike in _alike(stage.kind, stage.method, stage.settings) if alike in medians), None)
        for stage in missing
        if stage.epochs
    ]
    return sum(filter(None, seconds)) / workers, seconds.count(None)


def _alike(kind: str, method: str | None, settings: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    work = (kind, settings.get("epochs"), settings.get("batch_size"))
    return [(*work, method), work]


@dataclass(frozen=True)
class TunedRun:
    """What a sweep keeps of one finished fine-tune.

    `seed` is the one of `study.seeds`: the run's own may be fixed, with bases that differ. `values` are by the keys of
    the quantities that a sweep shows, `images` is the id of the F-MNIST that they are of, and `before` what the base
    gave there.
    """

    id: str
    seed: int
    values: Mapping[str, Measured | None]
    images: str | None = None
    before: Count | None = None
    ground: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def fmnist(self) -> Count | None:
        """What is right on F-MNIST."""
        return right if isinstance(right := self.values.get(HEADLINE), Count) else None


@dataclass(frozen=True)
class FailedRun:
    """A fine-tune that there is no result of, why, and the folder that says more; `seed` as in `TunedRun`."""

    id: str
    seed: int
    reason: str
    folder: str


@dataclass(frozen=True)
class GridPoint:
    """One point of the grid: a value for every axis, and what became of its fine-tunes, one for each seed."""

    values: tuple[Any, ...]
    tuned: tuple[TunedRun, ...]
    failed: tuple[FailedRun, ...]

    def over_seeds(self, quantity: Quantity) -> Folded | None:
        """What a sweep shows of the quantity, over the seeds that finished."""
        return over_seeds(quantity, [run.values.get(quantity.key) for run in self.tuned])

    @property
    def fmnist(self) -> Estimate | None:
        """Accuracy on F-MNIST over the seeds that finished."""
        return accuracy(run.fmnist for run in self.tuned)

    @property
    def gain(self) -> Difference | None:
        """Tuned − base on F-MNIST, on the same images."""
        return inference.difference([(run.before, run.fmnist) for run in self.tuned])


@dataclass(frozen=True)
class Counts:
    """What was done: how many runs were made, were there already, or have no result."""

    ran: int
    cached: int
    failed: int


@dataclass(frozen=True)
class Best:
    """The whole point with the highest mean, the next one, and how far the best is ahead, paired by seed."""

    point: GridPoint
    next: GridPoint | None
    ahead: Difference | None
    of: int


@dataclass(frozen=True)
class SweepResult:
    """All that a sweep shows.

    Attributes:
        keys: the axes, as the user wrote them.
        points: every combination of the axes' values, the last axis fastest.
        held_out: how many images of the training set all was measured on; 0: on the test set.
        tuned: counts of the points' fine-tunes.
        shared: counts of what they start from.
    """

    name: str
    keys: tuple[str, ...]
    points: tuple[GridPoint, ...]
    seeds: tuple[int, ...]
    held_out: int
    tuned: Counts
    shared: Counts

    @property
    def failures(self) -> str:
        """How many runs failed of how many, points and what they share; empty if none did."""
        counted = ((self.tuned, "fine-tunes"), (self.shared, "shared runs"))
        return " and ".join(
            f"{counts.failed:,} of {counts.ran + counts.cached + counts.failed:,} {runs}"
            for counts, runs in counted
            if counts.failed
        )

    @property
    def unequal(self) -> list[Unequal]:
        """Which fine-tunes were made with another lorabench, torch, device or kind of machine."""
        return other_ground((run.id, run.ground) for point in self.points for run in point.tuned)

    @property
    def several(self) -> bool:
        """Whether the points were measured on several F-MNISTs, which makes none of them the best."""
        return len({run.images for point in self.points for run in point.tuned}) > 1

    @property
    def best(self) -> Best | None:
        """None if no point has all its runs, or if the points were not measured on the same images."""
        if self.several:
            return None
        whole = [(mean.mean, point) for point in self.points if (mean := point.fmnist) and not point.failed]
        whole.sort(key=lambda pair: -pair[0])
        if not whole:
            return None
        if len(whole) == 1:
            return Best(whole[0][1], None, None, 1)
        first, second = whole[0][1], whole[1][1]
        behind = {run.seed: run.fmnist for run in second.tuned}
        ahead = inference.difference([(behind.get(run.seed), run.fmnist) for run in first.tuned])
        return Best(first, second, ahead, len(whole))


def tuned_run(run: Run, seed: int) -> TunedRun:
    """The few numbers that a sweep shows of `run`, the finished fine-tune of the study's `seed`.

    Raises:
        InputError: the record says done but has no accuracy (was it edited?).
    """
    if not run.metrics.keys() >= SETS.keys():
        raise InputError(f"{run.id}: its record is done and says no accuracy; run it again with --force")
    return TunedRun(
        id=run.id,
        seed=seed,
        values={quantity.key: quantity.of(run) for quantity in shown_in("sweep")},
        images=run.parents.data,
        before=count(run.before, "fmnist"),
        ground=ground(run),
    )


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep would do.

    Attributes:
        points: for every point its values, the number of its fine-tunes, and of those that are there already.
        missing: how many runs would be made, of points and of what they share.
        cached: how many are there.
        seconds: about how long that takes with `workers` side by side, by past runs.
        unknown: how many of the missing runs are like no past one, and not in `seconds`.
    """

    keys: tuple[str, ...]
    points: tuple[tuple[tuple[Any, ...], int, int], ...]
    missing: int
    cached: int
    seconds: float
    unknown: int
    workers: int


class Results:
    """Keeps of each result the few numbers that a sweep shows.

    Args:
        planned: what is swept.
        store: where the runs are.
    """

    def __init__(self, planned: Plan, store: Store) -> None:
        self._planned, self._store = planned, store
        self._tuned: dict[str, TunedRun] = {}
        self._failed: dict[str, FailedRun] = {}
        self._counts = {kind: Counter[str]() for kind in ("tuned", "shared")}

    def add(self, result: Result) -> None:
        """Keep what became of a stage."""
        stage = result.stage
        fate = "failed" if result.run is None else "cached" if result.cached else "ran"
        self._counts["tuned" if stage.kind == "finetune" else "shared"][fate] += 1
        if stage.kind == "finetune" and result.run:
            self._tuned[stage.id] = tuned_run(result.run, stage.config.seed)
        elif stage.kind == "finetune":
            folder = str(self._store.path(result.culprit))
            self._failed[stage.id] = FailedRun(stage.id, stage.config.seed, result.reason or "", folder)

    def result(self) -> SweepResult:
        """The sweep as far as it has come."""
        points = [
            GridPoint(
                point.values,
                tuple(self._tuned[stage.id] for stage in point.tuned if stage.id in self._tuned),
                tuple(self._failed[stage.id] for stage in point.tuned if stage.id in self._failed),
            )
            for point in self._planned.points
        ]
        counts = {kind: Counts(fates["ran"], fates["cached"], fates["failed"]) for kind, fates in self._counts.items()}
        settings = self._planned.config
        return SweepResult(
            name=settings.sweep.name,
            keys=self._planned.keys,
            points=tuple(points),
            seeds=settings.study.seeds,
            held_out=settings.holdout,
            **counts,
        )


def recalled(planned: Plan, store: Store) -> SweepResult:
    """What `planned` gave, from the runs that are in `store`."""
    results = Results(planned, store)
    for stage in planned.todo:
        run, own = stages.cached(stage, store), stages.placed(stage, store).id
        results.add(Result(stage, run, cached=True) if run else Result(stage, reason=_reason(own, store), culprit=own))
    return results.result()


def _reason(run_id: str, store: Store) -> str:
    """Why there is no result of a run."""
    try:
        run = store.load(run_id)
    except InputError:
        return "is not there any more"
    return run.error.message if run.error else run.status
