"""Everything that is measured of a run, each quantity declared once.

    QUANTITIES["fmnist.accuracy"].of(run)      # Count(9774, 10_000)
    shown_in("methods")                        # what a table shows, in the order of its columns

The fields of `ls`, the columns of CSV, gates and their deltas, the tables over seeds, sweeps and JSON follow from the
declarations: who adds one finds it in all of them. Imports neither scipy nor torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from lorabench.analysis.unit import BYTES, COUNT, MILLISECONDS, NATS, NUMBER, POINTS, SECONDS, SHARE, Unit
from lorabench.classifier import CLASSIFIER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lorabench.query import Value
    from lorabench.runs import Metrics, Run

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
        of: what a run gives; None if it was not measured.
        name: what the rows of JSON call it; empty: it stands in no such row.
        columns: table -> how it is shown there: `runs` (of `ls`), `accuracy`, `settings`, `methods`, `comparison`
            (of two runs, and of one), `sweep`.
        better: which way is.
        compared: whether differences between settings are formed, paired run by run.
        shared: whether all seeds of a setting have the same, so that there is no mean to form.
        tuned: whether only a fine-tune has it.
    """

    key: str
    unit: Unit
    of: Callable[[Run], Measured | None]
    name: str = ""
    columns: Mapping[str, Column] = field(default_factory=dict[str, Column])
    better: Better | None = None
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


def _accuracies() -> list[Quantity]:
    """Of a run and, under `before.`, of its base: of each test set, and of each part of F-MNIST."""
    names = {"mnist": "mnist", "fmnist": "fmnist", "fmnist.flipped": "flipped"}
    columns: dict[str, Mapping[str, Column]] = {
        "mnist": dict.fromkeys(("runs", "accuracy", "methods", "sweep"), Column("MNIST")),
        "fmnist": dict.fromkeys(("runs", "accuracy", "settings", "sweep"), Column("F-MNIST")),
        "fmnist.flipped": dict.fromkeys(("settings", "sweep"), Column(SLICES["flipped"], spread=True)),
    }
    stems = [*SETS, *(f"fmnist.{part}" for part in SLICES)]
    own = [
        Quantity(f"{stem}.accuracy", SHARE, partial(_count, stem), names.get(stem, ""), columns.get(stem, {}), "higher")
        for stem in stems
    ]
    of_base = [
        Quantity(f"before.{stem}.accuracy", SHARE, partial(_count_before, stem), better="higher", tuned=True)
        for stem in stems
    ]
    return [*(replace(quantity, compared=True) for quantity in own), *of_base]


def _losses() -> list[Quantity]:
    quantities: list[Quantity] = []
    for name, title in SETS.items():
        column = {"comparison": Column(f"{title} loss, nats", decimals=4)}
        quantities += [
            Quantity(f"{name}.loss", NATS, partial(_loss, name), columns=column, better="lower"),
            Quantity(f"before.{name}.loss", NATS, partial(_loss_before, name), better="lower", tuned=True),
        ]
    return quantities


def _count(stem: str, run: Run) -> Count | None:
    return count(run.metrics, stem)


def _count_before(stem: str, run: Run) -> Count | None:
    return count(run.before, stem)


def _loss(name: str, run: Run) -> float | None:
    return run.metrics[name].loss if name in run.metrics else None


def _loss_before(name: str, run: Run) -> float | None:
    return run.before[name].loss if name in run.before else None


def _forgotten(run: Run) -> Lost | None:
    before, after = count(run.before, "mnist"), count(run.metrics, "mnist")
    return Lost(before, after) if before and after else None


def _mergeable(run: Run) -> bool | None:
    return True if "delta_w" in run.checks else False if "delta_w_skipped" in run.checks else None


def _rank90(layer: str, run: Run) -> int | None:
    return run.checks.get("delta_w", {}).get(layer, {}).get("rank90")


def _reading(path: str) -> Callable[[Run], Measured | None]:
    """What stands at a dotted path of the record; None where something on the way there is missing."""
    return lambda run: reduce(lambda part, name: getattr(part, name, None), path.split("."), cast("Any", run))


def _size(key: str, name: str = "", columns: Mapping[str, Column] | None = None) -> Quantity:
    """A number of parameters."""
    return Quantity(key, COUNT, _reading(key), name, columns or {}, shared=True)


def _cost(
    field: str, unit: Unit, name: str = "", columns: Mapping[str, Column] | None = None, better: Better = "lower"
) -> Quantity:
    """What a run took."""
    return Quantity(f"cost.{field}", unit, _reading(f"cost.{field}"), name, columns or {}, better)


_DECLARED = [
    *_accuracies(),
    *_losses(),
    Quantity(
        "forgotten", POINTS, _forgotten, "forgotten", {"methods": Column("forgotten", spread=True)}, "lower", tuned=True
    ),
    _size("params.total", columns={"comparison": Column("parameters")}),
    _size(
        "params.trainable",
        "trained",
        {
            "comparison": Column("  trained"),
            **dict.fromkeys(("runs", "settings", "methods", "sweep"), Column("trained")),
        },
    ),
    _size("params.frozen"),
    Quantity(
        "checkpoint_bytes",
        BYTES,
        _reading("checkpoint_bytes"),
        "stored_bytes",
        {"comparison": Column("checkpoint, B"), "settings": Column("stored"), "methods": Column("stored")},
        "lower",
        shared=True,
    ),
    _cost("steps", COUNT, columns={"comparison": Column("steps")}),
    _cost(
        "train_s",
        SECONDS,
        "train_s",
        {"comparison": Column("training, s", decimals=2), "settings": Column("s", decimals=2)},
    ),
    _cost("wall_s", SECONDS, columns={"comparison": Column("the whole run, s", decimals=2)}),
    _cost(
        "step_ms",
        MILLISECONDS,
        "step_ms",
        {"comparison": Column("  a step, ms", decimals=2), "methods": Column("ms", decimals=2)},
    ),
    _cost("images_per_s", NUMBER, columns={"comparison": Column("  images/s")}, better="higher"),
    _cost("peak_rss_bytes", BYTES),
    _cost("rss_before_bytes", BYTES, columns={"comparison": Column("memory before training, MB", per=1e6)}),
    _cost("training_rss_bytes", BYTES, columns={"comparison": Column("  most that it took, MB", per=1e6)}),
    Quantity("mergeable", NUMBER, _mergeable, "merges", {"methods": Column("mergeable")}, shared=True, tuned=True),
    *(
        Quantity(
            f"checks.delta_w.{layer}.rank90",
            COUNT,
            partial(_rank90, layer),
            columns={"methods": Column("rank")} if layer == "fc1" else {},
            tuned=True,
        )
        for layer in CLASSIFIER
    ),
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
    return QUANTITIES.get(stem) or QUANTITIES.get(f"{stem}.accuracy") or QUANTITIES.get(_parent(stem))


def _parent(name: str) -> str:
    stem, _, word = name.rpartition(".")
    return f"{stem}.accuracy" if word in {"correct", "n"} else ""
