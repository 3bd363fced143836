"""What `scale --measure` recorded: quantities beside the arithmetic, the whole model by a line, the talk's claims."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from lorabench import scale
from lorabench.analysis import inference
from lorabench.analysis.inference import Estimate

Resource = Literal["step", "gradients", "peak", "checkpoint"]
Side = Literal["full", "tuned", "times"]

RESOURCES: tuple[Resource, ...] = "step", "gradients", "peak", "checkpoint"
"""Seconds of a step, and of a step without Adam's update; bytes of memory at once, and of a checkpoint."""


@dataclass(frozen=True)
class Figure:
    """One quantity of one side, or how many `times` less of it the method takes than full training.

    Attributes:
        arithmetic: of as many blocks as were measured; None for seconds, and where it depends on the batch.
        measured: with the most blocks; a geometric mean over the rounds, with its 95% interval.
        line: for the whole model, by the line through two smaller numbers of blocks; None where there are no two.
        error: of the line, as a share of what was measured; None unless the whole was.
    """

    quantity: Resource
    side: Side
    arithmetic: float | None
    measured: float | None
    low: float | None
    high: float | None
    n: int
    line: float | None
    error: float | None

    @property
    def off(self) -> float | None:
        """Measured over arithmetic."""
        return self.measured / self.arithmetic if self.measured and self.arithmetic else None


@dataclass(frozen=True)
class MeasuredClaim:
    """One of the talk's three claims as a change or a share, for the whole model; None where it is not known."""

    key: Literal["checkpoint", "speed", "gpus"]
    talk: str
    arithmetic: float | None
    measured: float | None
    low: float | None
    high: float | None
    paper: float


def figures(record: Mapping[str, Any]) -> list[Figure]:
    """All that was measured; nothing of full training where that did not fit."""
    largest, layers = record["counts"][-1], _layers(record)
    by_arithmetic = _arithmetic(record, largest["blocks"])
    sides: tuple[Side, ...] = ("full", "tuned", "times") if "full" in largest else ("tuned",)
    rows: list[Figure] = []
    for quantity, side in itertools.product(RESOURCES, sides):
        measured, line = _estimate(_values(largest, quantity, side)), _line(record, quantity, side, layers)
        mean = (measured.mean, measured.low, measured.high, measured.n) if measured else (None, None, None, 0)
        error = line / measured.mean - 1 if largest["blocks"] == layers and measured and line else None
        rows.append(Figure(quantity, side, by_arithmetic.get((quantity, side)), *mean, line, error))
    return rows


def claims(record: Mapping[str, Any]) -> list[MeasuredClaim]:
    """The talk's three claims, for the whole model: by arithmetic, as measured or by the line, and in the paper."""
    by_arithmetic = _arithmetic(record, _layers(record))
    (paper_whole, paper_part), (before, after) = scale.PAPER_CHECKPOINT, scale.PAPER_SPEED
    memory_whole, memory_part = scale.PAPER_MEMORY

    def claim(
        key: Literal["checkpoint", "speed", "gpus"], talk: str, quantity: Resource, less: float, paper: float
    ) -> MeasuredClaim:
        times = by_arithmetic.get((quantity, "times")), *_whole(record, quantity)
        ours, mean, low, high = (1 / value + less if value else None for value in times)
        return MeasuredClaim(key, talk, ours, mean, low, high, paper)

    return [
        claim(
            "checkpoint", f"a checkpoint {-scale.CHECKPOINT_SAVED:+.2%}", "checkpoint", -1, paper_part / paper_whole - 1
        ),
        claim("speed", f"training {scale.TIME_SAVED:.0%} faster: time", "step", -1, before / after - 1),
        claim("gpus", "a third of the GPUs: memory", "peak", 0, memory_part / memory_whole),
    ]


def _whole(record: Mapping[str, Any], quantity: Resource) -> tuple[float | None, float | None, float | None]:
    """How many times less of it the method takes on the whole model, and the other ends of its interval: high, low.

    By the line, and then without an interval, if the whole was not measured; None if it is not known.
    """
    layers, largest = _layers(record), record["counts"][-1]
    if largest["blocks"] < layers:
        return _line(record, quantity, "times", layers), None, None
    times = _estimate(_values(largest, quantity, "times"))
    return (times.mean, times.high, times.low) if times else (None, None, None)


def measured_data(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record with everything that follows from it, as plain data."""
    derived = {"figures": [{**asdict(figure), "off": figure.off} for figure in figures(record)]}
    return {**record, **derived, "claims": [asdict(claim) for claim in claims(record)]}


def _layers(record: Mapping[str, Any]) -> int:
    """Blocks of the whole model."""
    return scale.architecture(record["architecture"]).matrix("q").layers


def _arithmetic(record: Mapping[str, Any], blocks: int) -> dict[tuple[Resource, Side], float]:
    model = scale.architecture(record["architecture"]).cut(blocks)
    case = scale.project(
        model, record["method"], record["options"], targets=record["targets"], precision=record["precision"]
    )
    full, tuned = case.full, case.tuned
    known: dict[tuple[Resource, Side], float] = {
        ("peak", "full"): full.training_bytes,
        ("peak", "tuned"): tuned.training_bytes,
        ("peak", "times"): full.training_bytes / tuned.training_bytes,
        ("checkpoint", "full"): full.checkpoint_bytes,
        ("checkpoint", "tuned"): tuned.checkpoint_bytes,
        ("checkpoint", "times"): full.checkpoint_bytes / tuned.checkpoint_bytes,
    }
    if full.work and tuned.work:
        known["step", "times"] = known["gradients", "times"] = full.work / tuned.work
    return known


def _values(count: Mapping[str, Any], quantity: Resource, side: Side) -> list[float]:
    """One value for each round, or one; none where it is not known."""
    if side == "times":
        if "full" not in count:
            return []
        pairs = zip(_values(count, quantity, "full"), _values(count, quantity, "tuned"), strict=False)
        return [whole / part for whole, part in pairs if part]
    own = count[side]
    if quantity in ("peak", "checkpoint"):
        value = own[f"{quantity}_bytes"]
        return [] if value is None else [value]
    updates = own["update_s"] if quantity == "step" else [0.0] * len(own["gradients_s"])
    return [a + b for a, b in zip(own["gradients_s"], updates, strict=True)]


def _line(record: Mapping[str, Any], quantity: Resource, side: Side, layers: int) -> float | None:
    """The whole by a line in the number of blocks, through two that are smaller; None where that is not above 0."""
    if side == "times":
        full, tuned = (_line(record, quantity, own, layers) for own in ("full", "tuned"))
        return full / tuned if full and tuned else None
    counts = [count for count in record["counts"] if count["blocks"] < layers]
    if len(counts) < 2 or side not in counts[0]:
        return None
    (a, first), (b, last) = ((c["blocks"], _estimate(_values(c, quantity, side))) for c in (counts[0], counts[-1]))
    if first is None or last is None:
        return None
    height = first.mean + (layers - a) / (b - a) * (last.mean - first.mean)
    return height if height > 0 else None


def _estimate(values: Sequence[float]) -> Estimate | None:
    if not values or min(values) <= 0:
        return None
    mean = inference.ratio(values)
    return replace(mean, mean=values[0]) if len(values) == 1 else mean  # bytes are whole, and no power of e
