"""Many runs: seeds folded into a row for each setting, each against the baseline's, paired by seed.

A run's partner in the baseline has the same seed, and if there are several the same base, or one of the same seed; a
fine-tuned run and a base are partners where the one was made from the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lorabench.analysis import inference
from lorabench.analysis.aggregate import by_key, differences, means
from lorabench.analysis.fairness import unequal
from lorabench.analysis.pareto import front
from lorabench.analysis.plain import plain
from lorabench.analysis.settings import SETS, SLICES, facing, fold, partner, records
from lorabench.analysis.study import unfinished
from lorabench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from lorabench.analysis.fairness import Unequal
    from lorabench.analysis.inference import Difference, Estimate
    from lorabench.analysis.settings import Arm
    from lorabench.analysis.study import Unfinished
    from lorabench.runs import Broken, Run


KEYS = (*SETS, *(f"fmnist.{part}" for part in SLICES))
"""What is compared: the test sets, and the parts of F-MNIST."""


@dataclass(frozen=True)
class GroupRow:
    """One setting over its seeds; accuracies in percent, differences in points.

    Attributes:
        baseline: whether the other rows are compared with this one.
        trained: parameters.
        stored_bytes: of its checkpoint.
        accuracy: by the keys of `KEYS`, as far as it was measured.
        difference: this − the baseline, likewise, corrected for the number of rows; empty for the baseline, and where
            no runs are partners.
        front: whether no other row on the same F-MNIST trains fewer parameters and has a higher accuracy there, of
            those whose accuracy has an interval.
    """

    label: str
    baseline: bool
    runs: list[str]
    seeds: list[int]
    lr: float | None
    trained: int | None
    stored_bytes: int | None
    accuracy: dict[str, Estimate]
    difference: dict[str, Difference]
    front: bool
    train_s: Estimate | None
    step_ms: Estimate | None


@dataclass(frozen=True)
class Groups:
    """What `groups_report` shows. `without_model` are runs that make F-MNIST; `broken` folders cannot be read."""

    baseline: str | None
    rows: list[GroupRow]
    unequal: list[Unequal]
    without_model: list[str]
    unfinished: list[Unfinished]
    broken: list[Broken]


def groups(
    runs: Sequence[Run],
    *,
    baseline: Collection[str] = (),
    bases: Mapping[str, Run] | None = None,
    broken: Sequence[Broken] = (),
) -> Groups:
    """Fold and compare.

    Args:
        runs: any number, in the order of their rows.
        baseline: ids of runs of the setting that the others are compared with; none: the first row's.
        bases: by id. With all of them, fine-tunes whose bases were trained in other ways have rows of their own.
        broken: what cannot be read, to be named.

    Raises:
        UsageError: `baseline` is not one setting, or has no finished run.
    """
    known = records(runs) | dict(bases or {})
    found = settings(runs, bases or {})
    reference = _reference(found, baseline)
    models = [run for run in runs if run.stage != "fmnist"]
    return Groups(
        baseline=reference.label if reference else None,
        rows=_rows(found, reference, known) if reference else [],
        unequal=unequal((arm.label, arm.runs) for arm in found),
        without_model=[run.id for run in runs if run.stage == "fmnist"],
        unfinished=unfinished(models),
        broken=list(broken),
    )


def groups_data(found: Groups) -> dict[str, Any]:
    """What `groups_report` shows, as plain data."""
    return plain(found)


def settings(runs: Iterable[Run], bases: Mapping[str, Run]) -> list[Arm]:
    """The finished runs among `runs`, bases too, folded over their seeds; `bases` as `groups` takes them."""
    done = [run for run in runs if run.status == "done" and run.stage != "fmnist"]
    return fold(done, bases)


def _reference(found: Sequence[Arm], baseline: Collection[str]) -> Arm | None:
    if not baseline:
        return found[0] if found else None
    fitting = [arm for arm in found if any(run.id in baseline for run in arm.runs)]
    if not fitting:
        raise UsageError("--baseline: no run that it names is finished and has a model")
    if len(fitting) > 1:
        labels = ", ".join(arm.label for arm in fitting)
        raise UsageError(f"--baseline names {len(fitting)} settings: {labels}; name runs of one of them")
    return fitting[0]


def _rows(found: Sequence[Arm], reference: Arm, bases: Mapping[str, Run]) -> list[GroupRow]:
    accuracies = [means([run.metrics for run in arm.runs], KEYS) for arm in found]
    gaps = by_key([{} if arm is reference else _differences(arm, reference, bases) for arm in found])
    sizes = [arm.runs[0].params.trainable if arm.runs[0].params else None for arm in found]
    points = [
        (float(size), mean.mean) if size is not None and (mean := on.get("fmnist")) and not mean.lacks else None
        for size, on in zip(sizes, accuracies, strict=True)
    ]
    images = [arm.recipe["data"] for arm in found]
    on_front = [
        front([point if other == own else None for point, other in zip(points, images, strict=True)])[index]
        for index, own in enumerate(images)
    ]
    return [
        GroupRow(
            label=arm.label,
            baseline=arm is reference,
            runs=[run.id for run in arm.runs],
            seeds=[run.seed for run in arm.runs],
            lr=arm.runs[0].settings.get("lr"),
            trained=sizes[index],
            stored_bytes=arm.runs[0].checkpoint_bytes,
            accuracy=accuracies[index],
            difference=gaps[index],
            front=on_front[index],
            train_s=inference.mean([run.cost.train_s if run.cost else None for run in arm.runs]),
            step_ms=inference.mean([run.cost.step_ms if run.cost else None for run in arm.runs]),
        )
        for index, arm in enumerate(found)
    ]


def pairs(runs: Iterable[Run], reference: Sequence[Run], bases: Mapping[str, Run]) -> list[tuple[Run, Run]]:
    """Each of `runs` that has a partner in `reference`, the runs of the baseline, after it; `bases` by id.

    Both have the metrics that can be held against each other, see `facing`.
    """
    both = [(other, run) for run in runs if (other := partner(run, reference, bases))]
    return [
        (other.model_copy(update={"metrics": before}), run.model_copy(update={"metrics": after}))
        for other, run in both
        for before, after in [facing(other, run)]
    ]


def _differences(arm: Arm, reference: Arm, bases: Mapping[str, Run]) -> dict[str, Difference]:
    both = pairs(arm.runs, reference.runs, bases)
    return differences([(other.metrics, run.metrics) for other, run in both], KEYS)
