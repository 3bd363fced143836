"""How the report writes numbers: two decimals, thousands separated, signs that a spreadsheet can read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabench.stats import Estimate


def decimal(value: float) -> str:
    """`97.92`."""
    return f"{value:z.2f}"


def signed(value: float) -> str:
    """`+4.87`; what rounds to nothing is `0.00`."""
    return decimal(value) if round(value, 2) == 0 else f"{value:+.2f}"


def interval(low: float, high: float) -> str:
    """`[97.62, 98.18]`."""
    return f"[{decimal(low)}, {decimal(high)}]"


def signed_interval(low: float, high: float) -> str:
    """`[+4.52, +5.22]`."""
    return f"[{signed(low)}, {signed(high)}]"


def estimate(value: Estimate) -> str:
    """`97.92 [97.62, 98.18]`, or the mean alone where one seed gives no interval."""
    if value.low is None or value.high is None:
        return decimal(value.mean)
    return f"{decimal(value.mean)} {interval(value.low, value.high)}"


def signed_estimate(value: Estimate) -> str:
    """`+4.87 [+4.52, +5.22]`, or the mean alone where one seed gives no interval."""
    if value.low is None or value.high is None:
        return signed(value.mean)
    return f"{signed(value.mean)} {signed_interval(value.low, value.high)}"


def plus_minus(value: Estimate, *, sign: bool = False) -> str:
    """`97.92 +- 0.28`: the mean and half of its interval, or the mean alone where one seed gives none."""
    mean = signed(value.mean) if sign else decimal(value.mean)
    return mean if value.high is None else f"{mean} +- {decimal(value.high - value.mean)}"


def p_value(p: float) -> str:
    """`p = 0.0625`, `p < 0.0001`."""
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.4f}"


def seeds(n: int) -> str:
    """`1 seed`, `5 seeds`."""
    return f"{n} seed{'' if n == 1 else 's'}"


def ranges(numbers: Sequence[int]) -> str:
    """`0-4, 7` for 0, 1, 2, 3, 4, 7."""
    spans: list[list[int]] = []
    for number in sorted(set(numbers)):
        if spans and number == spans[-1][-1] + 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    return ", ".join(f"{span[0]}-{span[-1]}" if len(span) > 1 else str(span[0]) for span in spans)


def seconds(value: float) -> str:
    """`0.42 s`, `31.5 s`, `4 min 05 s`."""
    if value < 10:
        return f"{value:.2f} s"
    if value < 120:
        return f"{value:.1f} s"
    return f"{int(value) // 60} min {int(value) % 60:02} s"


def age(since: str, now: datetime) -> str:
    """How long before `now` the ISO 8601 time `since` was, in its largest unit: `3 min`, `5 d`."""
    if not since:
        return ""
    then = datetime.fromisoformat(since)
    passed = (now - (then if then.tzinfo else then.replace(tzinfo=UTC))).total_seconds()
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if passed >= size:
            return f"{int(passed // size)} {unit}"
    return f"{max(0, int(passed))} s"
