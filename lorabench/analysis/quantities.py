"""Everything that is measured of a run, each quantity declared once, and the units of what runs hold.

    QUANTITIES["fmnist.accuracy"].of(run)      # Count(9774, 10_000)
    shown_in("methods")                        # what a table shows, in the order of its columns

The fields of `ls`, the columns of CSV, gates and their deltas, the tables over seeds, sweeps and JSON follow from the
declarations: who adds one finds it in all of them. Imports neither scipy nor torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any, Literal, NamedTuple, cast

from lorabench.query import Value
from lorabench.runs import Metrics, Run


@dataclass(frozen=True)
class Unit:
    """What the numbers of a field are.

    Attributes:
        noun: for messages, what such a field is.
        low: what no value is below; None: nothing.
        high: what no value is above; None: nothing.
        whole: whether only whole numbers occur.
        percent: whether a number may, must or must not have a `%`; 0 never must.
    """

    noun: str
    low: int | None = 0
    high: int | None = None
    whole: bool = False
    percent: Literal["may", "must", "never"] = "never"

    def problem(self, value: Fraction, text: str) -> str | None:
        """Why `value`, written as `text`, is no number of this unit, and what would be; None if it is one."""
        signed = text.endswith("%")
        if signed and self.percent == "never":
            return f"{self.noun}, so no %"
        if not signed and 0 < abs(value) <= 100 and self.percent == "must":
            both = f"{_percent(value)} or {_percent(100 * value)}" if abs(value) <= 1 else _percent(value)
            return f"{self.noun}; write {both}"
        if not signed and self.percent == "may" and 1 <= value <= 100:
            return f"{self.noun}; write {_percent(value)} or {'100%' if value == 1 else _decimal(value / 100)}"
        if (self.low is not None and value < self.low) or (self.high is not None and value > self.high):
            ends = (
                f"below {self.low}" if self.high is None else f"outside {100 * (self.low or 0)}% to {100 * self.high}%"
            )
            return f"{self.noun}, never {ends}"
        if self.whole and value.denominator != 1:
            return f"{self.noun}; write a whole number"
        return None


SHARE = Unit("a share", high=1, percent="may")
PROBABILITY = Unit("a probability", high=1, percent="may")
POINTS = Unit("a difference in points", low=-1, high=1, percent="must")
COUNT = Unit("a count", whole=True)
BYTES = Unit("a number of bytes", whole=True)
SECONDS = Unit("a number of seconds")
MILLISECONDS = Unit("a number of milliseconds")
NATS = Unit("a loss in nats")
NUMBER = Unit("a number without a unit", low=None)

_DESCRIBES = {
    **dict.fromkeys(("fraction", "warmup"), SHARE),
    **dict.fromkeys(("epochs", "batch_size", "k", "seed", "holdout", "rank90", "threads", "correct", "n"), COUNT),
}


def described(name: str) -> Unit:
    """The unit of a field that no quantity declares, which its last word says."""
    return _DESCRIBES.get(name.rpartition(".")[2], NUMBER)


def _percent(value: Fraction) -> str:
    return f"{_decimal(value)}%"


def _decimal(value: Fraction) -> str:
    return f"{float(value):.10g}"


SETS = {"mnist": "MNIST", "fmnist": "F-MNIST"}
"""The test sets in their order, and what a reader calls them."""

SLICES = {"flipped": "mirrored", "upright": "not mirrored", "rest": "other digits"}
"""The parts of F-MNIST's test set in their order, and what a reader calls them."""


class Count(NamedTuple):
    """`correct` of `n` images."""

    correct: int
    n: int

    @property
    def percent(self) -> float:
        """The accuracy; `n` is not 0."""
        return 100 * self.correct / self.n


class Lost(NamedTuple):
    """What training lost on the same images."""

    before: Count
    after: Count


Measured = Count | Lost | float | bool
"""What a run gives of a quantity."""
Better = Literal["higher", "lower"]


class Column(NamedTuple):
    """How a table shows a quantity.

    Attributes:
        head: of its column, or of its row where the runs are the columns.
        spread: whether half of the interval stands beside the mean.
        decimals: of a plain number.
        per: the unit of the head, in that of the quantity: 1e6 for megabytes of a number of bytes.
    """

    head: str
    spread: bool = False
    decimals: int = 0
    per: float = 1


@dataclass(frozen=True)
class Quantity:
    """One thing that is measured of a run.

    Attributes:
        key: the field's name; of an accuracy it ends in `.accuracy`.
        unit: of the field; an accuracy is a fraction there and percent in tables.
        name: what the rows of JSON call it; empty: it stands in no such row.
        columns: table -> how it is shown there: `runs` (of `ls`), `accuracy`, `settings`, `methods`, `comparison`
            (of two runs, and of one), `sweep`.
        better: which way is.
        read: how a run gives it, None if it was not measured; without `read` it stands in the record at `key`.
        compared: whether differences between settings are formed, paired run by run.
        shared: whether all seeds of a setting have the same, so that there is no mean to form.
        tuned: whether only a fine-tune has it.
    """

    key: str
    unit: Unit
    name: str = ""
    columns: Mapping[str, Column] = field(default_factory=dict[str, Column])
    better: Better | None = None
    read: Callable[[Run], Measured | None] | None = None
    compared: bool = False
    shared: bool = False
    tuned: bool = False

    @property
    def stem(self) -> str:
        """The key without what every accuracy ends in: `fmnist.flipped`."""
        return self.key.removesuffix(".accuracy")

    @property
    def counts(self) -> bool:
        """Whether it is an accuracy, of which a run says how many images are right of how many."""
        return self.stem != self.key

    def of(self, run: Run) -> Measured | None:
        """What the run gives; None if it was not measured."""
        return self.read(run) if self.read else at(self.key, run)

    def fields(self, run: Run) -> dict[str, Value]:
        """What can be asked of the run by name: exact, in the units of run.json."""
        measured = self.of(run)
        if isinstance(measured, Lost):
            return {self.key: Fraction(*measured.before) - Fraction(*measured.after)}
        if self.counts:
            right, n = measured if isinstance(measured, Count) else (None, None)
            share = Fraction(right, n) if right is not None and n else None
            return {self.key: share, f"{self.stem}.correct": right, f"{self.stem}.n": n}
        return {self.key: None if isinstance(measured, Count) else measured}


def count(metrics: Mapping[str, Metrics], stem: str) -> Count | None:
    """What is right on the test set `mnist` or `fmnist`, or on a part of it, `fmnist.flipped`; None if not measured."""
    name, _, part = stem.partition(".")
    whole = metrics.get(name)
    counted = whole.slices.get(part) if whole and part else whole
    return Count(counted.correct, counted.n) if counted else None


def at(path: str, run: Run) -> Any:
    """What stands at a dotted path of the record; None where something on the way there is missing."""
    value: Any = run
    for name in path.split("."):
        value = cast("dict[str, Any]", value).get(name) if isinstance(value, dict) else getattr(value, name, None)
    return value


def _counted(of: Literal["metrics", "before"], stem: str, run: Run) -> Count | None:
    return count(getattr(run, of), stem)


def _forgotten(run: Run) -> Lost | None:
    before, after = count(run.before, "mnist"), count(run.metrics, "mnist")
    return Lost(before, after) if before and after else None


def _mergeable(run: Run) -> bool | None:
    return True if "delta_w" in run.checks else False if "delta_w_skipped" in run.checks else None


def _in(*, spread: bool = False, decimals: int = 0, per: float = 1, **heads: str) -> dict[str, Column]:
    """By table, the column with this head."""
    return {table: Column(head, spread, decimals, per) for table, head in heads.items()}


def _accuracy(stem: str, name: str = "", columns: Mapping[str, Column] | None = None) -> Quantity:
    read = partial(_counted, "metrics", stem)
    return Quantity(f"{stem}.accuracy", SHARE, name, columns or {}, "higher", read, compared=True)


def _accuracy_before(stem: str) -> Quantity:
    read = partial(_counted, "before", stem)
    return Quantity(f"before.{stem}.accuracy", SHARE, better="higher", read=read, tuned=True)


def _losses(name: str) -> list[Quantity]:
    """Of a run on a test set, and of its base there."""
    columns, read = _in(comparison=f"{SETS[name]} loss, nats", decimals=4), partial(at, f"metrics.{name}.loss")
    own = Quantity(f"{name}.loss", NATS, "", columns, "lower", read)
    return [own, Quantity(f"before.{name}.loss", NATS, better="lower", tuned=True)]


_TRAINED = _in(runs="trained", settings="trained", methods="trained", sweep="trained", comparison="  trained")
_STORED = _in(settings="stored", methods="stored", comparison="checkpoint, B")

_DECLARED = [
    _accuracy("mnist", "mnist", _in(runs="MNIST", accuracy="MNIST", methods="MNIST", sweep="MNIST")),
    _accuracy("fmnist", "fmnist", _in(runs="F-MNIST", accuracy="F-MNIST", settings="F-MNIST", sweep="F-MNIST")),
    _accuracy("fmnist.flipped", "flipped", _in(settings="mirrored", sweep="mirrored", spread=True)),
    _accuracy("fmnist.upright"),
    _accuracy("fmnist.rest"),
    *map(_accuracy_before, [*SETS, *(f"fmnist.{part}" for part in SLICES)]),
    *(loss for name in SETS for loss in _losses(name)),
    Quantity("forgotten", POINTS, "forgotten", _in(methods="forgotten", spread=True), "lower", _forgotten, tuned=True),
    Quantity("params.total", COUNT, columns=_in(comparison="parameters"), shared=True),
    Quantity("params.trainable", COUNT, "trained", _TRAINED, shared=True),
    Quantity("params.frozen", COUNT, shared=True),
    Quantity("checkpoint_bytes", BYTES, "stored_bytes", _STORED, "lower", shared=True),
    Quantity("cost.steps", COUNT, columns=_in(comparison="steps"), better="lower"),
    Quantity("cost.train_s", SECONDS, "train_s", _in(comparison="training, s", settings="s", decimals=2), "lower"),
    Quantity("cost.wall_s", SECONDS, columns=_in(comparison="the whole run, s", decimals=2), better="lower"),
    Quantity(
        "cost.step_ms", MILLISECONDS, "step_ms", _in(comparison="  a step, ms", methods="ms", decimals=2), "lower"
    ),
    Quantity("cost.images_per_s", NUMBER, columns=_in(comparison="  images/s"), better="higher"),
    Quantity("cost.peak_rss_bytes", BYTES, better="lower"),
    Quantity("cost.rss_before_bytes", BYTES, "", _in(comparison="memory before training, MB", per=1e6), "lower"),
    Quantity("cost.training_rss_bytes", BYTES, "", _in(comparison="  most that it took, MB", per=1e6), "lower"),
    Quantity("mergeable", NUMBER, "merges", _in(methods="mergeable"), read=_mergeable, shared=True, tuned=True),
    Quantity("checks.delta_w.fc1.rank90", COUNT, columns=_in(methods="rank"), tuned=True),
    Quantity("checks.delta_w.fc2.rank90", COUNT, tuned=True),
    Quantity("checks.delta_w.fc3.rank90", COUNT, tuned=True),
]

HEADLINE = "fmnist.accuracy"
"""The key of what a repair is judged by."""

QUANTITIES = {quantity.key: quantity for quantity in _DECLARED}
"""By key, in the order in which tables show them."""


def shown_in(table: str) -> list[Quantity]:
    """What the table shows, in the order of its columns."""
    return [quantity for quantity in QUANTITIES.values() if table in quantity.columns]


def compared() -> list[Quantity]:
    """Of what differences between settings are formed."""
    return [quantity for quantity in QUANTITIES.values() if quantity.compared]


def quantity_of(name: str) -> Quantity | None:
    """Which quantity the field `name` belongs to; None for what describes a run and was not measured.

    `fmnist.correct` and `fmnist.n` belong to `fmnist.accuracy`, and `fmnist.delta.low` does.
    """
    stem = name.partition(".delta.")[0]
    return QUANTITIES.get(stem) or QUANTITIES.get(f"{stem.removesuffix('.correct').removesuffix('.n')}.accuracy")
