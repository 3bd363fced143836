"""The study's 2x2 (base and tuned, MNIST and F-MNIST) and the parts of F-MNIST, with differences by seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabench.analysis import inference, number
from lorabench.analysis.aggregate import AccuracyRow, SliceRow, verdict
from lorabench.analysis.quantities import SETS, SLICES
from lorabench.report.style import grid, line, note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.analysis.inference import Difference, Estimate
    from lorabench.report.blocks import Block, Line


def with_n(text: str, estimate: Estimate, n: int) -> str:
    """`text` about `estimate`, and how many values that has where they are not the `n` of its row or table."""
    return text if estimate.n == n else f"{text} n={estimate.n}"


def glance_table(rows: Sequence[AccuracyRow]) -> Block:
    """The means of the 2x2 alone."""
    table = grid("right, %", *SETS.values(), align="<>>")
    for row in rows:
        means = [row.accuracy[name].mean if name in row.accuracy else None for name in SETS]
        table.add_row(row.label, *("-" if mean is None else number.decimal(mean) for mean in means))
    return table


def accuracy_table(rows: Sequence[AccuracyRow]) -> Block:
    """The 2x2; below each difference whether there is one."""
    n = _most(rows)
    table = grid("accuracy, %", *SETS.values(), align="<<<")
    for row in rows:
        table.add_row(row.label, *(_cell(row.accuracy.get(name), n) for name in SETS))
        if row.difference:
            cells = [_difference_cell(row.difference.get(name), n) for name in SETS]
            table.add_row(line(f"  {row.label.split(' ')[0]} - base", "dim"), *cells)
    return table


def _most(rows: Sequence[AccuracyRow]) -> int:
    return max((estimate.n for row in rows for estimate in row.accuracy.values()), default=0)


def _cell(value: Estimate | None, n: int) -> Line:
    if value is None:
        return line("not measured")
    text = line(with_n(number.estimate(value), value, n))
    if value.images:
        text += line(f"\nimages too {number.interval(*value.images)}", "dim")
    if value.scattered:
        text += line(f"\nseeds: {number.values(value)}", "yellow")
    return text


def _difference_cell(value: Difference | None, n: int) -> Line:
    if value is None:
        return line("")
    lines = line(with_n(number.estimate(value.estimate, sign=True), value.estimate, n))
    if said := verdict(value):
        lines += line(f"\n{said}")
    if value.holm is not None:
        lines += line(f"\n{number.p_value(value.holm)}", "dim")
    return lines


def accuracy_note(rows: Sequence[AccuracyRow]) -> Block:
    """What the numbers of the 2x2 are."""
    n = _most(rows)
    if n < inference.FEWEST:
        return note(f"{number.seeds(n)}: no interval; run {inference.FEWEST} or more to compare")
    lines = [
        f"mean over {number.seeds(n)} [95% t interval over trainings, on these test images]",
        "images too: [over trainings and test images, 95% or more]",
    ]
    if tested := [gap for row in rows for gap in row.difference.values() if gap.holm is not None]:
        most = max(gap.of for gap in tested)
        holm = f", by Holm for {most} settings" if most > 1 else ""
        lines.append(f"differences are paired by seed; the p of the paired t test decides{holm}")
        if flips := [gap.least_sign_flip for gap in tested if gap.least_sign_flip is not None]:
            lines.append(f"a sign-flip test could not: {n} seeds cannot give it a p below {number.p(min(flips))}")
    return note("\n".join(lines))


def slice_table(rows: Sequence[SliceRow], label: str) -> Block:
    """The parts of F-MNIST before and after."""
    table = grid("on F-MNIST, %", "images", "base", label, "difference", align="<>>><")
    most = max((row.difference.estimate.n for row in rows), default=0)
    for row in rows:
        table.add_row(
            SLICES[row.name],
            f"{row.n:,}",
            number.decimal(row.base.mean),
            number.decimal(row.tuned.mean),
            told(
                with_n(number.estimate(row.difference.estimate, sign=True), row.difference.estimate, most),
                row.difference,
            ),
        )
    return table


def told(text: str, difference: Difference) -> str:
    """`text` with the verdict below it, if there is something to say."""
    return f"{text}\n{said}" if (said := verdict(difference)) else text
