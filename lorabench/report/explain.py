"""What `explain` shows: a method drawn to scale and counted layer by layer, and what a run of it did to one digit.

explanation(told)                    told = by_default("lora"), or of_run(run)
outcome(run, pictures, settings)     a digit before and after, three numbers, three sentences
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from lorabench.analysis.quantities import count
from lorabench.analysis.settings import collect, featured_setting
from lorabench.classifier import CLASSIFIER
from lorabench.data import shifts
from lorabench.methods.entry import Layer, Method, Part
from lorabench.methods.registry import METHODS
from lorabench.report import figures
from lorabench.report.blocks import Block, Line, Picture, grid, group, heading, line, note, stack
from lorabench.report.digits import beside, draw
from lorabench.report.tables import introduction, listed
from lorabench.runs import Run, Store
from lorabench.scale import ARCHITECTURES

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

    def paths(self, layer: str) -> Layer:
        """What it makes of a layer: the sum of these, of each part by part."""
        return self.method.layer(*CLASSIFIER[layer], self.options)

    def parts(self, layer: str) -> list[Part]:
        """All of them, in the order in which they are applied."""
        return [part for path in self.paths(layer) for part in path]


def by_default(name: str) -> Told:
    """The method as `finetune NAME` has it."""
    method = METHODS[name]
    return Told(name, method.defaults, method.where(list(CLASSIFIER), method.defaults))


def of_run(run: Run) -> Told:
    """The method of a fine-tuned run of the talk's classifier, on the layers that it was applied to."""
    method = METHODS[run.settings["method"]]
    options = {key: run.settings.get(key, value) for key, value in method.defaults.items()}
    return Told(run.settings["method"], options, run.settings["targets"] or method.where(list(CLASSIFIER), options))


def explanation_data(told: Told) -> dict[str, Any]:
    """What `explanation` shows, as plain data; a share in percent.

    A layer has m outputs and n inputs, its parameters, those trained, these as a sum, and the k where LoRA saves none.
    """
    k, layers = told.options.get("k"), list[dict[str, Any]]()
    for matrix in ARCHITECTURES["mlp"].matrices:
        parts = [part for part in told.parts(matrix.name) if part.trained and matrix.name in told.targets]
        product = [part.shape for part in parts] == [(matrix.n, k), (k, matrix.m)]
        layers.append(
            {
                "layer": matrix.name,
                "m": matrix.m,
                "n": matrix.n,
                "parameters": matrix.n * matrix.m + matrix.m,
                "trained": sum(part.size for part in parts),
                "sum": _sum(parts, k),
                "break_even": matrix.break_even if product else None,
            }
        )
    reason, total = told.method.exemption("merge", told.options), ARCHITECTURES["mlp"].total
    trained = sum(row["trained"] for row in layers)
    return {
        "method": told.name,
        "title": told.method.title,
        "formula": told.method.formula,
        "paper": told.method.paper,
        "options": dict(told.options),
        "layers": layers,
        "targets": list(told.targets),
        "trained": trained,
        "total": total,
        "percent": 100 * trained / total,
        "mergeable": reason is None,
        "why_not": reason.reason if reason else None,
    }


def _sum(parts: Sequence[Part], k: int | None) -> str:
    """`4·(784 + 256) + 256`: what all matrices of rank k have in common is written once."""
    thin = [part.shape for part in parts if len(part.shape) == 2 and k in part.shape]
    sides = [str(b if a == k else a) for a, b in thin]
    terms = [f"{k}·({' + '.join(sides)})" if len(sides) > 1 else f"{k}·{sides[0]}"] if sides else []
    return " + ".join([*terms, *("·".join(map(str, part.shape)) for part in parts if part.shape not in thin)])


def explanation(told: Told) -> Block:
    """The method's formula, its layers drawn to scale, and where its number of parameters comes from."""
    method, data = told.method, explanation_data(told)
    options = [
        f"{key}={value:.3g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in told.options.items()
        if value not in (None, 0.0)
    ]
    where = f"in {', '.join(told.targets)}" + (f"; {', '.join(options)}" if options else "")
    why_not, trained = data["why_not"], f"{data['trained']:,}"
    merged = f"no: {why_not}" if why_not else "yes: into the linear layers, which then cost what they did"
    facts = grid("", "", align="<<")
    for name, fact in (("formula", method.formula), ("trained", where), ("mergeable", merged), ("paper", method.paper)):
        facts.add_row(line(name, "dim"), fact)
    even = any(row["break_even"] for row in data["layers"])
    heads = ("layer", "W0 (m x n)", "with bias", "trained", *(["break-even k"] if even else []))
    table = grid(*heads, align="<" + ">" * (len(heads) - 1))
    for row in data["layers"]:
        least = [f"{row['break_even']:.1f}"] if row["break_even"] else []
        table.add_row(row["layer"], f"{row['m']} x {row['n']}", f"{row['parameters']:,}", f"{row['trained']:,}", *least)
    table.add_row("sum", "", f"{data['total']:,}", trained)
    terms = " + ".join(row["sum"] for row in data["layers"] if row["sum"])
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
    roles: list[str] = []
    for role, trained in (("frozen", False), ("trained", True)):
        parts = [part for part in told.parts(told.targets[0]) if part.trained == trained and part.name]
        if names := list(dict.fromkeys(part.name for part in parts)):
            roles.append(f"{listed(names)} {'is' if len(names) == 1 else 'are'} {role}")
    return "; ".join(roles)


class Tile(NamedTuple):
    """A matrix of `high` rows and `wide` columns under its caption, and the sign before it."""

    caption: str
    high: int
    wide: int
    trained: bool
    sign: str = " "

    def lines(self, unit: int, *, ascii_only: bool) -> list[str]:
        """It drawn in characters, each `unit` numbers wide and twice as many high; a frozen one in whole characters.

        A side of less than an eighth of a character is drawn as an eighth.
        """
        wide, high = self.wide / unit, self.high / (unit * _ASPECT)
        if not self.trained:
            return [(":" if ascii_only else "░") * max(1, round(wide))] * max(1, round(high))
        (columns, right), (rows, top) = (divmod(max(1, round(8 * length)), 8) for length in (wide, high))
        if not columns:
            rows, top = round(high), int(high < 0.5)
        if ascii_only:
            return ["#" * columns + "|" * (right > 0)] * rows or ["_" * max(1, columns)]
        solid = "█" * columns + " ▏▎▍▌▋▊▉"[right].strip()
        edge = [" ▁▂▃▄▅▆▇"[top] * max(1, columns)] if top else []
        return [*edge, *[solid] * rows]


def _tiles(told: Told, layer: str, times: str, *, ascii_only: bool) -> list[Tile]:
    """From left to right as formulas are written: what is applied last comes first, and a vector of outputs upright.

    Signs stand only where a layer is the sum of its own weight and of the product B A; `times` is that of captions.
    """
    (_, m), tiles = CLASSIFIER[layer], list[Tile]()
    factored = not told.method.remakes and [part.name for part in told.parts(told.targets[0])[1:]] == ["A", "B"]
    for path in told.paths(layer):
        sign = " + " if factored else " "
        for part in reversed(path):
            if len(part.shape) == 2:
                wide, high = part.shape
            else:
                wide, high = (1, part.size) if part is path[-1] and part.size == m else (part.size, 1)
            caption = f"{part.name} {high}{times}{wide}".strip()
            if ascii_only:
                caption = caption.encode("ascii", "replace").decode()
            tiles.append(Tile(caption, high, wide, part.trained, sign if tiles else ""))
            sign = " " if not factored else " * " if ascii_only else " · "
    return tiles


def _drawn(told: Told, columns: int, *, ascii_only: bool) -> list[Line]:
    """Each layer's matrices at one scale, the frozen shaded, the trained solid."""

    def fits(layers: Mapping[str, Sequence[Tile]], unit: int) -> bool:
        return all(
            sum(len(tile.sign) + max(len(tile.caption), math.ceil(tile.wide / unit)) for tile in tiles)
            <= columns - _LABEL
            for tiles in layers.values()
        )

    layers = {layer: _tiles(told, layer, " x ", ascii_only=ascii_only) for layer in told.targets}
    if not fits(layers, _COARSEST):
        layers = {layer: _tiles(told, layer, "x", ascii_only=ascii_only) for layer in told.targets}
    highs = [max(tile.high for tile in tiles) for tiles in layers.values()]
    least = math.ceil(max(max(highs) / _LINES, sum(highs) / (2 * _LINES)) / _ASPECT)
    unit = next(unit for unit in itertools.count(least) if unit > _COARSEST or fits(layers, unit))
    lines: list[Line] = []
    for layer, tiles in layers.items():
        blocks = [tile.lines(unit, ascii_only=ascii_only) for tile in tiles]
        high = max(map(len, blocks))
        rows = [layer.ljust(_LABEL), *[" " * _LABEL] * high]
        for tile, block in zip(tiles, blocks, strict=True):
            texts = [tile.caption, *[""] * (high - len(block)), *block]
            signs = [*[" " * len(tile.sign)] * high, tile.sign]
            wide = max(map(len, texts))
            rows = [row + sign + text.ljust(wide) for row, sign, text in zip(rows, signs, texts, strict=True)]
        lines += [line(row.rstrip(), "" if number else "dim", folds=False) for number, row in enumerate(rows)]
    frozen, trained = (":", "#") if ascii_only else ("░", "█")
    return [*lines, note(f"{frozen} frozen, {trained} trained; to scale, a column is {unit} numbers wide")]


def repaired(pictures: figures.Pictures) -> dict[str, int] | None:
    """A changed image that only the tuned model reads: the largest digit there is, misread as the base mostly does.

    Its `position` in the test set, the `true` digit, and what it is taken for `before` and `after`.
    """
    import numpy as np

    repaired = pictures.flipped & (pictures.before != pictures.labels) & (pictures.after == pictures.labels)
    if not repaired.any():
        return None
    true = pictures.labels[repaired].max()
    repaired &= pictures.labels == true
    misread = np.bincount(pictures.before[repaired]).argmax()
    index = int(np.flatnonzero(repaired & (pictures.before == misread))[0])
    return {"position": index, "true": int(true), "before": int(misread), "after": int(true)}


def headline(run: Run) -> dict[str, tuple[Any, Any]]:
    """Part of the test sets -> what the base and what the tuned run gets right there; only what was measured."""
    pairs = {
        stem: (count(run.before, stem), count(run.metrics, stem)) for stem in ("fmnist.flipped", "fmnist", "mnist")
    }
    return {stem: (old, new) for stem, (old, new) in pairs.items() if old and new and old.n and new.n}


def meaning(run: Run, settings: Mapping[str, Any]) -> list[str]:
    """A run in plain sentences: what was trained, what it repaired, what it forgot."""
    known, word = headline(run), shifts.named(settings).word
    sentences: list[str] = []
    if run.params:
        total = ARCHITECTURES["mlp"].total
        share = f"{100 * run.params.trainable / total:.2f}%"
        sentences.append(f"{run.params.trainable:,} numbers were trained, {share} of the classifier's {total:,}.")
    if "fmnist.flipped" in known:
        old, new = known["fmnist.flipped"]
        sentences.append(f"Of {new.n:,} {word} images it now reads {new.correct:,}; before it read {old.correct:,}.")
    if "mnist" in known:
        old, new = known["mnist"]
        lost = old.correct - new.correct
        change = f"{abs(lost):,} {'fewer' if lost > 0 else 'more'} than before" if lost else "as many as before"
        sentences.append(f"Of the {new.n:,} images of MNIST, none of them {word}, it reads {new.correct:,}, {change}.")
    return sentences


def outcome_data(run: Run, pictures: figures.Pictures | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What `outcome` shows, as plain data; shares in percent."""
    return {
        "id": run.id,
        "fmnist": introduction(settings),
        "digit": repaired(pictures) if pictures else None,
        "numbers": {
            stem: {"base": old.percent, "tuned": new.percent, "images": new.n}
            for stem, (old, new) in headline(run).items()
        },
        "meaning": meaning(run, settings),
    }


def outcome(run: Run, pictures: figures.Pictures | None, settings: Mapping[str, Any]) -> Block:
    """A digit that the run repaired, its three numbers, and what they mean.

    Args:
        run: fine-tuned.
        pictures: its test images; None if there are none.
        settings: of its F-MNIST.
    """
    word = shifts.named(settings).word
    table = grid("right, %", "base", "tuned", align="<>>")
    for stem, (old, new) in headline(run).items():
        label = {"fmnist.flipped": f"{word} images", "fmnist": "F-MNIST", "mnist": "MNIST"}[stem]
        table.add_row(label, f"{old.percent:.2f}", f"{new.percent:.2f}")
    shown: Block | None = None
    if pictures and (digit := repaired(pictures)):
        place, true = digit["position"], digit["true"]
        pair = {"in MNIST": pictures.mnist[place], "in F-MNIST": pictures.fmnist[place]}

        def drawn(columns: int, ascii_only: bool) -> list[Line]:
            return beside([[head, *draw(image, ascii_only=ascii_only)] for head, image in pair.items()], columns)

        shown = group(
            line(f"A {word} {true}: the base reads {digit['before']}, the tuned model {digit['after']}.", "bold"),
            Picture(drawn, f"A handwritten {true}, and the same {word}."),
        )
    said = group(*map(line, meaning(run, settings)))
    return stack([heading(run.id), line(introduction(settings)), shown, table, said])


def story(runs: Sequence[Run], store: Store, data_dir: Path | None) -> Block | None:
    """What was done and what came out, for one who has seen nothing else; None without a fine-tune of the talk's kind.

    The first run of the setting that the report shows in full is explained.
    """
    featured = featured_setting(collect(runs).settings)
    if featured is None or not headline(featured.runs[0]):
        return None
    run = featured.runs[0]
    images = store.finished(run.parents.data) if run.parents.data else None
    pictures = figures.pictures_of(run, store, data_dir)
    return stack([outcome(run, pictures, images.settings if images else {}), explanation(of_run(run))])
