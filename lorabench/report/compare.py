"""Runs side by side: what differs in their settings, and what in their results. The first is the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.text import Text

from lorabench.report.arm import SETS, SLICES, accuracy
from lorabench.report.layout import grid, note, stack
from lorabench.report.overview import unfinished, unfinished_table
from lorabench.report.paired import Paired, pair, paired_table
from lorabench.report.plain import plain
from lorabench.report.plot import rank_plot
from lorabench.report.setting import flatten, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

    from lorabench.report.overview import Unfinished
    from lorabench.report.paired import Digits
    from lorabench.runs import Run

    Predictions = Mapping[str, Mapping[str, Digits]]

BESIDE = 2
"""How many runs stand beside the baseline in one table, so that it fits 80 columns."""


@dataclass(frozen=True)
class Setting:
    """A setting that is not the same in all runs; None where a run has no such setting."""

    key: str
    values: list[Any]


@dataclass(frozen=True)
class Metric:
    """A number of every run, None where it has none. `decimals` is how many of them mean something."""

    label: str
    values: list[float | None]
    decimals: int

    @property
    def differences(self) -> list[float | None]:
        """Each value less the baseline's."""
        first = self.values[0]
        return [None if first is None or value is None else value - first for value in self.values]


@dataclass(frozen=True)
class Comparison:
    """What `compare_report` shows. `paired` needs two runs and their predictions."""

    runs: list[str]
    settings: list[Setting]
    metrics: list[Metric]
    paired: list[Paired]
    unfinished: list[Unfinished]


def compare(runs: Sequence[Run], predictions: Predictions | None = None, labels: Digits | None = None) -> Comparison:
    """Compare two runs or more.

    Args:
        runs: the baseline and the others.
        predictions: run id to test set to predicted digits (n,), image by image in the order of `labels`.
        labels: true digits (n,); without them, or without predictions, nothing is paired.
    """
    paired: list[Paired] = []
    if len(runs) == 2 and predictions and labels is not None:
        first, second = (predictions.get(run.id, {}) for run in runs)
        paired = pair(first, second, labels)
    return Comparison([run.id for run in runs], _settings(runs), _metrics(runs), paired, unfinished(runs))


def compare_data(
    runs: Sequence[Run], predictions: Predictions | None = None, labels: Digits | None = None
) -> dict[str, Any]:
    """`compare` as plain data, with each metric's differences."""
    found = compare(runs, predictions, labels)
    metrics = [plain(metric) | {"differences": metric.differences} for metric in found.metrics]
    return plain(found) | {"metrics": metrics}


def compare_report(
    runs: Sequence[Run], predictions: Predictions | None = None, labels: Digits | None = None
) -> RenderableType:
    """`compare`, readable at 80 columns. Every run gets a letter, A is the baseline."""
    found = compare(runs, predictions, labels)
    letters = [_letter(index) for index in range(len(runs))]
    shown = [metric for metric in found.metrics if any(value is not None for value in metric.values)]
    names = grid("runs", "", "", align="<<<")
    for letter, run in zip(letters, runs, strict=True):
        names.add_row(letter, run.id, Text("baseline" if letter == "A" else "", "dim"))
    blocks: list[RenderableType | None] = []
    for start in range(1, len(runs), BESIDE):
        columns = [0, *range(start, min(start + BESIDE, len(runs)))]
        if found.settings:
            blocks.append(_settings_table(found.settings, letters, columns))
        blocks.append(_metrics_table(shown, letters, columns) if shown else note("no run has a result"))
    if not found.settings:
        blocks.insert(0, note("the settings are the same"))
    if found.paired:
        sure = note("exact McNemar test; only A, only B: images that this run alone got right")
        blocks.append(Group(paired_table(found.paired, ("A", "B")), sure))
    return stack([names, unfinished_table(found.unfinished), *blocks, rank_plot(runs)])


def _letter(index: int) -> str:
    """A, B, ... Z, AA, AB, ..."""
    return ("" if index < 26 else _letter(index // 26 - 1)) + chr(ord("A") + index % 26)


def _settings(runs: Sequence[Run]) -> list[Setting]:
    """What was asked of the runs, what they were made from and what they ran on, as far as it differs."""
    asked = [
        {"stage": run.stage} | flatten(run.settings) | run.parents.model_dump() | flatten(run.env, "env.")
        for run in runs
    ]
    keys = dict.fromkeys(key for settings in asked for key in settings)
    rows = [Setting(key, [settings.get(key) for settings in asked]) for key in keys]
    return [row for row in rows if any(value != row.values[0] for value in row.values)]


def _metrics(runs: Sequence[Run]) -> list[Metric]:
    done = [run if run.status == "done" else None for run in runs]
    rows: list[Metric] = []
    for name, title in SETS.items():
        found = [run.metrics.get(name) if run else None for run in done]
        rows.append(Metric(f"{title} accuracy, %", [accuracy(m) if m else None for m in found], 2))
        for part, called in SLICES.items():
            parts = [m.slices.get(part) if m else None for m in found]
            if any(parts):
                rows.append(Metric(f"  {called}", [100 * p.correct / p.n if p and p.n else None for p in parts], 2))
        rows.append(Metric(f"{title} loss", [m.loss if m else None for m in found], 4))
    params = [run.params if run else None for run in done]
    costs = [run.cost if run else None for run in done]
    peaks = [cost.peak_rss_bytes if cost else None for cost in costs]
    return [
        *rows,
        Metric("parameters", [p.total if p else None for p in params], 0),
        Metric("  trained", [p.trainable if p else None for p in params], 0),
        Metric("checkpoint, B", [run.checkpoint_bytes if run else None for run in done], 0),
        Metric("training, s", [cost.train_s if cost else None for cost in costs], 2),
        Metric("images/s", [cost.images_per_s if cost else None for cost in costs], 0),
        Metric("peak memory, MB", [peak / 1e6 if peak else None for peak in peaks], 0),
    ]


def _settings_table(rows: Sequence[Setting], letters: Sequence[str], columns: Sequence[int]) -> RenderableType:
    table = grid("what differs", *(letters[i] for i in columns), align="<" + "<" * len(columns))
    for row in rows:
        table.add_row(row.key, *(shown(row.values[i]) for i in columns))
    return table


def _metrics_table(rows: Sequence[Metric], letters: Sequence[str], columns: Sequence[int]) -> RenderableType:
    heads = [head for i in columns for head in ([letters[i], f"{letters[i]} - A"] if i else [letters[i]])]
    table = grid("results", *heads, align="<" + ">" * len(heads))
    for row in rows:
        cells: list[str] = []
        for i in columns:
            cells.append(_cell(row.values[i], f",.{row.decimals}f"))
            if i:
                cells.append(_cell(row.differences[i], f"+,.{row.decimals}f"))
        table.add_row(row.label, *cells)
    return table


def _cell(value: float | None, form: str) -> str:
    if value is None:
        return "-"
    text = f"{value:{form}}"
    return text if any(digit in text for digit in "123456789") else text.lstrip("+-")
