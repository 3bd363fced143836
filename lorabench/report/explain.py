"""What `explain` shows: a method drawn to scale and counted layer by layer, and what a run of it did to one digit.

explanation(told)          told = Told("lora", options, targets)
outcome(run, pictures)     a digit before and after, three numbers, three sentences
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from lorabench.analysis.quantities import count
from lorabench.analysis.settings import collect, featured_setting
from lorabench.classifier import CLASSIFIER
from lorabench.methods.registry import METHODS
from lorabench.report.blocks import Line, Picture
from lorabench.report.digits import beside, draw
from lorabench.report.style import grid, group, heading, line, note, stack
from lorabench.scale import ARCHITECTURES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from lorabench.methods.registry import Method, Part
    from lorabench.report.blocks import Block
    from lorabench.report.figures.material import Pictures
    from lorabench.runs import Run, Store

_ENGLISH = dict(enumerate(("zeros", "ones", "twos", "threes", "fours", "fives", "sixes", "sevens", "eights", "nines")))
_ASPECT = 2
"""A character is so many times as high as wide."""
_LINES = 6
"""Of the highest matrix, at most; of all layers together, twice as many."""
_COARSEST = 1000
"""Numbers to a column; no drawing is coarser, and one that is still too wide is cut."""


@dataclass(frozen=True)
class Told:
    """A method with its complete options on some layers of the talk's classifier."""

    name: str
    options: Mapping[str, Any]
    targets: Sequence[str]

    @property
    def method(self) -> Method:
        """Its entry of the registry."""
        return METHODS[self.name]

    @property
    def trained(self) -> int:
        """How many parameters it trains."""
        return self.method.trainable([CLASSIFIER[layer] for layer in self.targets], self.options)

    def parts(self, layer: str) -> list[list[Part]]:
        """What it makes of a layer, path by path, in the order in which they are applied."""
        return [list(path) for path in self.method.layer(*CLASSIFIER[layer], self.options)]


def by_default(name: str) -> Told:
    """The method as `finetune NAME` has it."""
    method = METHODS[name]
    return Told(name, method.defaults, method.where(list(CLASSIFIER), method.defaults))


def of_run(run: Run) -> Told:
    """The method of a fine-tuned run of the talk's classifier, on the layers that it was applied to."""
    method = METHODS[run.settings["method"]]
    options = {key: run.settings.get(key, value) for key, value in method.defaults.items()}
    return Told(run.settings["method"], options, run.settings["targets"] or method.where(list(CLASSIFIER), options))


class Size(NamedTuple):
    """A layer of m outputs and n inputs: its parameters, those trained and as what sum, the k where LoRA saves none."""

    layer: str
    m: int
    n: int
    parameters: int
    trained: int
    sum: str
    break_even: float | None


def sizes(told: Told) -> list[Size]:
    """A row for each layer of the classifier."""
    rows: list[Size] = []
    for matrix in ARCHITECTURES["mlp"].matrices:
        parts = [part for path in told.parts(matrix.name) for part in path if part.trained]
        adapted = matrix.name in told.targets
        rows.append(
            Size(
                matrix.name,
                matrix.m,
                matrix.n,
                matrix.n * matrix.m + matrix.m,
                sum(part.size for part in parts) if adapted else 0,
                _sum(parts, told.options.get("k")) if adapted else "",
                matrix.break_even if told.method.low_rank else None,
            )
        )
    return rows


def _sum(parts: Sequence[Part], k: int | None) -> str:
    """`4·(784 + 256) + 256`: what all matrices of rank k have in common is written once."""
    thin = [part.shape for part in parts if len(part.shape) == 2 and k in part.shape]
    sides = [b if a == k else a for a, b in thin]
    terms = [f"{k}·({' + '.join(map(str, sides))})" if len(sides) > 1 else f"{k}·{sides[0]}"] if sides else []
    return " + ".join([*terms, *("·".join(map(str, part.shape)) for part in parts if part.shape not in thin)])


def explanation_data(told: Told) -> dict[str, Any]:
    """What `explanation` shows, as plain data; a share in percent."""
    reason = told.method.exemption("merge", told.options)
    return {
        "method": told.name,
        "title": told.method.title,
        "formula": told.method.formula,
        "paper": told.method.paper,
        "options": dict(told.options),
        "layers": [row._asdict() for row in sizes(told)],
        "targets": list(told.targets),
        "trained": told.trained,
        "total": ARCHITECTURES["mlp"].total,
        "percent": 100 * told.trained / ARCHITECTURES["mlp"].total,
        "mergeable": reason is None,
        "why_not": reason.reason if reason else None,
    }


def explanation(told: Told) -> Block:
    """The method's formula, its layers drawn to scale, and where its number of parameters comes from."""
    method, total = told.method, ARCHITECTURES["mlp"].total
    reason = method.exemption("merge", told.options)
    own = ", ".join(
        f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in told.options.items()
        if value is not None
    )
    rows = sizes(told)
    heads = ("layer", "W0 (m x n)", "with bias", "trained", *(["break-even k"] if method.low_rank else []))
    table = grid(*heads, align="<" + ">" * (len(heads) - 1))
    for row in rows:
        even = [f"{row.break_even:.1f}"] if row.break_even else []
        table.add_row(row.layer, f"{row.m} x {row.n}", f"{row.parameters:,}", f"{row.trained:,}", *even)
    table.add_row("sum", "", f"{total:,}", f"{told.trained:,}")
    share = f"{100 * told.trained / total:.2f}% of the classifier's {total:,} parameters"
    facts = {
        "formula": method.formula,
        "trained": f"in {', '.join(told.targets)}" + (f"; {own}" if own else ""),
        "mergeable": f"no: {reason.reason}" if reason else "yes: into the linear layers, which then cost what they did",
        "paper": method.paper,
    }
    return stack(
        [
            heading(method.title, "W0 is frozen; A and B are trained" if _factored(told) else ""),
            group(*(line(f"{name:11}", "dim") + text for name, text in facts.items())),
            Picture(
                lambda columns, ascii_only: _drawn(told, columns, ascii_only=ascii_only),
                f"The weights of {', '.join(told.targets)} and beside them, to scale, what {method.title} adds.",
            ),
            group(
                line(f"{told.trained:,}", "bold") + f" = {' + '.join(row.sum for row in rows if row.sum)}", line(share)
            ),
            group(table, note("break-even k: with more, A and B have more numbers than W0"))
            if method.low_rank
            else table,
        ]
    )


def _factored(told: Told) -> bool:
    """Whether every path of a layer is a product of matrices from its n inputs to its m outputs: a sum of them."""
    n, m = CLASSIFIER[told.targets[0]]
    paths = told.parts(told.targets[0])
    return (
        not told.method.remakes
        and len(paths) > 1
        and all(
            all(len(part.shape) == 2 for part in path) and (path[0].shape[0], path[-1].shape[1]) == (n, m)
            for path in paths
        )
    )


def _drawn(told: Told, columns: int, *, ascii_only: bool) -> list[Line]:
    """Each layer's matrices at one scale, the frozen shaded, the trained solid; as the sum of products that they are.

    A side of less than an eighth of a character is drawn as an eighth.
    """
    factored = _factored(told)
    signs = (" + ", " · ") if factored else (" ", " ")
    pictures: list[tuple[list[Tile], list[str]]] = []
    for layer in told.targets:
        tiles, between = _tiles(told, layer, factored=factored), list[str]()
        for path in told.parts(layer):
            between += [signs[0], *[signs[1]] * (len(path) - 1)]
        pictures.append((tiles, ["", *between[len(between) - len(tiles) + 1 :]]))
    highs = [max(tile.high for tile in tiles) for tiles, _ in pictures]
    least = math.ceil(max(max(highs) / _LINES, sum(highs) / (2 * _LINES)) / _ASPECT)
    unit = next(
        unit
        for unit in itertools.count(least)
        if unit > _COARSEST or all(_wide(tiles, unit, len(signs[0])) <= columns - 5 for tiles, _ in pictures)
    )
    lines: list[Line] = []
    for layer, (tiles, between) in zip(told.targets, pictures, strict=True):
        blocks = [tile.lines(unit, ascii_only=ascii_only) for tile in tiles]
        high = max(map(len, blocks))
        rows = [f"{layer:5}", *["     "] * high]
        for tile, block, sign in zip(tiles, blocks, between, strict=True):
            full = [tile.caption, *[""] * (high - len(block)), *block]
            wide = max(map(len, full))
            shown = sign.replace("·", "*") if ascii_only else sign
            rows = [
                row + (shown if number == high else " " * len(shown)) + text.ljust(wide)
                for number, (row, text) in enumerate(zip(rows, full, strict=True))
            ]
        lines += [Line(line(rows[0].rstrip(), "dim").pieces, folds=False)]
        lines += [Line(line(row.rstrip()).pieces, folds=False) for row in rows[1:]]
    shades = (":", "#") if ascii_only else ("░", "█")
    return [*lines, note(f"{shades[0]} frozen, {shades[1]} trained; to scale, a column is {unit} numbers wide")]


class Tile(NamedTuple):
    """A matrix of `high` rows and `wide` columns under its caption."""

    caption: str
    high: int
    wide: int
    trained: bool

    def lines(self, unit: int, *, ascii_only: bool) -> list[str]:
        """It drawn in characters, each `unit` numbers wide and twice as many high; a frozen one in whole characters."""
        wide, high = self.wide / unit, self.high / (unit * _ASPECT)
        if not self.trained:
            return [(":" if ascii_only else "░") * max(1, round(wide))] * max(1, round(high))
        columns, right = _eighths(wide)
        rows, top = _eighths(high) if columns else (round(high), int(high < 0.5))
        if ascii_only:
            return ["#" * columns + "|" * (right > 0)] * rows or ["_" * max(1, columns)]
        solid = "█" * columns + " ▏▎▍▌▋▊▉"[right].strip()
        edge = [" ▁▂▃▄▅▆▇"[top] * max(1, columns)] if top else []
        return [*edge, *[solid] * rows]


def _eighths(length: float) -> tuple[int, int]:
    """Whole characters and eighths of one, an eighth at least."""
    return divmod(max(1, round(8 * length)), 8)


def _tiles(told: Told, layer: str, *, factored: bool) -> list[Tile]:
    """From left to right as formulas are written: what is applied last comes first."""
    n, m = CLASSIFIER[layer]
    paths = told.parts(layer)
    tiles: list[Tile] = []
    if all(part.added for path in paths for part in path) and not told.method.in_place:
        tiles.append(Tile(f"W0 {m} x {n}", m, n, trained=False))
    for path in paths:
        names = iter("BA" if factored else "")
        for part in reversed(path):
            if len(part.shape) == 2:
                wide, high = part.shape
            else:
                wide, high = (1, part.size) if part.size == m else (part.size, 1)
            name = "" if part.trained or part.added else "W0 "
            caption = f"{name or next(names, '')} {high} x {wide}" if not name else f"W0 {high} x {wide}"
            tiles.append(Tile(caption.strip(), high, wide, part.trained))
    return tiles


def _wide(tiles: Sequence[Tile], unit: int, gap: int) -> int:
    return sum(gap + max(len(tile.caption), math.ceil(tile.wide / unit)) for tile in tiles) - gap


def introduction(settings: Mapping[str, Any]) -> str:
    """`F-MNIST is MNIST with 30% of the twos and threes mirrored; not Fashion-MNIST.`

    Args:
        settings: of the F-MNIST; what they leave out is as it is by default.
    """
    from lorabench.data import shifts

    options = shifts.parse(dict(settings))
    names = [_ENGLISH[digit] for digit in options.classes]
    named = " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    share = f"{100 * options.fraction:.4g}%"
    return f"F-MNIST is MNIST with {share} of the {named} {shifts.of(options).word}; it is not Fashion-MNIST."


def introduced(runs: Iterable[Run]) -> Block | None:
    """What the F-MNIST among the runs is; None if there is none, or several."""
    made = [run for run in runs if run.stage == "fmnist"]
    return line(introduction(made[0].settings)) if len(made) == 1 else None


class Digit(NamedTuple):
    """An image that the shift changed, by its place in the test set: what it is, and what it is taken for."""

    position: int
    true: int
    before: int
    after: int


def repaired(pictures: Pictures) -> Digit | None:
    """A changed image that only the tuned model reads: the largest digit there is, misread as the base mostly does."""
    import numpy as np

    found = pictures.flipped & (pictures.before != pictures.labels) & (pictures.after == pictures.labels)
    if not found.any():
        return None
    true = pictures.labels[found].max()
    found &= pictures.labels == true
    misread = np.bincount(pictures.before[found]).argmax()
    index = int(np.flatnonzero(found & (pictures.before == misread))[0])
    return Digit(index, int(true), int(misread), int(true))


def headline(run: Run) -> dict[str, tuple[Any, Any]]:
    """Part of the test sets -> what the base and what the tuned run gets right there; only what was measured."""
    pairs = {
        stem: (count(run.before, stem), count(run.metrics, stem)) for stem in ("fmnist.flipped", "fmnist", "mnist")
    }
    return {stem: (old, new) for stem, (old, new) in pairs.items() if old and new and old.n and new.n}


def outcome_data(run: Run, pictures: Pictures | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `outcome` shows, as plain data; shares in percent."""
    digit = repaired(pictures) if pictures else None
    return {
        "id": run.id,
        "fmnist": introduction(settings),
        "digit": digit._asdict() if digit else None,
        "numbers": {
            stem: {"base": old.percent, "tuned": new.percent, "images": new.n}
            for stem, (old, new) in headline(run).items()
        },
        "meaning": meaning(run, settings),
    }


def meaning(run: Run, settings: Mapping[str, Any]) -> list[str]:
    """A run in plain sentences: what was trained, what it repaired, what it forgot."""
    from lorabench.data import shifts

    sentences: list[str] = []
    total = ARCHITECTURES["mlp"].total
    if run.params:
        share = f"{100 * run.params.trainable / total:.2f}%"
        sentences.append(f"{run.params.trainable:,} numbers were trained, {share} of the classifier's {total:,}.")
    known, word = headline(run), shifts.named(settings).word
    if "fmnist.flipped" in known:
        old, new = known["fmnist.flipped"]
        sentences.append(f"Of {new.n:,} {word} images it now reads {new.correct:,}; before it read {old.correct:,}.")
    if "mnist" in known:
        old, new = known["mnist"]
        lost = old.correct - new.correct
        change = f"{abs(lost):,} {'fewer' if lost > 0 else 'more'} than before" if lost else "as many as before"
        sentences.append(f"Of the {new.n:,} images of MNIST, none of them {word}, it reads {new.correct:,}, {change}.")
    return sentences


def outcome(run: Run, pictures: Pictures | None, settings: Mapping[str, Any]) -> Block:
    """A digit that the run repaired, its three numbers, and what they mean.

    Args:
        run: fine-tuned.
        pictures: its test images; None if there are none.
        settings: of its F-MNIST.
    """
    from lorabench.data import shifts

    word = shifts.named(settings).word
    table = grid("right, %", "base", "tuned", align="<>>")
    for stem, (old, new) in headline(run).items():
        label = {"fmnist.flipped": f"  {word}", "fmnist": "F-MNIST", "mnist": "MNIST"}[stem]
        table.add_row(label, f"{old.percent:.2f}", f"{new.percent:.2f}")
    digit = repaired(pictures) if pictures else None
    shown: Block | None = None
    if pictures and digit:
        said = f"A {word} {digit.true}: the base reads {digit.before}, the tuned model {digit.after}."
        pair = (pictures.mnist[digit.position], pictures.fmnist[digit.position])

        def drawn(columns: int, ascii_only: bool) -> list[Line]:
            heads = ("in MNIST", "in F-MNIST")
            return beside(
                [[head, *draw(image, ascii_only=ascii_only)] for head, image in zip(heads, pair, strict=True)], columns
            )

        shown = group(line(said, "bold"), Picture(drawn, f"A handwritten {digit.true}, and the same {word}."))
    told = group(*map(line, meaning(run, settings)))
    return stack([heading(run.id), line(introduction(settings)), shown, table, told])


def story(runs: Sequence[Run], store: Store, data_dir: Path | None) -> Block | None:
    """What was done and what came out, for one who has seen nothing else; None without a fine-tune of the talk's kind.

    The first run of the setting that the report shows in full is explained.
    """
    from lorabench.report.figures.material import pictures_of

    featured = featured_setting(collect(runs).settings)
    if featured is None or not (headline(featured.runs[0])):
        return None
    run = featured.runs[0]
    images = store.finished(run.parents.data) if run.parents.data else None
    return stack(
        [outcome(run, pictures_of(run, store, data_dir), images.settings if images else {}), explanation(of_run(run))]
    )
