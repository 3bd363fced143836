"""How far, and in how many directions, a fine-tune moved each weight matrix: ΔW = W1 − W0, as the run recorded it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lorabench.runs import Run


@dataclass(frozen=True)
class SpectrumRow:
    """One layer: ‖ΔW‖_F, ‖ΔW‖_F² / ‖ΔW‖₂², and how many singular directions hold 90% of ‖ΔW‖_F²."""

    layer: str
    frobenius: float
    stable_rank: float
    rank90: int


def spectrum_rows(run: Run) -> list[SpectrumRow]:
    """A row for each layer; none if the run recorded none, say because its method does not merge."""
    found: dict[str, dict[str, float]] = run.checks.get("delta_w", {})
    return [
        SpectrumRow(layer, values["frobenius"], values["stable_rank"], int(values["rank90"]))
        for layer, values in found.items()
    ]


def merges(run: Run) -> bool | None:
    """Whether the run's method folds into plain linear layers; None if the run does not say."""
    return True if "delta_w" in run.checks else False if "delta_w_skipped" in run.checks else None
