"""Two accuracies and their difference: image by image where the images are the same, else as independent samples.

paired("fmnist", "F-MNIST", base == labels, tuned == labels)       # mid-p McNemar test, Tango's interval
unpaired("fmnist", "F-MNIST", Count(9276, 10_000), Count(4893, 5_000), "other images")    # Newcombe's interval
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabench.analysis import number
from lorabench.analysis.aggregate import NO_DIFFERENCE
from lorabench.report.style import grid, line, note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.analysis.paired import Contrast
    from lorabench.report.blocks import Block


def contrast_table(title: str, rows: Sequence[Contrast], names: tuple[str, str]) -> Block:
    """The comparisons, readable at 80 columns; `names` are what the table calls the first and the second."""
    first, second = names
    table = grid(title, first, second, f"{second} - {first} [95%]", "lost", "gained", "p", align="<>><>>>")
    for row in rows:
        change = f"{number.signed(row.difference)} {number.signed_interval(row.low, row.high)}"
        if not row.detectable:
            change += f"\n{NO_DIFFERENCE}"
        scores = (number.decimal(row.first.percent), number.decimal(row.second.percent))
        counts = ("-" if count is None else f"{count:,}" for count in (row.lost, row.gained))
        table.add_row(row.label, *scores, line(change), *counts, "-" if row.p is None else number.p(row.p))
    return table


def contrast_note(rows: Sequence[Contrast]) -> Block:
    """How the rows were compared, and which were not image by image and why."""
    lines: list[str] = []
    if any(row.unpaired is None for row in rows):
        lines += [
            "[95%]: Tango's interval of the difference on the same images, each row alone;",
            "p: mid-p McNemar, which decides;",
            "lost, gained: images that the first column alone, the second alone got right",
        ]
    lines += [f"{row.label.strip()}: {row.told}" for row in rows if row.told]
    reasons = dict.fromkeys(row.unpaired for row in rows if row.unpaired)
    for reason in reasons:
        labels = ", ".join(row.label.strip() for row in rows if row.unpaired == reason)
        lines.append(f"compared unpaired (Newcombe's interval), because of {reason}: {labels}")
    return note("\n".join(lines))
