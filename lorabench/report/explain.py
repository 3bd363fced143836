"""What `explain` shows: a method drawn to scale and counted layer by layer, and what a run of it did to one digit.

explanation(told)          told = Told("lora", options, targets)
outcome(run, pictures)     a digit before and after, three numbers, three sentences
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lorabench.analysis.quantities import count
from lorabench.classifier import CLASSIFIER
from lorabench.methods.entry import Method, Part
from lorabench.methods.registry import METHODS
from lorabench.report.blocks import Block, Line, Picture, grid, group, heading, line, note, stack
from lorabench.report.digits import beside, draw
from lorabench.report.figures import Pictures
from lorabench.runs import Run, Store
from lorabench.scale import ARCHITECTURES

_ENGLISH = dict(enumerate(("zeros", "ones", "twos", "threes", "fours", "fives", "sixes", "sevens", "eights", "nines")))
_ASPECT = 2
"""A character is so many times as high as wide."""
_LINES = 6
"""Of the highest matrix, at most; of all layers together, twice as many."""
_LABEL = 5
"""Columns of a layer's name."""
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

    def parts(self, layer: str) -> list[Part]:
        """What it makes of a layer, in the order in which it is applied."""
        return [part for path in self.method.layer(*CLASSIFIER[layer], self.options) for part in path]

    @property
    def factored(self) -> bool:
        """Whether a layer is the sum of its own weight and of the product B A."""
        return not self.method.remakes and [part.name for part in self.parts(self.targets[0])[1:]] == ["A", "B"]


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
        parts = [part for part in told.parts(matrix.name) if part.trained and matrix.name in told.targets]
        k = told.options.get("k")
        product = [part.shape for part in parts] == [(matrix.n, k), (k, matrix.m)]
        rows.append(
            Size(
                matrix.name,
                matrix.m,
                matrix.n,
                matrix.n * matrix.m + matrix.m,
                sum(part.size for part in parts),
                _sum(parts, k),
                matrix.break_even if product else None,
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
    reason, rows, total = told.method.exemption("merge", told.options), sizes(told), ARCHITECTURES["mlp"].total
    trained = sum(row.trained for row in rows)
    return {
        "method": told.name,
        "title": told.method.title,
        "formula": told.method.formula,
        "paper": told.method.paper,
        "options": dict(told.options),
        "layers": [row._asdict() for row in rows],
        "targets": list(told.targets),
        "trained": trained,
        "total": total,
        "percent": 100 * trained / total,
        "mergeable": reason is None,
        "why_not": reason.reason if reason else None,
    }


def explanation(told: Told) -> Block:
    """The method's formula, its layers drawn to scale, and where its number of parameters comes from."""
    method, data, rows = told.method, explanation_data(told), sizes(told)
    options = [
        f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in told.options.items()
        if value not in (None, 0.0)
    ]
    why_not, trained = data["why_not"], f"{data['trained']:,}"
    facts = grid("", "", align="<<")
    facts.add_row(line("formula", "dim"), method.formula)
    facts.add_row(
        line("trained", "dim"), "; ".join([f"in {', '.join(told.targets)}", *filter(None, [", ".join(options)])])
    )
    merged = f"no: {why_not}" if why_not else "yes: into the linear layers, which then cost what they did"
    facts.add_row(line("mergeable", "dim"), merged)
    facts.add_row(line("paper", "dim"), method.paper)
    even = any(row.break_even for row in rows)
    heads = ("layer", "W0 (m x n)", "with bias", "trained", *(["break-even k"] if even else []))
    table = grid(*heads, align="<" + ">" * (len(heads) - 1))
    for row in rows:
        least = [f"{row.break_even:.1f}"] if row.break_even else []
        table.add_row(row.layer, f"{row.m} x {row.n}", f"{row.parameters:,}", f"{row.trained:,}", *least)
    table.add_row("sum", "", f"{data['total']:,}", trained)
    terms = " + ".join(row.sum for row in rows if row.sum)
    return stack(
        [
            heading(method.title, _roles(told)),
            facts,
            Picture(
                lambda columns, ascii_only: _drawn(told, columns, ascii_only=ascii_only),
                f"The weights of {', '.join(told.targets)} and beside them, to scale, what {method.title} adds.",
            ),
            group(
                line(trained, "bold") + (f" = {terms}" if " " in terms else ""),
                line(f"{data['percent']:.2f}% of the classifier's {data['total']:,} parameters"),
            ),
            group(table, *([note("break-even k: with more, A and B have more numbers than W0")] if even else [])),
        ]
    )


def _roles(told: Told) -> str:
    """`W0 is frozen; A and B are trained`."""
    parts = told.parts(told.targets[0])
    roles = {
        role: list(dict.fromkeys(part.name for part in parts if part.trained == trained and part.name))
        for role, trained in (("frozen", False), ("trained", True))
    }
    return "; ".join(
        f"{listed(names)} {'is' if len(names) == 1 else 'are'} {role}" for role, names in roles.items() if names
    )


def listed(names: Sequence[str]) -> str:
    """`A, B and C`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


class Tile(NamedTuple):
    """A matrix of `high` rows and `wide` columns under its caption, and the sign before it."""

    caption: str
    high: int
    wide: int
    trained: bool
    sign: str = " "

    def lines(self, unit: int, *, ascii_only: bool) -> list[str]:
        """It drawn in characters, each `unit` numbers wide and twice as many high; a frozen one in whole characters."""
        wide, high = self.wide / unit, self.high / (unit * _ASPECT)
        if not self.trained:
            return [(":" if ascii_only else "░") * max(1, round(wide))] * max(1, round(high))
        (columns, right), (rows, top) = _eighths(wide), _eighths(high)
        if not columns:
            rows, top = round(high), int(high < 0.5)
        if ascii_only:
            return ["#" * columns + "|" * (right > 0)] * rows or ["_" * max(1, columns)]
        solid = "█" * columns + " ▏▎▍▌▋▊▉"[right].strip()
        edge = [" ▁▂▃▄▅▆▇"[top] * max(1, columns)] if top else []
        return [*edge, *[solid] * rows]


def _eighths(length: float) -> tuple[int, int]:
    """Whole characters and eighths of one, an eighth at least."""
    return divmod(max(1, round(8 * length)), 8)


def _tiles(told: Told, layer: str) -> list[Tile]:
    """From left to right as formulas are written: what is applied last comes first, and a vector of outputs upright."""
    (_, m), tiles = CLASSIFIER[layer], list[Tile]()
    for path in told.method.layer(*CLASSIFIER[layer], told.options):
        sign = " + " if told.factored and tiles else " "
        for part in reversed(path):
            if len(part.shape) == 2:
                wide, high = part.shape
            else:
                wide, high = (1, part.size) if part is path[-1] and part.size == m else (part.size, 1)
            tiles.append(Tile(f"{part.name} {high} x {wide}".strip(), high, wide, part.trained, sign if tiles else ""))
            sign = " · " if told.factored else " "
    return tiles


def _drawn(told: Told, columns: int, *, ascii_only: bool) -> list[Line]:
    """Each layer's matrices at one scale, the frozen shaded, the trained solid; as the sum of products that they are.

    A side of less than an eighth of a character is drawn as an eighth.
    """
    layers = {layer: _tiles(told, layer) for layer in told.targets}
    if any(_wide(tiles, _COARSEST) > columns - _LABEL for tiles in layers.values()):
        layers = {
            layer: [tile._replace(caption=tile.caption.replace(" x ", "x")) for tile in tiles]
            for layer, tiles in layers.items()
        }
    highs = [max(tile.high for tile in tiles) for tiles in layers.values()]
    least = math.ceil(max(max(highs) / _LINES, sum(highs) / (2 * _LINES)) / _ASPECT)
    unit = next(
        unit
        for unit in itertools.count(least)
        if unit > _COARSEST or all(_wide(tiles, unit) <= columns - _LABEL for tiles in layers.values())
    )
    lines: list[Line] = []
    for layer, tiles in layers.items():
        blocks = [tile.lines(unit, ascii_only=ascii_only) for tile in tiles]
        high = max(map(len, blocks))
        rows = [layer.ljust(_LABEL), *[" " * _LABEL] * high]
        for tile, block in zip(tiles, blocks, strict=True):
            full, sign = [tile.caption, *[""] * (high - len(block)), *block], tile.sign
            if ascii_only:
                full[0], sign = full[0].encode("ascii", "replace").decode(), sign.replace("·", "*")
            signs = [*[" " * len(sign)] * high, sign]
            rows = [
                row + before + text.ljust(max(map(len, full)))
                for row, before, text in zip(rows, signs, full, strict=True)
            ]
        lines += [line(row.rstrip(), "" if number else "dim", folds=False) for number, row in enumerate(rows)]
    shades = (":", "#") if ascii_only else ("░", "█")
    return [*lines, note(f"{shades[0]} frozen, {shades[1]} trained; to scale, a column is {unit} numbers wide")]


def _wide(tiles: Sequence[Tile], unit: int) -> int:
    return sum(len(tile.sign) + max(len(tile.caption), math.ceil(tile.wide / unit)) for tile in tiles)


def introduction(settings: Mapping[str, Any]) -> str:
    """`F-MNIST is MNIST with 30% of the twos and threes mirrored; not Fashion-MNIST.`

    Args:
        settings: of the F-MNIST; what they leave out is as it is by default.
    """
    from lorabench.data import shifts

    options = shifts.parse(dict(settings))
    named = listed([_ENGLISH[digit] for digit in options.classes])
    share = f"{100 * options.fraction:.4g}%"
    return f"F-MNIST is MNIST with {share} of the {named} {shifts.of(options).word}; it is not Fashion-MNIST."


def introduced(runs: Iterable[Run], store: Store | None = None) -> Block | None:
    """What the F-MNIST among the runs is, or with `store` the one that they were made from; None if none or several."""
    made = {run.id: run for run in runs if run.stage == "fmnist"}
    if store:
        parents = {run.parents.data for run in runs if run.parents.data} - made.keys()
        made |= {name: run for name in parents if (run := store.finished(name))}
    settings = [run.settings for run in made.values()]
    return line(introduction(settings[0])) if len(settings) == 1 else None


class Digit(NamedTuple):
    """An image that the shift changed, by its place in the test set: what it is, and what it is taken for."""

    position: int
    true: int
    before: int
    after: int


def repaired(pictures: Pictures) -> Digit | None:
    """A changed image that only the tuned model reads: the largest digit there is, misread as the base mostly does."""
    import numpy as np

    repaired = pictures.flipped & (pictures.before != pictures.labels) & (pictures.after == pictures.labels)
    if not repaired.any():
        return None
    true = pictures.labels[repaired].max()
    repaired &= pictures.labels == true
    misread = np.bincount(pictures.before[repaired]).argmax()
    index = int(np.flatnonzero(repaired & (pictures.before == misread))[0])
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
        label = {"fmnist.flipped": f"{word} images", "fmnist": "F-MNIST", "mnist": "MNIST"}[stem]
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
    from lorabench.analysis.settings import collect, featured_setting
    from lorabench.report.figures import pictures_of

    featured = featured_setting(collect(runs).settings)
    if featured is None or not (headline(featured.runs[0])):
        return None
    run = featured.runs[0]
    images = store.finished(run.parents.data) if run.parents.data else None
    return stack(
        [outcome(run, pictures_of(run, store, data_dir), images.settings if images else {}), explanation(of_run(run))]
    )
