"""Everything that is measured of a run, each quantity declared once.

    QUANTITIES["fmnist.accuracy"].of(run)      # Count(9774, 10_000)
    shown_in("methods")                        # what a table shows, in the order of its columns

The fields of `ls`, the columns of CSV, gates and their deltas, the tables over seeds, sweeps and JSON follow from the
declarations: who adds one finds it in all of them. Imports neither scipy nor torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, NamedTuple

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
    better: Literal["higher", "lower"] | None = None
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
        found = self.of(run)
        if isinstance(found, Lost):
            return {self.key: Fraction(*found.before) - Fraction(*found.after)}
        if self.counts:
            right, n = found if isinstance(found, Count) else (None, None)
            share = Fraction(right, n) if right is not None and n else None
            return {self.key: share, f"{self.stem}.correct": right, f"{self.stem}.n": n}
        return {self.key: None if isinstance(found, Count) else found}


def count(metrics: Mapping[str, Metrics], stem: str) -> Count | None:
    """What is right on the test set `mnist` or `fmnist`, or on a part of it, `fmnist.flipped`; None if not measured."""
    name, _, part = stem.partition(".")
    whole = metrics.get(name)
    counted = whole.slices.get(part) if whole and part else whole
    return Count(counted.correct, counted.n) if counted else None


def _accuracies() -> list[Quantity]:
    found: list[Quantity] = []
    columns = {
        "mnist": {table: Column("MNIST") for table in ("runs", "accuracy", "methods", "sweep")},
        "fmnist": {table: Column("F-MNIST") for table in ("runs", "accuracy", "settings", "sweep")},
        "fmnist.flipped": {table: Column(SLICES["flipped"], spread=True) for table in ("settings", "sweep")},
    }
    names = {"mnist": "mnist", "fmnist": "fmnist", "fmnist.flipped": "flipped"}
    for stem in (*SETS, *(f"fmnist.{part}" for part in SLICES)):
        found += [
            Quantity(
                key=f"{stem}.accuracy",
                unit=SHARE,
                of=lambda run, stem=stem: count(run.metrics, stem),
                name=names.get(stem, ""),
                columns=columns.get(stem, {}),
                better="higher",
                compared=True,
            ),
            Quantity(
                key=f"before.{stem}.accuracy",
                unit=SHARE,
                of=lambda run, stem=stem: count(run.before, stem),
                better="higher",
                tuned=True,
            ),
        ]
    return found


def _losses() -> list[Quantity]:
    return [
        Quantity(
            key=f"{prefix}{name}.loss",
            unit=NATS,
            of=lambda run, prefix=prefix, name=name: _loss(run.before if prefix else run.metrics, name),
            columns={} if prefix else {"comparison": Column(f"{SETS[name]} loss, nats", decimals=4)},
            better="lower",
            tuned=bool(prefix),
        )
        for prefix in ("", "before.")
        for name in SETS
    ]


def _loss(metrics: Mapping[str, Metrics], name: str) -> float | None:
    return metrics[name].loss if name in metrics else None


def _forgotten(run: Run) -> Lost | None:
    before, after = count(run.before, "mnist"), count(run.metrics, "mnist")
    return Lost(before, after) if before and after else None


def _mergeable(run: Run) -> bool | None:
    return True if "delta_w" in run.checks else False if "delta_w_skipped" in run.checks else None


def _of_cost(name: str) -> Callable[[Run], Measured | None]:
    return lambda run: getattr(run.cost, name, None)


def _of_params(name: str) -> Callable[[Run], Measured | None]:
    return lambda run: getattr(run.params, name, None)


_DECLARED = [
    *_accuracies(),
    *_losses(),
    Quantity(
        key="forgotten",
        unit=POINTS,
        of=_forgotten,
        name="forgotten",
        columns={"methods": Column("forgotten", spread=True)},
        better="lower",
        tuned=True,
    ),
    Quantity("params.total", COUNT, _of_params("total"), columns={"comparison": Column("parameters")}, shared=True),
    Quantity(
        key="params.trainable",
        unit=COUNT,
        of=_of_params("trainable"),
        name="trained",
        columns={"comparison": Column("  trained")}
        | {table: Column("trained") for table in ("runs", "settings", "methods", "sweep")},
        better="lower",
        shared=True,
    ),
    Quantity("params.frozen", COUNT, _of_params("frozen"), shared=True),
    Quantity(
        key="checkpoint_bytes",
        unit=BYTES,
        of=lambda run: run.checkpoint_bytes,
        name="stored_bytes",
        columns={"comparison": Column("checkpoint, B"), "settings": Column("stored"), "methods": Column("stored")},
        better="lower",
        shared=True,
    ),
    Quantity("cost.steps", COUNT, _of_cost("steps"), columns={"comparison": Column("steps")}),
    Quantity(
        key="cost.train_s",
        unit=SECONDS,
        of=_of_cost("train_s"),
        name="train_s",
        columns={"comparison": Column("training, s", decimals=2), "settings": Column("s", decimals=2)},
        better="lower",
    ),
    Quantity(
        key="cost.wall_s",
        unit=SECONDS,
        of=_of_cost("wall_s"),
        columns={"comparison": Column("the whole run, s", decimals=2)},
        better="lower",
    ),
    Quantity(
        key="cost.step_ms",
        unit=MILLISECONDS,
        of=_of_cost("step_ms"),
        name="step_ms",
        columns={"comparison": Column("  a step, ms", decimals=2), "methods": Column("ms", decimals=2)},
        better="lower",
    ),
    Quantity(
        key="cost.images_per_s",
        unit=NUMBER,
        of=_of_cost("images_per_s"),
        columns={"comparison": Column("  images/s")},
        better="higher",
    ),
    Quantity("cost.peak_rss_bytes", BYTES, _of_cost("peak_rss_bytes"), better="lower"),
    Quantity(
        key="cost.rss_before_bytes",
        unit=BYTES,
        of=_of_cost("rss_before_bytes"),
        columns={"comparison": Column("memory before training, MB", per=1e6)},
    ),
    Quantity(
        key="cost.training_rss_bytes",
        unit=BYTES,
        of=_of_cost("training_rss_bytes"),
        columns={"comparison": Column("  most that it took, MB", per=1e6)},
        better="lower",
    ),
    Quantity(
        key="mergeable",
        unit=NUMBER,
        of=_mergeable,
        name="merges",
        columns={"methods": Column("folds")},
        shared=True,
        tuned=True,
    ),
    *(
        Quantity(
            key=f"checks.delta_w.{layer}.rank90",
            unit=COUNT,
            of=lambda run, layer=layer: run.checks.get("delta_w", {}).get(layer, {}).get("rank90"),
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
