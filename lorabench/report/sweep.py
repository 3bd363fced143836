"""The table of `sweep`: rows and columns are two axes of the grid, a cell is a mean over seeds with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lorabench.analysis import inference, number
from lorabench.analysis.inference import Estimate
from lorabench.analysis.number import plain, shown, verdict
from lorabench.analysis.quantities import HEADLINE, Count, Quantity, shown_in
from lorabench.report.blocks import Block, Line, grid, group, heading, line, note, stack
from lorabench.report.groups import cell
from lorabench.report.tables import unequal_note
from lorabench.sweep import Best, FailedRun, GridPoint, SweepPlan, SweepResult, TunedRun
from lorabench.tune import CurveRow

WIDTH = 80
MOST_FAILURES = 10
"""So many failed runs are named; `ls` names all."""


def plan_data(plan: SweepPlan) -> dict[str, Any]:
    """What `plan_report` shows, as plain data."""
    points = [
        {"values": dict(zip(plan.keys, values, strict=True)), "fine_tunes": runs, "cached": cached}
        for values, runs, cached in plan.points
    ]
    return {**plain(plan), "points": points}


def plan_report(plan: SweepPlan) -> Block:
    """The points, how many of their runs are there, and about how long the others take."""
    table = grid(*plan.keys, "fine-tunes", "cached", align="<" * len(plan.keys) + ">>")
    for values, runs, cached in plan.points:
        table.add_row(*map(_word, values), f"{runs:,}", f"{cached:,}")
    lines = [f"{len(plan.points):,} points: would run {plan.missing:,}, cached {plan.cached:,}"]
    lines += time_lines(plan.seconds, plan.unknown, plan.workers)
    return group(table, line("\n".join(lines)))


def time_lines(seconds: float, unknown: int, workers: int) -> list[str]:
    """How long runs that are missing would take, and of how many that is not known."""
    lines = [f"no past run is like {unknown:,} of those, so their time is not known"] if unknown else []
    side = f"{workers} worker{'s' if workers > 1 else ''}"
    return lines + ([f"about {number.seconds(seconds)} with {side}, by the median of past runs"] if seconds else [])


def sweep_data(result: SweepResult) -> dict[str, Any]:
    """What `sweep_report` shows, as plain data."""
    best = result.best
    return {
        "name": result.name,
        "axes": {key: _values(result.points, place) for place, key in enumerate(result.keys)},
        "seeds": list(result.seeds),
        "holdout": result.held_out,
        "points": [
            {
                "values": dict(zip(result.keys, point.values, strict=True)),
                **{quantity.name: plain(point.over_seeds(quantity)) for quantity in shown_in("sweep")},
                "gain": plain(point.gain),
                "best": best is not None and point is best.point,
                "runs": [_percents(run) for run in point.tuned],
                "failed": plain(point.failed),
            }
            for point in result.points
        ],
        "ahead_of_next": plain(best.ahead) if best else None,
        "unequal": plain(result.unequal),
        "fine_tunes": plain(result.tuned),
        "shared": plain(result.shared),
    }


def _percents(run: TunedRun) -> dict[str, Any]:
    values = {quantity.name: run.values.get(quantity.key) for quantity in shown_in("sweep")} | {"before": run.before}
    shares = {name: value.percent if isinstance(value, Count) and value.n else None for name, value in values.items()}
    numbers = {name: value for name, value in values.items() if not isinstance(value, Count)}
    return {"id": run.id, "seed": run.seed, "images": run.images, "ground": plain(run.ground), **shares, **numbers}


def sweep_report(result: SweepResult) -> Block:
    """The tables, what may be concluded from them, what failed, and the counts."""
    best = result.best
    tables = _one_axis(result, best) if len(result.keys) == 1 else _blocks(result, best)
    failures = [(point, run) for point in result.points for run in point.failed]
    return stack(
        [
            *tables,
            note("\n".join(_notes(result, best))),
            unequal_note(result.unequal),
            _failures(result.keys, failures) if failures else None,
            line(_counts(result)),
        ]
    )


def _one_axis(result: SweepResult, best: Best | None) -> list[Block]:
    shown = shown_in("sweep")
    heads = [f"{q.columns['sweep'].head}, %" if q.counts else q.columns["sweep"].head for q in shown]
    table = grid(result.keys[0], *heads, align="<" + "".join("<" if q.counts else ">" for q in shown))
    for point in result.points:
        cells = [
            _cell(point, best, gain=result.several) if quantity.key == HEADLINE else _other(point, quantity)
            for quantity in shown
        ]
        table.add_row(_word(point.values[0]), *cells)
    return [table]


def _other(point: GridPoint, quantity: Quantity) -> str:
    value = point.over_seeds(quantity)
    return _text(value) if isinstance(value, Estimate) else cell(quantity, value, quantity.columns["sweep"])


def _blocks(result: SweepResult, best: Best | None) -> list[Block]:
    """A table for each combination of the third and further axes; its columns in parts where they do not fit."""
    blocks: dict[str, list[GridPoint]] = {}
    for point in result.points:
        blocks.setdefault(_spelled(result.keys[2:], point.values[2:]), []).append(point)
    rows, columns = _values(result.points, 0), _values(result.points, 1)
    title = f"{result.keys[0]} \\ {result.keys[1]}"
    texts = {id(point): _cell(point, best, gain=result.several) for point in result.points}
    widest = 2 + max(len(part) for text in texts.values() for part in text.text.splitlines())
    fitting = max(1, (WIDTH - 2 - max(len(title), *(len(_word(row)) for row in rows))) // widest)
    parts: list[Block] = []
    for name, block in blocks.items():
        at = {repr(point.values[:2]): texts[id(point)] for point in block}
        tables: list[Block] = [heading(name)] if name else []
        for start in range(0, len(columns), fitting):
            chosen = columns[start : start + fitting]
            table = grid(title, *map(_word, chosen), align="<" * (1 + len(chosen)))
            for row in rows:
                table.add_row(_word(row), *(at[repr((row, column))] for column in chosen))
            tables.append(table)
        parts.append(group(*tables))
    return parts


def _values(points: Sequence[GridPoint], axis: int) -> list[Any]:
    """The values of an axis, in the order in which they were named; a value may be a list."""
    return list({repr(point.values[axis]): point.values[axis] for point in points}.values())


def _cell(point: GridPoint, best: Best | None, *, gain: bool) -> Line:
    """A point's accuracy on F-MNIST, and with `gain` below it what was gained there."""
    text = _accuracy(point, best)
    return text + f"\n{number.plus_minus(point.gain.estimate, sign=True)}" if gain and point.gain else text


def _accuracy(point: GridPoint, best: Best | None) -> Line:
    if not point.tuned:
        return line("x", "red")
    if point.failed:
        return line(f"{_text(point.fmnist)} x{len(point.failed)}", "red")
    if best and point is best.point:
        return line(f"{_text(point.fmnist)} *", "bold underline")
    return line(_text(point.fmnist))


def _text(value: Estimate | None) -> str:
    """`97.92 +- 0.28`, or `97.92 (97.80, 98.04)`; and all that the mean does not show where a seed collapsed."""
    if value is None:
        return ""
    text = number.plus_minus(value)
    return f"{text} ({number.values(value)})" if value.scattered and not value.lacks else text


def _notes(result: SweepResult, best: Best | None) -> list[str]:
    n = max((len(point.tuned) for point in result.points), default=0)
    few = f"{number.seeds(n)}: no interval" + (", the values stand beside the mean" if n > 1 else "")
    how = f"mean over {number.seeds(n)} +- half of the 95% t interval" if n >= inference.FEWEST else few
    marks = "x: training failed" if result.several else "*: the best, x: training failed"
    lines = [f"{'F-MNIST, %; ' if len(result.keys) > 1 else ''}{how}; {marks}"]
    if result.several:
        lines.append("several F-MNISTs are several test sets, and no point is put before another;")
        lines.append("below each: points gained over its bases, on the same images")
    if best:
        lines += _standing(result.keys, best)
    if result.held_out:
        lines.append(f"measured on {result.held_out:,} images held out of the training set")
    elif len(result.points) > 1:
        lines.append("measured on the test set: to choose settings by it, use -s holdout=5000 instead")
    return lines


def _standing(keys: Sequence[str], best: Best) -> list[str]:
    """What the best is, and how sure that is."""
    lines = [f"best: {_spelled(keys, best.point.values)}"]
    if not best.next:
        return lines
    lines[0] += f"; the highest of {best.of} means, and so an optimistic one"
    if best.ahead is None or best.ahead.estimate.n == 1:
        how = "one seed cannot tell them apart"
    else:
        said = verdict(best.ahead)
        how = f"the best is {number.estimate(best.ahead.estimate, sign=True)} ahead{said and f', {said}'}"
    return [*lines, f"second: {_spelled(keys, best.next.values)}; {how}"]


def _failures(keys: Sequence[str], failures: Sequence[tuple[GridPoint, FailedRun]]) -> Block:
    lines: list[Line] = []
    for point, run in failures[:MOST_FAILURES]:
        lines.append(line(f"x {_spelled(keys, point.values)}, seed {run.seed}: {run.reason}", "red"))
        lines.append(replace(line(f"  {run.folder}"), folds=False))
    if len(failures) > MOST_FAILURES:
        lines.append(line(f"and {len(failures) - MOST_FAILURES} more: lorabench ls"))
    return group(*lines)


def _counts(result: SweepResult) -> str:
    tuned, shared = result.tuned, result.shared
    total = tuned.ran + tuned.cached + tuned.failed
    return (
        f"{total:,} fine-tunes: ran {tuned.ran:,}, cached {tuned.cached:,}, failed {tuned.failed:,}\n"
        f"what they share: ran {shared.ran:,}, cached {shared.cached:,}, failed {shared.failed:,}"
    )


def _spelled(keys: Sequence[str], values: Sequence[Any]) -> str:
    return ", ".join(f"{key}={_word(value)}" for key, value in zip(keys, values, strict=True))


def _word(value: Any) -> str:
    """A value of an axis, floats as short as `3e-05`."""
    return short if isinstance(value, float) and float(short := f"{value:g}") == value else shown(value)


def curves_table(rows: Sequence[CurveRow], *, images: int, seeds: Sequence[int]) -> Block:
    """The curves, readable at 80 columns, and YAML with each method's best."""
    lrs = sorted({lr for row in rows for lr in row.lrs})
    table = grid("learning rate", *(f"{lr:g}".replace("e-0", "e-") for lr in lrs), align="<" + ">" * len(lrs))
    table.gap = 1
    for row in rows:
        accuracy_at = dict(zip(row.lrs, row.accuracy, strict=True))
        table.add_row(
            row.label, *(_tried(accuracy_at[lr], best=lr == row.best) if lr in accuracy_at else "" for lr in lrs)
        )
    title = f"F-MNIST, % of {images:,} held-out images, {number.seeds(len(seeds))}: {number.ranges(seeds)}"
    edges = [row.label for row in rows if row.edge]
    notes = [f"{title}; *: the best, x: training failed"]
    notes += [f"still the best at the edge of what was tried: {', '.join(edges)}"] if edges else []
    return stack([group(table, note("\n".join(notes))), line(yaml_lines(rows))])


def curves_data(rows: Sequence[CurveRow]) -> list[dict[str, object]]:
    """The curves as plain data."""
    return [{**plain(row), "edge": row.edge} for row in rows]


def yaml_lines(rows: Sequence[CurveRow]) -> str:
    """Each method with its best learning rate, as `study.methods` takes it."""
    lines = ["study:", "  methods:"]
    for row in rows:
        given = {**row.entry, "lr": f"{row.best:g}"} if row.best is not None else row.entry
        lines.append(f"    - {{{', '.join(f'{key}: {value}' for key, value in given.items())}}}")
    return "\n".join(lines)


def _tried(value: float | None, *, best: bool) -> Line:
    if value is None:
        return line("x", "dim")
    return line(f"{value:.1f}*" if best else f"{value:.1f} ", "bold" if best else "")
