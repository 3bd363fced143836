"""What several reports share, small tables and notes; and how an export and `report --figures` end."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lorabench.analysis.number import plain, shown, verdict
from lorabench.analysis.quantities import SETS
from lorabench.report.blocks import Block, grid, group, heading, line, note

if TYPE_CHECKING:  # `ls` uses this file, and starts faster without these
    from lorabench.analysis.comparison import Fact
    from lorabench.analysis.fairness import Unequal, Unfinished
    from lorabench.analysis.inference import Difference, Estimate
    from lorabench.analysis.single import ClassCount, SpectrumRow
    from lorabench.analysis.study import SizeRow
    from lorabench.exchange import Export
    from lorabench.report.figures import Outcome
    from lorabench.runs import Run, Store


def size_table(rows: Sequence[SizeRow]) -> Block:
    """How many parameters each way to fine-tune trains, and what it has to store."""
    table = grid("parameters", "total", "trained", "of the base", "checkpoint", align="<>>>>")
    for row in rows:
        table.add_row(
            row.label,
            f"{row.total:,}",
            f"{row.trainable:,}",
            f"{row.share:.2f}%" if row.share is not None else "",
            f"{row.checkpoint_bytes:,} B" if row.checkpoint_bytes is not None else "",
        )
    return table


def class_counts_table(rows: Sequence[ClassCount], word: str) -> Block:
    """What an F-MNIST run changed: images per digit and split; `word` is its shift's for them."""
    table = grid(word, "digit", "images", "of", "share", align="<>>>>")
    for row in rows:
        table.add_row(row.split, str(row.digit), f"{row.flipped:,}", f"{row.images:,}", f"{row.share:.2f}%")
    return table


def spectrum_table(rows: Sequence[SpectrumRow]) -> Block:
    """How far, and in how many directions, a fine-tune moved each weight matrix: ΔW = W1 − W0."""
    table = grid("change of the weights", "Frobenius norm", "stable rank", "rank at 90%", align="<>>>")
    for row in rows:
        table.add_row(row.layer, f"{row.frobenius:.3f}", f"{row.stable_rank:.2f}", f"{row.rank90}")
    return group(table, note("rank at 90%: how many singular directions hold 90% of the squared norm"))


def differing_table(rows: Sequence[Fact], names: Sequence[str]) -> Block:
    """What is not the same in runs that are compared, under its kind; `names` are what the table calls the runs."""
    table = grid("what differs", "", *names, align="<<" + "<" * len(names))
    last = ""
    for row in rows:
        values = [shown(value)[:12] if row.key in ("commit", "weights") else shown(value) for value in row.values]
        table.add_row(row.kind if row.kind != last else "", row.key, *values)
        last = row.kind
    return table


NAMED = 3
"""How many rows a warning names for each value."""


def unequal_note(facts: Sequence[Unequal]) -> Block | None:
    """A line for each; None if there are none."""
    lines: list[str] = []
    for fact in facts:
        sides: list[str] = []
        for value, labels in fact.values.items():
            more = f" and {len(labels) - NAMED} more" if len(labels) > NAMED else ""
            sides.append(f"{value} ({', '.join(labels[:NAMED])}{more})")
        lines.append(f"warning: not the same {fact.what}: {'; '.join(sides)}")
    return note("\n".join(lines)) if lines else None


_ENGLISH = dict(enumerate(("zeros", "ones", "twos", "threes", "fours", "fives", "sixes", "sevens", "eights", "nines")))


def introduction(settings: Mapping[str, Any]) -> str:
    """`F-MNIST is MNIST with 30% of the twos and threes mirrored; not Fashion-MNIST.`

    What the `settings` of the F-MNIST leave out is as it is by default.
    """
    from lorabench.data import shifts

    options = shifts.parse(dict(settings))
    named = listed([_ENGLISH[digit] for digit in options.classes])
    share = f"{100 * options.fraction:.4g}%"
    return f"F-MNIST is MNIST with {share} of the {named} {shifts.of(options).word}; not Fashion-MNIST."


def introduced(runs: Collection[Run], store: Store | None = None) -> Block | None:
    """What the F-MNIST among the runs is, or with `store` the one that they were made from; None if none or several."""
    made = {run.id: run for run in runs if run.stage == "fmnist"}
    if store:
        parents = {run.parents.data for run in runs if run.parents.data} - made.keys()
        made |= {name: run for name in parents if (run := store.finished(name))}
    settings = [run.settings for run in made.values()]
    return line(introduction(settings[0])) if len(settings) == 1 else None


def listed(names: Sequence[str]) -> str:
    """`A, B and C`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def held_out_note(runs: Iterable[Run]) -> Block | None:
    """That `runs` were not measured on the test set; None if they were."""
    counts = sorted({run.holdout for run in runs if run.holdout})
    said = " or ".join(f"{count:,}" for count in counts)
    return note(f"measured on {said} images held out of the training set, not on the test set") if counts else None


def unfinished_table(rows: Sequence[Unfinished]) -> Block | None:
    """The runs without a result; None if there are none."""
    if not rows:
        return None
    table = grid("not finished", "", "", align="<<<")
    for row in rows:
        table.add_row(row.id, line(row.status, "red"), row.error)
    return table


def with_n(text: str, estimate: Estimate, n: int) -> str:
    """`text` about `estimate`, and how many values that has where they are not the `n` of its row or table."""
    return text if estimate.n == n else f"{text} n={estimate.n}"


def told(text: str, difference: Difference) -> str:
    """`text` with the verdict below it, if there is something to say."""
    return f"{text}\n{said}" if (said := verdict(difference)) else text


def export_data(done: Export) -> dict[str, Any]:
    """What `export_summary` shows, as plain data."""
    return {
        "runs": list(done.runs),
        "to": done.to,
        "folder": str(done.folder),
        "files": plain(list(done.files)),
        "compared": plain(list(done.compared)),
        "loads": done.loads,
    }


def export_summary(done: Export) -> Block:
    """How an export ends: a line for each file and each comparison, how it is opened, where it is."""
    files = grid("file", "bytes", "sha256", align="<><")
    for file in done.files:
        files.add_row(file.name, f"{file.bytes:,}", file.sha256[:12])
    runs = done.runs[0] if len(done.runs) == 1 else f"{len(done.runs)} runs"
    title = heading(runs, f"to {done.to}" + (", read again and compared" if done.compared else ""))
    parts: list[Block] = [title, files]
    for same in done.compared:
        how = (
            "every byte equal"
            if same.logit_change is None
            else f"{same.flips} labels flipped, largest logit difference {same.logit_change:.1e}"
        )
        parts.append(line(f"{SETS.get(same.name, same.name)}: {same.images:,} images, {how}"))
    parts.append(replace(line("loads ", "dim") + done.loads, folds=False))  # code, to be pasted
    parts.append(line(str(done.folder)))
    return group(*parts)


def figures_written(outcomes: Sequence[Outcome]) -> Block:
    """How `report --figures` ends: a line for each file, then one for each figure that there is none of."""
    lines: list[Block] = [line("figures", "bold")]
    lines += [line(str(file)) for outcome in outcomes for file in outcome.files]
    lines += [note(f"no {outcome.name}: it needs {outcome.missing}") for outcome in outcomes if outcome.missing]
    return group(*lines)


def figures_data(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The same as plain data."""
    return [
        {"name": o.name, "title": o.title, "files": [str(file) for file in o.files], "missing": o.missing}
        for o in outcomes
    ]
