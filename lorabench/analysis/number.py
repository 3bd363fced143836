"""How values are written: numbers and verdicts for a reader, settings in words, everything as plain data for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any, cast

from lorabench.analysis.inference import Difference, Estimate
from lorabench.analysis.quantities import Count

NO_DIFFERENCE = "no detectable difference"
AFTER_HOLM = "not detectable after Holm"
"""Of a difference whose own interval excludes 0, and whose p does not hold for so many rows."""


def decimal(value: float) -> str:
    """`97.92`."""
    return f"{value:z.2f}"


def signed(value: float) -> str:
    """`+4.87`; what rounds to nothing is `0.00`."""
    return _signed(value, 2)


def interval(low: float, high: float) -> str:
    """`[97.62, 98.18]`."""
    return f"[{decimal(low)}, {decimal(high)}]"


def signed_interval(low: float, high: float) -> str:
    """`[+4.52, +5.22]`; `[+0.003, +0.412]` where two decimals would not show on which side of 0 it lies."""
    for decimals in range(2, 10):
        ends = round(low, decimals), round(high, decimals)
        if (ends[0] <= 0 <= ends[1]) == (low <= 0 <= high):
            return f"[{_signed(low, decimals)}, {_signed(high, decimals)}]"
    return f"[{low:+g}, {high:+g}]"


def estimate(value: Estimate, *, sign: bool = False) -> str:
    """`97.92 [97.62, 98.18]`; without an interval the mean and the values, `97.92 (97.80, 98.04)`."""
    if value.low is None or value.high is None:
        return _without_interval(value, sign=sign)
    ends = (signed_interval if sign else interval)(value.low, value.high)
    return f"{_point(value.mean, sign=sign)} {ends}"


def plus_minus(value: Estimate, *, sign: bool = False) -> str:
    """`97.92 +- 0.28`: the mean and half of its interval, with decimals as `signed_interval`; or as `estimate`."""
    if value.low is None or value.high is None:
        return _without_interval(value, sign=sign)
    half = value.high - value.mean
    decimals = 2
    if sign:
        holds = value.low <= 0 <= value.high
        while decimals < 9 and (abs(round(value.mean, decimals)) <= round(half, decimals)) != holds:
            decimals += 1
    mean = _signed(value.mean, decimals) if sign else decimal(value.mean)
    return f"{mean} +- {half:.{decimals}f}"


def values(value: Estimate, *, sign: bool = False) -> str:
    """Every value behind a mean, `97.80, 98.04`; of more than five the least and the greatest, `93.10 to 98.04`."""
    texts = [_point(each, sign=sign) for each in value.values]
    if len(set(texts)) == 1 and value.n > 2:
        return f"all {value.n}"
    if value.n <= 5:
        return ", ".join(texts)
    return f"{_point(min(value.values), sign=sign)} to {_point(max(value.values), sign=sign)}"


def undecided(value: Estimate) -> str:
    """Why there is no interval: `2 seeds decide nothing`, `spread below one image`; empty where there is one."""
    if value.lacks == "fewer than 3 seeds":
        return f"{seeds(value.n)} decide{'s' if value.n == 1 else ''} nothing"
    return (value.lacks or "").removeprefix("a ")


def verdict(difference: Difference) -> str:
    """What is said of a difference that is none for sure: that it cannot be detected, or why nothing is decided.

    Empty of one that is detected, and of one seed, which the report says once.
    """
    if difference.detectable is None:
        return undecided(difference.estimate) if difference.estimate.n > 1 else ""
    return "" if difference.detectable else AFTER_HOLM if difference.excludes_zero else NO_DIFFERENCE


def p(value: float) -> str:
    """`0.0625`, `< 0.0001`; `0.04998` where four decimals would not show on which side of 0.05 it lies."""
    if value < 0.0001:
        return "< 0.0001"
    decimals = 4
    while decimals < 9 and (round(value, decimals) < 0.05) != (value < 0.05):
        decimals += 1
    return f"{value:.{decimals}f}"


def p_value(value: float) -> str:
    """`p = 0.0625`, `p < 0.0001`."""
    return f"p {p(value)}" if value < 0.0001 else f"p = {p(value)}"


def _point(value: float, *, sign: bool) -> str:
    return signed(value) if sign else decimal(value)


def _signed(value: float, decimals: int) -> str:
    return f"{value:z.{decimals}f}" if round(value, decimals) == 0 else f"{value:+.{decimals}f}"


def _without_interval(value: Estimate, *, sign: bool) -> str:
    mean = _point(value.mean, sign=sign)
    return mean if value.n == 1 else f"{mean} ({values(value, sign=sign)})"


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


def plain(value: Any) -> Any:
    """`value` with every dataclass and named tuple in it as a dict, every tuple as a list; a count has its percent."""
    if isinstance(value, Count):
        return {**value._asdict(), "accuracy": value.percent if value.n else None}
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, dict):
        return {key: plain(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in cast("list[Any]", value)]
    return value


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= flatten(cast("dict[str, Any]", value), f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def shown(value: Any) -> str:
    """`-` for what is not set, `yes` and `no`, `fc1, fc2` for a list."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(shown(item) for item in cast("list[Any]", value))
    return str(value)
