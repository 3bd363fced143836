"""A study's ways to fine-tune side by side: what each gives, what it forgets, what it costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lorabench.analysis import inference
from lorabench.analysis.aggregate import by_key, differences, means
from lorabench.analysis.settings import base_metrics, bases, facing, main_arm, partner, records
from lorabench.analysis.spectrum import merges, spectrum_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.analysis.inference import Difference, Estimate
    from lorabench.analysis.settings import Arm
    from lorabench.runs import Run


MATCHED = 0.1
"""How far, as a share, a number of trained parameters may be from the reference's to count as the same size."""


@dataclass(frozen=True)
class MethodRow:
    """One arm over its seeds; accuracies in percent, differences in points.

    Attributes:
        trained: parameters.
        matched: whether that is the reference's number within `MATCHED`; None if either is unknown.
        stored_bytes: of its checkpoint.
        forgotten: on MNIST, base − tuned.
        versus: on F-MNIST, this − the reference, paired by seed and base, corrected for the number of rows; None for
            the reference itself, unmeasured, or on another F-MNIST.
        step_ms: milliseconds of a training step, in the study.
        merges: whether it folds into plain linear layers; None if its runs do not say.
        rank90: layer -> mean number of singular directions that hold 90% of ‖ΔW‖_F².
    """

    label: str
    lr: float | None
    trained: int | None
    matched: bool | None
    stored_bytes: int | None
    fmnist: Estimate | None
    flipped: Estimate | None
    mnist: Estimate | None
    forgotten: Estimate | None
    versus: Difference | None
    step_ms: Estimate | None
    merges: bool | None
    rank90: dict[str, float]


def method_rows(runs: Sequence[Run], found: Sequence[Arm]) -> list[MethodRow]:
    """A row for each arm, if there are several; the reference is the talk's LoRA, or what `main_arm` takes for it."""
    reference = main_arm(found)
    if reference is None or len(found) < 2:
        return []
    known, made = bases(runs), records(runs)
    rows: list[MethodRow] = []
    for arm in found:
        twins = [facing(twin, run) for run in arm.runs if (twin := partner(run, reference.runs, made))]
        versus = differences([] if arm is reference else twins, ("fmnist",))
        lost = differences([(run.metrics, base_metrics(run, known)) for run in arm.runs], ("mnist",))
        rows.append(_row(arm, reference, versus.get("fmnist"), lost.get("mnist")))
    gaps = by_key([{"versus": row.versus} if row.versus else {} for row in rows])
    return [replace(row, versus=gap.get("versus")) for row, gap in zip(rows, gaps, strict=True)]


def _row(arm: Arm, reference: Arm, versus: Difference | None, lost: Difference | None) -> MethodRow:
    first, other = arm.runs[0], reference.runs[0]
    accuracy = means([run.metrics for run in arm.runs], ("fmnist", "fmnist.flipped", "mnist"))
    spectra = [row for run in arm.runs for row in spectrum_rows(run)]
    ranks = {row.layer: [float(other.rank90) for other in spectra if other.layer == row.layer] for row in spectra}
    sizes = (first.params.trainable, other.params.trainable) if first.params and other.params else None
    return MethodRow(
        label=arm.label,
        lr=first.settings.get("lr"),
        trained=sizes[0] if sizes else None,
        matched=abs(sizes[0] / sizes[1] - 1) <= MATCHED if sizes else None,
        stored_bytes=first.checkpoint_bytes,
        fmnist=accuracy.get("fmnist"),
        flipped=accuracy.get("fmnist.flipped"),
        mnist=accuracy.get("mnist"),
        forgotten=lost.estimate if lost else None,
        versus=versus,
        step_ms=inference.mean([run.cost.step_ms if run.cost else None for run in arm.runs]),
        merges=merges(first),
        rank90={layer: sum(values) / len(values) for layer, values in ranks.items()},
    )
