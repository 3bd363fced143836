"""Settings side by side, as tables of 80 columns: of any runs, and of a study against the talk's LoRA."""

from __future__ import annotations

from collections.abc import Sequence

from lorabench.analysis import number
from lorabench.analysis.groups import Groups, SettingRow
from lorabench.analysis.inference import FEWEST, Estimate, Folded
from lorabench.analysis.quantities import POINTS, SETS, SLICES, Column, Quantity, shown_in
from lorabench.report.blocks import Block, Document, Line, Table, grid, group, heading, line, note, stack, statistics
from lorabench.report.tables import told, unequal_note, unfinished_table, with_n
from lorabench.runs import Broken


def groups_report(groups: Groups) -> Document:
    """The rows, readable at 80 columns."""
    runs = sum(len(row.setting.runs) for row in groups.rows)
    settings = f"{len(groups.rows)} setting{'' if len(groups.rows) == 1 else 's'}, {runs} runs"
    blocks: list[Block | None] = [heading("comparison", settings), unequal_note(groups.unequal)]
    if groups.rows:
        for name in ("fmnist", "mnist"):
            blocks.append(_accuracy(name, groups.rows))
        blocks += [note(_how(groups)), _costs(groups.rows), _tests(groups)]
    else:
        blocks.append(note("no run has a result"))
    if groups.without_model:
        blocks.append(note(f"left out, they hold no model: {', '.join(groups.without_model)}"))
    return stack([*blocks, unfinished_table(groups.unfinished), broken_table(groups.broken)])


_COSTS = (
    "*: Pareto front: no row with fewer trained parameters is better on F-MNIST; rows without an interval have no part "
    "in it; stored: bytes of the checkpoint; s: training, mean over the seeds"
)


def broken_table(broken: Sequence[Broken]) -> Block | None:
    """The folders that cannot be read; None if there are none."""
    if not broken:
        return None
    table = grid("cannot be read", "", align="<<")
    for folder in broken:
        table.add_row(line(folder.id, "red"), folder.reason)
    return table


def _accuracy(name: str, rows: Sequence[SettingRow]) -> Block:
    """Mean and n; the difference from the baseline if there is anything besides it."""
    alone = len(rows) == 1
    columns = ["mean", "n"] if alone else ["mean", "n", "difference"]
    table = grid(f"{SETS[name]}, %", *columns, align="<<><"[: 1 + len(columns)])
    for row in rows:
        mean = row.estimate(f"{name}.accuracy")
        n = "" if mean is None else number.seeds(1) if mean.n == 1 else str(mean.n)
        table.add_row(row.label, spread(mean), n, *([] if alone else [_difference(name, row)]))
    return table


def _tests(groups: Groups) -> Block | None:
    """The wider intervals and the p of each row; None where no row has any."""
    table = grid("statistics", *(f"{label}{more}" for label in SETS.values() for more in (" +-", " p")), align="<>>>>")
    for row in groups.rows:
        cells = [cell for name in SETS for cell in (_images(row.estimate(f"{name}.accuracy")), _holm(name, row))]
        if any(cells):
            table.add_row(row.label, *cells)
    if not table.rows:
        return None
    lines = ["+-: half of the 95% interval over trainings and test images, 95% or more"]
    if of := [gap.of for row in groups.rows if (gap := row.difference.get("fmnist")) and gap.holm is not None]:
        rows = f"{of[0]} row{'s' if of[0] > 1 else ''}"
        lines.append(f"p: paired t test of the difference, which decides, adjusted for {rows} by Holm")
    return statistics(table, note("\n".join(lines)))


def spread(value: Folded | None, *, sign: bool = False) -> str:
    """The mean and half of its interval, and all values where a seed collapsed."""
    if not isinstance(value, Estimate):
        return ""
    text = number.plus_minus(value, sign=sign)
    return f"{text}\nseeds: {number.values(value)}" if value.scattered else text


def _images(accuracy: Estimate | None) -> str:
    return "" if accuracy is None or accuracy.images is None else number.decimal(accuracy.images.high - accuracy.mean)


def _difference(name: str, row: SettingRow) -> Line:
    gap, mean = row.difference.get(name), row.estimate(f"{name}.accuracy")
    if row.baseline or gap is None or mean is None:
        return line("baseline" if row.baseline else "no partner" if mean else "", "dim")
    return line(told(with_n(number.plus_minus(gap.estimate, sign=True), gap.estimate, mean.n), gap))


def _holm(name: str, row: SettingRow) -> str:
    gap = row.difference.get(name)
    return "" if gap is None or gap.holm is None else number.p(gap.holm)


def _how(groups: Groups) -> str:
    n = [mean.n for row in groups.rows for name in SETS if (mean := row.estimate(f"{name}.accuracy"))]
    if all(each == 1 for each in n):
        return "1 seed: no interval over seeds; run more, or compare two runs image by image: lorabench report A B"
    if all(each < FEWEST for each in n):
        return f"fewer than {FEWEST} seeds: no interval, no verdict; the values stand beside the mean"
    how = "mean +- half of the 95% t interval over n trainings, on these test images"
    if not any("fmnist" in row.difference for row in groups.rows):
        return how
    return f"{how}\ndifference: from {groups.baseline}, paired by seed, each interval at 95% alone"


def measured_table(title: str, rows: Sequence[SettingRow], table: str) -> Table:
    """What `table` shows of the quantities that are declared for it, a row for each setting."""
    shown = shown_in(table)
    sides = ["<" if quantity.columns[table].spread else ">" for quantity in shown]
    block = grid(title, *(quantity.columns[table].head for quantity in shown), align="".join(["<", *sides]))
    for row in rows:
        cells = [cell(quantity, row.values.get(quantity.key), quantity.columns[table]) for quantity in shown]
        block.add_row(row.label, *cells)
    return block


def _costs(rows: Sequence[SettingRow]) -> Block:
    table = measured_table("size and cost", rows, "settings")
    table.heads, table.align = (*table.heads, "lr", ""), table.align + "><"
    table.rows = [
        (*cells, line("" if row.lr is None else f"{row.lr:g}"), line("*" if row.front and len(rows) > 1 else ""))
        for cells, row in zip(table.rows, rows, strict=True)
    ]
    return group(table, note(_COSTS))


def cell(quantity: Quantity, value: Folded | None, column: Column) -> str:
    """What a table says of a quantity over the seeds of a setting."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Estimate):
        if column.spread:
            return spread(value, sign=quantity.unit == POINTS)
        if quantity.counts:
            return number.decimal(value.mean)
        value = value.mean
    return f"{value / column.per:,.{column.decimals}f}"


def methods_tables(rows: Sequence[SettingRow], reference: str) -> Block:
    """Three tables: what all methods give, those of the reference's size among them, and what all forget and cost.

    `reference` is the label of the row that the others are compared with.
    """
    trained = next(row.values.get("params.trainable") for row in rows if row.baseline)
    matched = [row for row in rows if row.matched]
    title = f"about {trained:,} parameters" if isinstance(trained, int) else ""
    seeds = max((mean.n for row in rows if (mean := row.estimate("fmnist.accuracy"))), default=0)
    if seeds < FEWEST:
        how = f"{number.seeds(seeds)}: no interval; run {FEWEST} or more to compare"
    else:
        of = max((gap.of for row in rows if (gap := row.difference.get("fmnist"))), default=1)
        how = (
            f"mean over {number.seeds(seeds)} +- half of the 95% t interval over trainings, on these test images; "
            "differences are paired by seed, each interval at 95% alone; whether there is one is decided by the paired "
            f"t test and Holm, for {of} rows"
        )
    cost = (
        "forgotten: on MNIST, base - tuned, points; stored: bytes of the checkpoint; ms: a training step, as it was in "
        "this study; mergeable: into plain linear layers; rank: how many singular directions hold 90% of the squared "
        "change of fc1's weight"
    )
    return stack(
        [
            group(_results("every method", rows, reference), note(how)),
            _results(title, matched, reference) if 1 < len(matched) < len(rows) else None,
            group(measured_table("cost", rows, "methods"), note(cost)),
        ]
    )


def _results(title: str, rows: Sequence[SettingRow], reference: str) -> Block:
    table = grid(title, "F-MNIST, %", f"{SLICES['flipped']}, %", f"F-MNIST - {reference}", align="<<<<")
    for row in rows:
        mean, mirrored = row.estimate("fmnist.accuracy"), row.estimate("fmnist.flipped.accuracy")
        gap = row.difference.get("fmnist")
        # Without an interval the mean alone: each seed's value stands beside it, of all images.
        part = number.decimal(mirrored.mean) if mirrored and mirrored.high is None else spread(mirrored)
        n = mean.n if mean else 0
        versus = told(with_n(spread(gap.estimate, sign=True), gap.estimate, n), gap) if gap else ""
        table.add_row(row.label, spread(mean), part, versus)
    return table
