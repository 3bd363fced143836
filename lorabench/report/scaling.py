"""What a method would take on a model that is not here, and what that says of the talk's claims about GPT-3."""

from __future__ import annotations

from typing import Any

from lorabench.analysis.number import plain
from lorabench.report.blocks import Block, Line, grid, group, heading, line, note, stack
from lorabench.scale import Projection, Training, claims, recounts, size


def scaling_data(projection: Projection) -> dict[str, Any]:
    """All figures as plain data, which the tables show too; the paper's rows only for the model that they are about."""
    model, tuned = projection.architecture, projection.tuned
    return {
        "architecture": model.name,
        "title": model.title,
        "source": model.source,
        "total": model.total,
        "method": tuned.label,
        "targets": list(tuned.targets),
        "precision": tuned.precision.name,
        "gpu_gb": tuned.gpu_gb,
        "share": projection.share,
        "full": _side(projection.full),
        "tuned": _side(tuned),
        "many": list(projection.many),
        "matrices": [
            {
                **{key: getattr(matrix, key) for key in ("name", "n", "m", "layers")},
                "adapted": matrix.name in tuned.targets,
                "break_even": matrix.break_even,
            }
            for matrix in model.matrices
        ],
        "memory": [
            {
                "precision": whole.precision.name,
                "bytes_per_trained": whole.precision.trained,
                "full_bytes": whole.training_bytes,
                "tuned_bytes": part.training_bytes,
                "full_gpus": whole.gpus,
                "tuned_gpus": part.gpus,
            }
            for whole, part in projection.memory
        ],
        "claims": plain(claims(projection)),
        "paper": [
            {
                "label": row.label,
                "place": row.place,
                "printed": f"{row.printed}M",
                "counted": counted,
                "verdict": row.verdict(counted),
                "fewer": model.total / counted,
            }
            for row, counted in (recounts() if model.name == "gpt3-175b" else [])
        ],
    }


def _side(training: Training) -> dict[str, Any]:
    keys = ("label", "trainable", "checkpoint_bytes", "training_bytes", "gpus", "forward", "backward", "work")
    return {key: getattr(training, key) for key in keys}


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


def scaling(projection: Projection) -> Block:
    """All figures, readable at 80 columns."""
    data = scaling_data(projection)
    where = f"{data['method']} on {', '.join(data['targets'])}; {data['precision']}, GPUs of {data['gpu_gb']} GB"
    return stack(
        [
            group(heading(data["title"], where), note(f"{data['total']:,} parameters. {data['source']}")),
            group(_sides(data), note(_SIDES_NOTE)),
            group(_claims(data["claims"]), note(_CLAIMS_NOTE)),
            group(_memory(data), note(_MEMORY_NOTE)),
            group(_matrices(data["matrices"]), note(_MATRICES_NOTE)),
            group(_paper(data["paper"]), note(_PAPER_NOTE)) if data["paper"] else None,
        ]
    )


def _sides(data: dict[str, Any]) -> Block:
    full, tuned = data["full"], data["tuned"]
    table = grid("training", "full", data["method"], "share", "times less", align="<>>>>")
    for label, whole, part, text in (
        ("trained parameters", full["trainable"], tuned["trainable"], "{:,}".format),
        ("checkpoint", full["checkpoint_bytes"], tuned["checkpoint_bytes"], size),
        ("100 checkpoints and the base", *data["many"], size),
        ("state", full["training_bytes"], tuned["training_bytes"], size),
        ("GPUs for it", full["gpus"], tuned["gpus"], "{:,}".format),
        ("multiply-adds, forward", full["forward"], tuned["forward"], _count),
        ("multiply-adds, backward", full["backward"], tuned["backward"], _count),
        ("multiply-adds of a token", full["work"], tuned["work"], _count),
    ):
        if part is None:
            table.add_row(label, text(whole), "by the batch", "", "")
        else:
            table.add_row(label, text(whole), text(part), _share(part / whole), _times(whole / part))
    return table


def _memory(data: dict[str, Any]) -> Block:
    table = grid("state at", "B", "full", "GPUs", data["method"], "GPUs", "times less", align="<>>>>>>")
    for row in data["memory"]:
        whole, part = row["full_bytes"], row["tuned_bytes"]
        sides = size(whole), f"{row['full_gpus']:,}", size(part), f"{row['tuned_gpus']:,}"
        table.add_row(row["precision"], str(row["bytes_per_trained"]), *sides, _times(whole / part))
    return table


def _matrices(rows: list[dict[str, Any]]) -> Block:
    table = grid("matrix", "inputs n", "outputs m", "layers", "adapted", "break-even k", align="<>>><>")
    for row in rows:
        sizes = f"{row['n']:,}", f"{row['m']:,}", str(row["layers"])
        table.add_row(row["name"], *sizes, "yes" if row["adapted"] else "", f"{row['break_even']:,.2f}")
    return table


def _claims(rows: list[dict[str, Any]]) -> Block:
    table = grid("what the talk says", "", align="<<")
    for row in rows:
        table.add_row(line(f"{row['talk']}\n") + _verdict(row), _lines("here", row["here"]))
        table.add_row("", _lines("paper", row["paper"]))
    return table


def _paper(rows: list[dict[str, Any]]) -> Block:
    table = grid("the paper's rows", "", "printed", "counted", "", "times fewer", align="<<>><>")
    for row in rows:
        counts = row["printed"], f"{row['counted']:,}", _verdict(row), f"{row['fewer']:,.0f}"
        table.add_row(row["label"], row["place"], *counts)
    return table


def _verdict(row: dict[str, Any]) -> Line:
    return line(row["verdict"], "yellow" if row["verdict"] in ("no", "unknown", "differs") else "green")


def _lines(label: str, lines: list[str]) -> Line:
    return line(f"{label:<6}", "dim") + f"\n{'':<6}".join(lines)


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
