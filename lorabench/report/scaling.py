"""What a method would take on a model that is not here, and what that says of the talk's claims about GPT-3."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from lorabench import estimate
from lorabench.analysis.plain import plain
from lorabench.report.style import grid, group, heading, line, note, stack
from lorabench.scale import claims, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.report.blocks import Block, Line
    from lorabench.scale import Claim, Projection, Recount
    from lorabench.scale.memory import Memory

_VERDICTS = {"holds": "green", "possible": "green", "rounded": "green", "cut": "green"}


def scaling_data(found: Projection) -> dict[str, Any]:
    """All figures as plain data; the paper's rows only for the model that they are about."""
    return {**plain(found), "claims": plain(claims(found)), "paper": plain(_recounts(found))}


def scaling(found: Projection) -> Block:
    """All figures, readable at 80 columns."""
    where = f"{found.method} on {', '.join(found.targets)}; {found.precision}, GPUs of {found.gpu_gb} GB"
    recounts = _recounts(found)
    return stack(
        [
            group(heading(found.title, where), _below(f"{found.total:,} parameters. {found.source}")),
            group(_sides(found), _below(_SIDES_NOTE)),
            group(_claims(claims(found)), _below(_CLAIMS_NOTE)),
            group(_memory(found.memory, found.method), _below(_MEMORY_NOTE)),
            group(_matrices(found), _below(_MATRICES_NOTE)),
            group(_paper(recounts), _below(_PAPER_NOTE)) if recounts else None,
        ]
    )


_SIDES_NOTE = (
    "state: weights, gradients and Adam, no activations; multiply-adds: products with weights, of which full training "
    "makes 3nm per matrix, a frozen one 2nm and LoRA's A and B 3k(n+m); a gradient goes down to the first trained "
    "matrix and no further: a frozen one below it makes nm; nothing is kept from one epoch to the next"
)
_MEMORY_NOTE = (
    "B: bytes of a trained parameter with its gradient and Adam's state; mixed: weights and gradients in 2 bytes, "
    "Adam's moments and a copy of the trained weights in 4"
)
_MATRICES_NOTE = "break-even: the k above which LoRA trains more than the matrix has, nm/(n+m)"
_CLAIMS_NOTE = (
    "said of GPT-3 175B, judged for the model above; here: computed; paper: quoted from Hu et al. 2021, "
    "arXiv:2106.09685, section 4.2, or computed from its figures; holds: by arithmetic; possible: arithmetic allows it "
    "and a clock decides"
)
_PAPER_NOTE = "cut: the printed digits are not rounded; fewer: than the model's own parameters"


def _recounts(found: Projection) -> list[Recount]:
    return estimate.recounts() if found.architecture == "gpt3-175b" else []


def _sides(found: Projection) -> Block:
    full, tuned = found.full, found.tuned
    table = grid("training", "full", found.method, "share", "times less", align="<>>>>")

    def add(label: str, whole: float, part: float, *, as_size: bool = False) -> None:
        text = size if as_size else "{:,}".format
        table.add_row(label, text(whole), text(part), _share(part / whole), _times(whole / part))

    add("trained parameters", full.trainable, tuned.trainable)
    add("checkpoint", full.checkpoint_bytes, tuned.checkpoint_bytes, as_size=True)
    add("100 checkpoints and the base", *found.many, as_size=True)
    add("state", full.training_bytes, tuned.training_bytes, as_size=True)
    add("GPUs for it", full.gpus, tuned.gpus)
    for label, whole, part in (
        ("multiply-adds, forward", full.forward, tuned.forward),
        ("multiply-adds, backward", full.backward, tuned.backward),
        ("multiply-adds of a token", full.work, tuned.work),
    ):
        if whole is not None and part is not None:
            table.add_row(label, _count(whole), _count(part), _share(part / whole), _times(whole / part))
        elif whole is not None:
            table.add_row(label, _count(whole), "by the batch", "", "")
    return table


def _memory(rows: Sequence[Memory], method: str) -> Block:
    table = grid("state at", "B", "full", "GPUs", method, "GPUs", "times less", align="<>>>>>>")
    for row in rows:
        table.add_row(
            row.precision,
            str(row.bytes_per_trained),
            size(row.full_bytes),
            f"{row.full_gpus:,}",
            size(row.tuned_bytes),
            f"{row.tuned_gpus:,}",
            _times(row.full_bytes / row.tuned_bytes),
        )
    return table


def _matrices(found: Projection) -> Block:
    table = grid("matrix", "inputs n", "outputs m", "layers", "adapted", "break-even k", align="<>>><>")
    for row in found.matrices:
        adapted = "yes" if row.adapted else ""
        table.add_row(row.name, f"{row.n:,}", f"{row.m:,}", str(row.layers), adapted, f"{row.break_even:,.2f}")
    return table


def _claims(rows: Sequence[Claim]) -> Block:
    table = grid("what the talk says", "", align="<<")
    for row in rows:
        verdict = line(row.verdict, _VERDICTS.get(row.verdict, "yellow"))
        table.add_row(line(f"{row.talk}\n") + verdict, _lines("here", row.here))
        table.add_row("", _lines("paper", row.paper))
    return table


def _lines(label: str, lines: Sequence[str]) -> Line:
    return line(f"{label:<6}", "dim") + f"\n{'':<6}".join(lines)


def _paper(rows: Sequence[Recount]) -> Block:
    table = grid("the paper's rows", "", "printed", "counted", "", "times fewer", align="<<>><>")
    for row in rows:
        verdict = line(row.verdict, _VERDICTS.get(row.verdict, "yellow"))
        table.add_row(row.label, row.place, row.printed, f"{row.counted:,}", verdict, f"{row.fewer:,.0f}")
    return table


def _share(value: float) -> str:
    """`66.68%`, `0.0108%`: two decimals, or three digits of what is small."""
    return f"{value:.2%}" if value >= 0.01 else f"{100 * value:.3g}%"


def _times(value: float) -> str:
    """`3.62`, `37.6`, `9,285`: at least three digits."""
    digits = 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"


def _count(value: int) -> str:
    """Multiply-adds: exact below 10⁹, else as `523.7e9`."""
    return f"{value:,}" if value < 10**9 else f"{value / 10**9:,.1f}e9"


def _below(text: str) -> Line:
    return note(textwrap.fill(text, 79))
