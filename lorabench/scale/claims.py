"""The talk's three claims about GPT-3, and the LoRA paper's own figures, each worked out again.

What the talk and the paper print is data here, with its place; everything else is computed. The paper: Hu et al. 2021,
arXiv:2106.09685.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from lorabench.scale.projection import Projection, architecture, gpus, train

CHECKPOINT_SAVED, TIME_SAVED, GPU_SHARE = 0.9999, 0.25, 1 / 3
"""What the talk says of GPT-3 175B: checkpoints 99.99% smaller, training 25% faster, on a third of the GPUs."""

PAPER_MEMORY = (1_200 * 10**9, 350 * 10**9)
"""Bytes of GPU memory that training GPT-3 175B takes, fully and by LoRA (section 4.2)."""
PAPER_CHECKPOINT = (350 * 10**9, 35 * 10**6)
"""Bytes of a checkpoint, at k = 4 on the query and value matrices (section 4.2)."""
PAPER_SPEED = (32.5, 43.1)
"""Tokens per second of one V100, with as many shards of the weights (section 4.2)."""
PAPER_GPU_GB = 32
"""Memory of the V100s that are counted here. How many there were the paper does not say."""


@dataclass(frozen=True)
class ComputedClaim:
    """One claim of the talk. `value` is ours, as a fraction in the claim's own sense; None if it is not known.

    Attributes:
        talk: the claim.
        here: the arithmetic for what was asked, a line each.
        paper: the paper's figures and what follows from them, a line each.
        verdict: `holds`; `possible`, if arithmetic bounds it and a clock decides; `no`; `unknown`.
    """

    key: str
    talk: str
    value: float | None
    verdict: Literal["holds", "possible", "no", "unknown"]
    here: list[str]
    paper: list[str]


def claims(case: Projection) -> list[ComputedClaim]:
    """The three claims, for the model and the method of `case`."""
    return [_checkpoint(case), _speed(case), _gpus(case)]


def _checkpoint(case: Projection) -> ComputedClaim:
    whole, part = case.full.checkpoint_bytes, case.tuned.checkpoint_bytes
    saved = 1 - part / whole
    paper_whole, paper_part = PAPER_CHECKPOINT
    return ComputedClaim(
        "checkpoint",
        f"a checkpoint {-CHECKPOINT_SAVED:+.2%}",
        saved,
        "holds" if round(saved, 4) >= CHECKPOINT_SAVED else "no",
        [f"{part:,} of {whole:,} B:", f"{-saved:+.3%}, {whole / part:,.1f} times smaller"],
        [f"{size(paper_whole)} to {size(paper_part)}: {paper_whole / paper_part:,.0f} times"],
    )


def _speed(case: Projection) -> ComputedClaim:
    talk = f"training {TIME_SAVED:.0%} faster"
    before, after = PAPER_SPEED
    paper = [
        f"{before} to {after} tokens/s: {after / before - 1:+.1%} speed, {before / after - 1:+.1%} time",
        "on a V100, so the 25% are time saved",
    ]
    if case.tuned.work is None or case.full.work is None:
        here = ["a weight is made anew in each step, so its work depends on the batch"]
        return ComputedClaim("speed", talk, None, "unknown", here, paper)
    saved = 1 - case.tuned.work / case.full.work
    here = [
        f"{case.tuned.work:,} of {case.full.work:,} multiply-adds:",
        f"at most {1 / (1 - saved) - 1:+.1%} speed, {-saved:+.1%} time",
    ]
    return ComputedClaim("speed", talk, saved, "possible" if saved >= TIME_SAVED else "no", here, paper)


def _gpus(case: Projection) -> ComputedClaim:
    whole, part = case.full, case.tuned
    paper_whole, paper_part = PAPER_MEMORY
    paper_gpus = [gpus(memory, PAPER_GPU_GB) for memory in PAPER_MEMORY]
    bare_whole, bare_part = case.memory[1]
    less = bare_whole.training_bytes / bare_part.training_bytes
    share = part.gpus / whole.gpus
    counted = f"{part.gpus:,} of {whole.gpus:,} GPUs of {part.gpu_gb} GB, {share:.2f}"
    derived = f"{paper_gpus[1]} of {paper_gpus[0]} GPUs of {PAPER_GPU_GB} GB, {paper_gpus[1] / paper_gpus[0]:.2f}"
    return ComputedClaim(
        "gpus",
        "a third of the GPUs",
        share,
        "holds" if share <= GPU_SHARE else "no",
        [
            f"{size(part.training_bytes)} of {size(whole.training_bytes)}: {counted}",
            f"{bare_part.precision.name}: {less:.2f} times less memory",
        ],
        [
            f"{size(paper_whole)} to {size(paper_part)}: {paper_whole / paper_part:.2f} times less memory,",
            f"which would be {derived};",
            "the paper counts no GPUs",
        ],
    )


def size(count: float) -> str:
    """`940,584 B`, `37.75 MB`, `350.7 GB`, `1.402 TB`: exact below 10⁶ bytes, else up to four digits."""
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB")):
        if count >= unit:
            return f"{count / unit:.4g} {name}" if count < 10_000 * unit else f"{count / unit:,.0f} {name}"
    return f"{count:,.0f} B"


@dataclass(frozen=True)
class PaperRow:
    """A count of trained parameters that the paper prints, in millions, and how to count it again.

    Either `method` with `options` adapts the matrices `targets`; or there are `vectors` vectors as wide as the model.
    """

    label: str
    printed: str
    place: str
    method: str | None = None
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    targets: tuple[str, ...] = ()
    vectors: int = 0

    def verdict(self, counted: int) -> Literal["rounded", "cut", "differs"]:
        """Whether the printed digits are those of `counted` rounded, or cut off, or others."""
        unit = 10 ** (6 - len(self.printed.partition(".")[2]))
        figure = int(self.printed.replace(".", ""))
        if (counted + unit // 2) // unit == figure:
            return "rounded"
        return "cut" if counted // unit == figure else "differs"


PAPER_ROWS = (
    PaperRow("LoRA, k = 1, q and v", "4.7", "table 4", "lora", {"k": 1}, ("q", "v")),
    PaperRow("LoRA, k = 4, q and v", "18", "table 5", "lora", {"k": 4}, ("q", "v")),
    PaperRow("LoRA, k = 8, q and v", "37.7", "table 4", "lora", {"k": 8}, ("q", "v")),
    # An adapter after the attention stands before `up`, one after the feed-forward layers before the next `q`.
    PaperRow("Adapter-H, bottleneck 1", "7.1", "table 4", "adapter", {"bottleneck": 1}, ("up", "q")),
    PaperRow("Adapter-H, bottleneck 8", "40.1", "table 4", "adapter", {"bottleneck": 8}, ("up", "q")),
    PaperRow("PreEmbed, 264 tokens", "3.2", "table 4", vectors=256 + 8),
    PaperRow("PreLayer, 16 tokens a layer", "20.2", "table 4", vectors=96 * (8 + 8)),
)
"""Rows of the paper on GPT-3 175B."""


def recounts() -> list[tuple[PaperRow, int]]:
    """The paper's rows, each with its number of trained parameters counted again."""
    model = architecture("gpt3-175b")
    width = model.matrix("q").n
    return [
        (row, train(model, row.method, row.options, row.targets).trainable if row.method else row.vectors * width)
        for row in PAPER_ROWS
    ]
