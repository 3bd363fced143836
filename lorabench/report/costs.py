"""What methods cost: measured here by `bench` and `scale --measure`, and computed by `scale` for a model not here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lorabench.analysis import measured
from lorabench.analysis.measured import Figure
from lorabench.analysis.number import plain
from lorabench.report.blocks import Block, Line, grid, group, heading, line, note, stack
from lorabench.scale import Projection, Training, architecture, claims, recounts, size

Cost = dict[str, Any]
"""One entry of a bench record: the fields of `lorabench.bench.Costs` as plain data."""


def costs_table(record: Mapping[str, Any]) -> Block:
    """A bench record, readable at 80 columns: training, then inference."""
    costs: Sequence[Cost] = record["costs"]
    training = grid(
        "training", "step ms", "p10-p90", "images/s", "x full", "peak", "state MB", "saved kB", align="<>>>>>>>"
    )
    for cost in costs:
        step = cost["step_ms"]
        training.add_row(
            cost["label"],
            f"{step['median']:.2f}",
            f"{step['p10']:.2f}-{step['p90']:.2f}{'!' if cost['noisy'] else ''}",
            f"{cost['images_per_s']:,.0f}",
            _speedup(cost),
            f"{100 * cost['peak_share']:.0f}%",
            f"{cost['state_bytes'] / 1e6:.3f}",
            f"{cost['saved_bytes'] / 1e3:,.1f}",
        )
    batches = list(costs[0]["latency_us"])
    heads = [f"{n}{kind}" for n in batches for kind in ("", " m")]
    inference = grid("inference, µs", "trained", "file B", *heads, align="<>>" + ">" * len(heads))
    for cost in costs:
        cells: list[str] = []
        for n in batches:
            merged = cost["merged_us"].get(n)
            cells += [f"{cost['latency_us'][n]['median']:,.0f}", f"{merged['median']:,.0f}" if merged else "-"]
        inference.add_row(cost["label"], f"{cost['trainable']:,}", f"{cost['checkpoint_bytes']:,}", *cells)
    how = (
        f"batch {record['batch_size']}, {record['threads']} thread(s) on {record['device']}, torch {record['torch']}; "
        f"{record['rounds']} rounds of {record['steps']} steps, every method in each; "
        "x full: mean of the rounds' ratios, and its 95% interval from 3 rounds on; "
        "peak: share of a large matrix product's rate at its fastest; "
        "state: weights, gradients, Adam, counted; saved: kept by a forward of 64 images for "
        "the backward, counted; inference: median of one forward at each batch size, m: merged"
    )
    if any(cost["noisy"] for cost in costs):
        how += (
            "\n!: the machine had something else to do: steps differ by a factor of 2, or the peak is above 100%; "
            "these times are of that too, so run bench again on an idle one"
        )
    return stack([training, group(inference, note(how))])


def _speedup(cost: Cost) -> str:
    """`2.84 2.71-2.98`, the range as far as there is one; empty without a full case."""
    if cost["speedup"] is None:
        return ""
    if cost["speedup_low"] is None:
        return f"{cost['speedup']:.2f}"
    return f"{cost['speedup']:.2f} {cost['speedup_low']:.2f}-{cost['speedup_high']:.2f}"


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
            group(table, note("\n".join(lines))),
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
        here = "" if claim.measured is None else f"{claim.measured:{sign}.{digits}%}"
        if claim.low is not None and claim.high is not None:
            here += f" [{claim.low:{sign}.{digits}%}, {claim.high:{sign}.{digits}%}]"
        table.add_row(claim.talk, cells[0], here, cells[1])
    how = "measured on the whole model" if whole else "measured: by the line, if there is one"
    text = f"{how}; arithmetic: of this model; paper: of GPT-3 175B, Hu et al. 2021, section 4.2"
    return group(table, note(text))


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
