"""What `scale --measure` found: measured beside worked out, the whole by a line, the talk's claims in three columns."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from lorabench.analysis import measured
from lorabench.report.style import grid, group, heading, note, stack
from lorabench.scale import architecture, size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lorabench.analysis.measured import Figure
    from lorabench.report.blocks import Block

_LABELS = {
    "step": "a step",
    "gradients": "without Adam's update",
    "peak": "memory, at most",
    "checkpoint": "checkpoint",
}


def measured_report(record: Mapping[str, Any], label: str) -> Block:
    """The record of one measurement, readable at 80 columns; `label` is the method's."""
    model = architecture(record["architecture"])
    layers, blocks = model.matrix("q").layers, [count["blocks"] for count in record["counts"]]
    figures, rounds = measured.figures(record), len(record["counts"][0]["tuned"]["update_s"])
    whole = "whole" if blocks[-1] == layers else f"{blocks[-1]} of {layers} blocks"
    where = f"{record['device']} {record['unit']}" + (
        f", {record['threads']} threads" if record["device"] == "cpu" else ""
    )
    how = f"{record['batch']} x {record['context']} tokens in {record['precision']}; {where}, torch {record['torch']}"
    table = grid(f"measured, {whole}", "", "arithmetic", "measured", "ratio", align="<<>>>")
    for figure in figures:
        side = {"full": "full", "tuned": label, "times": "times less"}[figure.side]
        name = _LABELS[figure.quantity] if figure.side == figures[0].side else ""
        off = "" if figure.off is None else f"{figure.off:.2f}"
        table.add_row(name, side, _text(figure, figure.arithmetic), _text(figure, figure.measured) + _ends(figure), off)
    lines = [
        (
            f"random tokens; {rounds} round(s), everything in each; a geometric mean, with its 95% interval from 3 on; "
            "memory: of a fresh process, beyond what it held before; arithmetic: of times, the products with weights; "
            "of memory, weights, gradients and Adam without activations"
        )
    ]
    if "full" not in record["counts"][0]:
        budget = "the memory that may be taken" if not record["free_bytes"] else f"{size(record['free_bytes'])} free"
        lines.append(f"full training of one block would take {size(record['full_needs'])}, with {budget}: not measured")
    return stack(
        [
            group(heading(f"{model.title}, measured here", label), note(how)),
            group(table, note("\n".join(textwrap.fill(text, 79) for text in lines))),
            _line_table(figures, label, [n for n in blocks if n < layers], layers),
            _claims_table(record, blocks[-1] == layers),
        ]
    )


def _line_table(figures: list[Figure], label: str, through: list[int], layers: int) -> Block | None:
    if all(figure.line is None for figure in figures):
        return None
    title = f"{layers} blocks, by a line through {through[0]} and {through[-1]}"
    table = grid(title, "", "by the line", "measured", "error", align="<<>>>")
    for figure in figures:
        if figure.quantity == "gradients" or figure.line is None:
            continue
        side = {"full": "full", "tuned": label, "times": "times less"}[figure.side]
        name = _LABELS[figure.quantity] if figure.side == figures[0].side else ""
        known = figure.error is not None
        error = f"{figure.error:+.1%}" if figure.error is not None else ""
        table.add_row(name, side, _text(figure, figure.line), _text(figure, figure.measured) if known else "", error)
    return table


def _claims_table(record: Mapping[str, Any], whole: bool) -> Block:
    table = grid("what the talk says of GPT-3", "arithmetic", "measured", "paper", align="<>>>")
    for claim in measured.claims(record):
        digits = 1 if claim.key == "gpus" else 3 if claim.key == "checkpoint" else 1
        sign = "" if claim.key == "gpus" else "+"
        cells = [f"{value:{sign}.{digits}%}" if value is not None else "" for value in (claim.arithmetic, claim.paper)]
        found = "" if claim.measured is None else f"{claim.measured:{sign}.{digits}%}"
        if claim.low is not None and claim.high is not None:
            found += f" [{claim.low:{sign}.{digits}%}, {claim.high:{sign}.{digits}%}]"
        table.add_row(claim.talk, cells[0], found, cells[1])
    how = "measured on the whole model" if whole else "measured: by the line, if there is one"
    text = f"{how}; arithmetic: of this model; paper: of GPT-3 175B, Hu et al. 2021, section 4.2"
    return group(table, note(textwrap.fill(text, 79)))


def _text(figure: Figure, value: float | None) -> str:
    if value is None:
        return ""
    if figure.side == "times":
        return f"{value:,.2f}"
    if figure.quantity in ("peak", "checkpoint"):
        return size(value)
    return f"{value:,.2f} s" if value >= 2 else f"{1000 * value:,.4g} ms"


def _ends(figure: Figure) -> str:
    if figure.side != "times" or figure.low is None or figure.high is None:
        return ""
    return f" [{figure.low:,.2f}, {figure.high:,.2f}]"
