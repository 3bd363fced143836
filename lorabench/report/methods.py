"""A study's ways to fine-tune side by side: what each gives, what it forgets, what it costs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lorabench import inference
from lorabench.report import number
from lorabench.report.accuracy import by_key, differences, means, told, with_n
from lorabench.report.arm import base_metrics, bases, facing, main_arm, partner, records
from lorabench.report.spectrum import merges, spectrum_rows
from lorabench.report.style import grid, group, note, stack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.inference import Difference, Estimate
    from lorabench.report.arm import Arm
    from lorabench.report.blocks import Block
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


def methods_tables(rows: Sequence[MethodRow], reference: str) -> Block:
    """Three tables: what all methods give, those of the reference's size among them, and what all forget and cost.

    `reference` is the label of the row that the others are compared with.
    """
    trained = next(row.trained for row in rows if row.label == reference)
    matched = [row for row in rows if row.matched]
    title = f"about {trained:,} parameters" if trained else ""
    seeds = max((row.fmnist.n for row in rows if row.fmnist), default=0)
    if seeds < inference.FEWEST:
        how = f"{number.seeds(seeds)}: no interval; run {inference.FEWEST} or more to compare"
    else:
        how = f"mean over {number.seeds(seeds)} +- half of the 95% t interval over trainings, on these test images;\n"
        how += "differences are paired by seed, each interval at 95% alone; whether there is one is\n"
        how += (
            f"decided by the paired t test and Holm, for {max((r.versus.of for r in rows if r.versus), default=1)} rows"
        )
    cost = (
        "forgotten: on MNIST, base - tuned, points; stored: bytes of the checkpoint;\n"
        "ms: a training step, as it was in this study; folds: into plain linear layers;\n"
        "rank: how many singular directions hold 90% of the squared change of fc1's weight"
    )
    return stack(
        [
            group(_results("every method", rows, reference), note(how)),
            _results(title, matched, reference) if 1 < len(matched) < len(rows) else None,
            group(_costs(rows), note(cost)),
        ]
    )


def _results(title: str, rows: Sequence[MethodRow], reference: str) -> Block:
    table = grid(title, "F-MNIST, %", "flipped, %", f"F-MNIST - {reference}", align="<<<<")
    for row in rows:
        n = row.fmnist.n if row.fmnist else 0
        table.add_row(row.label, _plus_minus(row.fmnist), _flipped(row.flipped), _versus(row.versus, n))
    return table


def _flipped(found: Estimate | None) -> str:
    """Without an interval the mean alone: each seed's value stands beside it, of all images."""
    return number.decimal(found.mean) if found and found.high is None else _plus_minus(found)


def _costs(rows: Sequence[MethodRow]) -> Block:
    table = grid("cost", "MNIST", "forgotten", "trained", "stored", "ms", "folds", "rank", align="<><>>>>>")
    for row in rows:
        table.add_row(
            row.label,
            number.decimal(row.mnist.mean) if row.mnist else "",
            _plus_minus(row.forgotten, sign=True),
            f"{row.trained:,}" if row.trained is not None else "",
            f"{row.stored_bytes:,}" if row.stored_bytes is not None else "",
            number.decimal(row.step_ms.mean) if row.step_ms else "",
            {True: "yes", False: "no", None: ""}[row.merges],
            f"{row.rank90['fc1']:.0f}" if "fc1" in row.rank90 else "",
        )
    return table


def _plus_minus(found: Estimate | None, *, sign: bool = False) -> str:
    if found is None:
        return ""
    text = number.plus_minus(found, sign=sign)
    return f"{text}\nseeds: {number.values(found)}" if found.scattered else text


def _versus(found: Difference | None, n: int) -> str:
    return told(with_n(_plus_minus(found.estimate, sign=True), found.estimate, n), found) if found else ""
