"""`groups` as tables of 80 columns: F-MNIST, MNIST, and what each row trains and costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabench.analysis import number
from lorabench.analysis.inference import FEWEST
from lorabench.analysis.settings import SETS
from lorabench.report.accuracy import told, with_n
from lorabench.report.fairness import unequal_note
from lorabench.report.overview import unfinished_table
from lorabench.report.style import grid, group, heading, line, note, stack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.analysis.groups import GroupRow, Groups
    from lorabench.analysis.inference import Estimate
    from lorabench.report.blocks import Block, Line
    from lorabench.runs import Broken


def groups_report(found: Groups) -> Block:
    """The rows, readable at 80 columns."""
    runs = sum(len(row.runs) for row in found.rows)
    settings = f"{len(found.rows)} setting{'' if len(found.rows) == 1 else 's'}, {runs} runs"
    blocks: list[Block | None] = [heading("comparison", settings), unequal_note(found.unequal)]
    if found.rows:
        for name in ("fmnist", "mnist"):
            blocks.append(_accuracy(name, found.rows))
        blocks += [note(_how(found)), group(_costs(found.rows), note(_COSTS))]
    else:
        blocks.append(note("no run has a result"))
    if found.without_model:
        blocks.append(note(f"left out, they hold no model: {', '.join(found.without_model)}"))
    return stack([*blocks, unfinished_table(found.unfinished), broken_table(found.broken)])


_COLUMNS = ("mean", "images too", "n", "difference", "Holm p")
_COSTS = (
    "*: Pareto front: no row with fewer trained parameters is better on F-MNIST;\n"
    "rows without an interval have no part in it; stored: bytes of the checkpoint;\n"
    "s: training, mean over the seeds"
)


def broken_table(broken: Sequence[Broken]) -> Block | None:
    """The folders that cannot be read; None if there are none."""
    if not broken:
        return None
    table = grid("cannot be read", "", align="<<")
    for folder in broken:
        table.add_row(line(folder.id, "red"), folder.reason)
    return table


def _accuracy(name: str, rows: Sequence[GroupRow]) -> Block:
    """Mean and n; the difference from the baseline if there is anything besides it."""
    title, alone = f"{SETS[name]}, %", len(rows) == 1
    columns = _COLUMNS[:3] if alone else _COLUMNS
    table = grid(title, *columns, align="<<<><>"[: 1 + len(columns)])
    for row in rows:
        mean = row.accuracy.get(name)
        n = "" if mean is None else number.seeds(1) if mean.n == 1 else str(mean.n)
        more = () if alone else (_difference(name, row), _holm(name, row))
        table.add_row(row.label, _mean(mean), _images(mean), n, *more)
    return table


def _mean(found: Estimate | None) -> str:
    if found is None:
        return ""
    text = number.plus_minus(found)
    return f"{text}\nseeds: {number.values(found)}" if found.scattered else text


def _images(found: Estimate | None) -> str:
    return "" if found is None or found.images is None else f"+- {number.decimal(found.images.high - found.mean)}"


def _difference(name: str, row: GroupRow) -> Line:
    gap, mean = row.difference.get(name), row.accuracy.get(name)
    if row.baseline or gap is None or mean is None:
        return line("baseline" if row.baseline else "no partner" if mean else "", "dim")
    return line(told(with_n(number.plus_minus(gap.estimate, sign=True), gap.estimate, mean.n), gap))


def _holm(name: str, row: GroupRow) -> str:
    gap = row.difference.get(name)
    return "" if gap is None or gap.holm is None else number.p(gap.holm)


def _how(found: Groups) -> str:
    if all(mean.n == 1 for row in found.rows for mean in row.accuracy.values()):
        return (
            "1 seed: no interval over seeds; run more of them, or compare two runs image by\n"
            "image: lorabench report A B"
        )
    if all(mean.n < FEWEST for row in found.rows for mean in row.accuracy.values()):
        return f"fewer than {FEWEST} seeds: no interval, no verdict; the values stand beside the mean"
    lines = [
        "mean +- half of the 95% t interval over n trainings, on these test images;",
        "images too: half of the one over trainings and test images, 95% or more",
    ]
    gaps = [row.difference["fmnist"] for row in found.rows if "fmnist" in row.difference]
    if gaps:
        lines.append(f"difference: from {found.baseline}, paired by seed, each interval at 95% alone")
    if tested := [gap for gap in gaps if gap.holm is not None]:
        lines.append(
            f"Holm p: paired t test, which decides, adjusted for {tested[0].of} row{'s' if tested[0].of > 1 else ''}"
        )
    return "\n".join(lines)


def _costs(rows: Sequence[GroupRow]) -> Block:
    table = grid("size and cost", "F-MNIST", "flipped, %", "trained", "", "stored", "lr", "s", align="<><><>>>")
    for row in rows:
        mean = row.accuracy.get("fmnist")
        table.add_row(
            row.label,
            number.decimal(mean.mean) if mean else "",
            _mean(row.accuracy.get("fmnist.flipped")),
            "" if row.trained is None else f"{row.trained:,}",
            "*" if row.front and len(rows) > 1 else "",
            "" if row.stored_bytes is None else f"{row.stored_bytes:,}",
            "" if row.lr is None else f"{row.lr:g}",
            "" if row.train_s is None else number.decimal(row.train_s.mean),
        )
    return table
