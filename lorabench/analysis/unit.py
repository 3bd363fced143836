"""Units of what runs hold, and how a number of each is written: one rule for each unit.

    SHARE.problem(Fraction(195, 2), "97.5")    # "a share; write 97.5% or 0.975"

A number that could be read two ways, or that the field can never have, would make a condition that says nothing and
looks as if it did: 97.5 beside an accuracy that is 0.975 in `run.json` and 97.50 in every table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from fractions import Fraction

HELP = (
    "Numbers in a condition: an accuracy, p or another share is 97.5% or 0.975; a difference (delta, forgotten) is "
    "points of a hundred and needs its %: -0.3%; counts and bytes are whole; what ends in _s is seconds, in _ms "
    "milliseconds; others are plain numbers. A number that is none of its field's is refused."
)


@dataclass(frozen=True)
class Unit:
    """What the numbers of a field are.

    Attributes:
        noun: for messages, what such a field is.
        low: what no value is below; None: nothing.
        high: what no value is above; None: nothing.
        whole: whether only whole numbers occur.
        percent: whether a number may, must or must not have a `%`; 0 never must.
    """

    noun: str
    low: int | None = 0
    high: int | None = None
    whole: bool = False
    percent: Literal["may", "must", "never"] = "never"

    def problem(self, value: Fraction, text: str) -> str | None:
        """Why `value`, written as `text`, is no number of this unit, and what would be; None if it is one."""
        signed = text.endswith("%")
        if signed and self.percent == "never":
            return f"{self.noun}, so no %"
        if not signed and 0 < abs(value) <= 100 and self.percent == "must":
            both = f"{_percent(value)} or {_percent(100 * value)}" if abs(value) <= 1 else _percent(value)
            return f"{self.noun}; write {both}"
        if not signed and self.percent == "may" and 1 <= value <= 100:
            return f"{self.noun}; write {_percent(value)} or {'100%' if value == 1 else _decimal(value / 100)}"
        if (self.low is not None and value < self.low) or (self.high is not None and value > self.high):
            ends = (
                f"below {self.low}" if self.high is None else f"outside {100 * (self.low or 0)}% to {100 * self.high}%"
            )
            return f"{self.noun}, never {ends}"
        if self.whole and value.denominator != 1:
            return f"{self.noun}; write a whole number"
        return None


SHARE = Unit("a share", high=1, percent="may")
PROBABILITY = Unit("a probability", high=1, percent="may")
POINTS = Unit("a difference in points", low=-1, high=1, percent="must")
COUNT = Unit("a count", whole=True)
BYTES = Unit("a number of bytes", whole=True)
SECONDS = Unit("a number of seconds")
MILLISECONDS = Unit("a number of milliseconds")
NATS = Unit("a loss in nats")
NUMBER = Unit("a number without a unit", low=None)

_DESCRIBES = {
    **dict.fromkeys(("fraction", "warmup"), SHARE),
    **dict.fromkeys(("epochs", "batch_size", "k", "seed", "holdout", "rank90", "threads", "correct", "n"), COUNT),
}


def described(name: str) -> Unit:
    """The unit of a field that no quantity declares, which its last word says."""
    return _DESCRIBES.get(name.rpartition(".")[2], NUMBER)


def _percent(value: Fraction) -> str:
    return f"{_decimal(value)}%"


def _decimal(value: Fraction) -> str:
    return f"{float(value):.10g}"
