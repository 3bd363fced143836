"""The report of a study: accuracies, parts, parameters, confusions, and the talk's figures beside ours."""

from __future__ import annotations

from collections.abc import Sequence

from lorabench.analysis import inference, number
from lorabench.analysis.claims import TOLERANCE, K, Row
from lorabench.analysis.inference import FEWEST, Difference, Estimate
from lorabench.analysis.number import verdict
from lorabench.analysis.quantities import SETS, SLICES
from lorabench.analysis.settings import Collection
from lorabench.analysis.study import AccuracyRow, Overview, Repair, SliceRow
from lorabench.report import digits
from lorabench.report.blocks import Block, Line, grid, group, heading, line, note, stack, statistics
from lorabench.report.groups import methods_tables
from lorabench.report.plot import rank_plot
from lorabench.report.tables import held_out_note, introduced, size_table, told, unequal_note, unfinished_table, with_n


def overview_report(study: Overview, runs: Collection) -> Block:
    """What `overview` found in the runs of a study, readable at 80 columns."""
    title = heading(study.study or "study", f"{number.seeds(len(study.seeds))}: {number.ranges(study.seeds)}")
    if not study.accuracy:
        return stack([title, note("no run of this study is finished"), unfinished_table(study.unfinished)])
    shown = {"base", *runs.bases_by_recipe, study.main} if study.methods else {row.label for row in study.accuracy}
    accuracies = [row for row in study.accuracy if row.label in shown]
    return stack(
        [
            title,
            held_out_note(runs),
            unfinished_table(study.unfinished),
            unequal_note(study.unequal),
            introduced(runs),
            glance_table(accuracies),
            slice_table(study.slices, study.main or "") if study.slices else None,
            size_table([row for row in study.parameters if row.label in shown]) if study.parameters else None,
            *(_confusions(study.confusion) if study.confusion else []),
            statistics(accuracy_table(accuracies), accuracy_note(accuracies)),
            methods_tables(study.methods, study.main or "") if study.methods else None,
            rank_plot(runs),
            group(ledger_table(study.ledger), ledger_note(study.ledger))
            if study.ledger
            else note("the talk's figures are of the test set, so nothing here stands beside them"),
        ]
    )


def _confusions(repair: Repair) -> list[Block]:
    over = "1 seed" if repair.seeds == 1 else f"summed over {repair.seeds} seeds"
    return [
        group(
            heading("confusion on F-MNIST", over),
            note("rows: true digit, columns: predicted; % of the true digit, . is under 0.5"),
        ),
        digits.side_by_side(repair.before, repair.after, ("base", repair.label)),
        digits.difference(repair.before, repair.after, f"{repair.label} - base, images"),
        digits.changes_table(repair.changes),
    ]


_GOOD = ("exact", "rounds to 3%", "reproduced", "runs", "holds", "possible")
_STYLES = dict.fromkeys(_GOOD, "green") | {"not run here": "dim", "no verdict": "dim"}
_MEANINGS = {
    "exact": "counted, and the same",
    "rounds to 3%": "",
    "differs": "counted, and not the same",
    "reproduced": f"all of the 90% interval is within {TOLERANCE} points of the talk's figure",
    "above": "all of the 95% interval is above it",
    "below": "all of the 95% interval is below it",
    "undecided": "neither of these; more seeds would tell",
    "no verdict": f"fewer than {FEWEST} seeds, or all alike: no interval",
    "holds": "by arithmetic",
    "possible": "arithmetic allows it, and a clock decides",
    "no": "by arithmetic it does not hold",
    "runs": "the talk names it without a figure",
    "not run here": f"no run in the talk's setting: LoRA k = {K} on all layers, A from N(0, 1), not scaled; 30% of the "
    "2s and 3s mirrored left to right; measured on the test set",
}


def ledger_table(rows: Sequence[Row]) -> Block:
    """The ledger as a table. Beside what is no mean over seeds stands where it comes from."""
    table = grid("what the talk says", "talk", "here", "", align="<><<")
    for row in rows:
        here = line(row.ours_text)
        if row.note:
            here += line(f"\n{row.source}: {row.note}" if row.ours_text else row.note, "dim")
        table.add_row(row.label, row.talk, here, line(row.verdict, _STYLES.get(row.verdict, "yellow")))
    return table


def ledger_note(rows: Sequence[Row]) -> Block:
    """What the verdicts mean that `rows` have, and where the figures come from."""
    verdicts = {row.verdict for row in rows}
    lines = [f"{verdict}: {meaning}" for verdict, meaning in _MEANINGS.items() if verdict in verdicts and meaning]
    lines += [
        "an accuracy: measured, the mean over seeds [95% interval]",
        "GPT-3: computed, see lorabench scale; quoted: Hu et al. 2021, not measured here",
    ]
    if any(row.key == "cost.peak" and row.value is not None for row in rows):
        lines.append("peak: memory that the process took for training; frozen layers' outputs are kept in it")
    return note("\n".join(lines))


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
    table = grid("on F-MNIST, %", "base", label, "difference", "images", align="<>><>")
    most = max((row.difference.estimate.n for row in rows), default=0)
    for row in rows:
        table.add_row(
            SLICES[row.name],
            number.decimal(row.base.mean),
            number.decimal(row.tuned.mean),
            told(
                with_n(number.estimate(row.difference.estimate, sign=True), row.difference.estimate, most),
                row.difference,
            ),
            f"{row.n:,}",
        )
    return table
