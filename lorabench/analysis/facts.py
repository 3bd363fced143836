"""What one run says of itself: its sizes, what its F-MNIST changed, and how far it moved each weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.analysis.settings import Setting
    from lorabench.runs import Run


@dataclass(frozen=True)
class SizeRow:
    """Numbers of parameters; `share` is the trainable ones in percent of the base's."""

    label: str
    total: int
    trainable: int
    share: float | None
    checkpoint_bytes: int | None


@dataclass(frozen=True)
class ClassCount:
    """`flipped` of the `images` of one digit in one split; `share` in percent."""

    split: str
    digit: int
    images: int
    flipped: int
    share: float


@dataclass(frozen=True)
class SpectrumRow:
    """One layer: ‖ΔW‖_F, ‖ΔW‖_F² / ‖ΔW‖₂², and how many singular directions hold 90% of ‖ΔW‖_F², ΔW = W1 − W0."""

    layer: str
    frobenius: float
    stable_rank: float
    rank90: int


def base_run(runs: Sequence[Run]) -> Run | None:
    """The first finished pretrain run: every base has the same architecture."""
    return next((run for run in runs if run.stage == "pretrain" and run.status == "done" and run.params), None)


def size_rows(runs: Sequence[Run], settings: Sequence[Setting]) -> list[SizeRow]:
    """The base, then each setting, as far as they recorded their sizes."""
    base = base_run(runs)
    named = [("base", base)] if base else []
    named += [(setting.label, setting.runs[0]) for setting in settings]
    whole = base.params.total if base and base.params else None
    return [
        SizeRow(
            label,
            run.params.total,
            run.params.trainable,
            100 * run.params.trainable / whole if whole else None,
            run.checkpoint_bytes,
        )
        for label, run in named
        if run.params
    ]


def class_counts(run: Run) -> list[ClassCount]:
    """A row for every digit of every split that has changed images; none if the run did not come so far."""
    return [
        ClassCount(split, digit, images, flipped, 100 * flipped / images)
        for split, counts in run.checks.items()
        for digit, (images, flipped) in enumerate(zip(counts["images"], counts["flipped"], strict=True))
        if flipped
    ]


def spectrum_rows(run: Run) -> list[SpectrumRow]:
    """A row for each layer; none if the run recorded none, say because its method does not merge."""
    layers: dict[str, dict[str, float]] = run.checks.get("delta_w", {})
    return [
        SpectrumRow(layer, values["frobenius"], values["stable_rank"], int(values["rank90"]))
        for layer, values in layers.items()
    ]
