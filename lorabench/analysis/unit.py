"""In which unit a field of a run is, and how a number beside it is written: one rule for each unit.

    unit("fmnist.accuracy").problem(Fraction(195, 2), "97.5")    # "write 97.5% or 0.975"
    suits(left, right)                                           # the rule of a comparison, for `query.parse`

A number that could be read two ways, or that the field can never have, would make a condition that says nothing and
looks as if it did: 97.5 beside an accuracy that is 0.975 in `run.json` and 97.50 in every table.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from lorabench.analysis import number

if TYPE_CHECKING:
    from lorabench.query import Operand, Value

HELP = (
    "Numbers in a condition: an accuracy, p or another share is 97.5% or 0.975; a difference (delta, forgotten) is "
    "points of a hundred and needs its %: -0.3%; counts and bytes are whole; what ends in _s is seconds, in _ms "
    "milliseconds; others are plain numbers. A number that is none of its field's is refused."
)


@dataclass(frozen=True)
class Unit:
    """What the numbers of a field are.

    Attributes:
        what: for messages, what such a field is.
        low: what no value is below; None: nothing.
        high: what no value is above; None: nothing.
        whole: whether only whole numbers occur.
        percent: whether a number may, must or must not have a `%`; 0 never must.
    """

    what: str
    low: int | None = 0
    high: int | None = None
    whole: bool = False
    percent: Literal["may", "must", "never"] = "never"

    def problem(self, value: Fraction, text: str) -> str | None:
        """Why `value`, written as `text`, is no number of this unit, and what would be; None if it is one."""
        signed = text.endswith("%")
        if signed and self.percent == "never":
            return f"{self.what}, so no %"
        if not signed and 0 < abs(value) <= 100 and self.percent == "must":
            both = f"{_percent(value)} or {_percent(100 * value)}" if abs(value) <= 1 else _percent(value)
            return f"{self.what}; write {both}"
        if not signed and self.percent == "may" and 1 <= value <= 100:
            return f"{self.what}; write {_percent(value)} or {'100%' if value == 1 else _decimal(value / 100)}"
        if (self.low is not None and value < self.low) or (self.high is not None and value > self.high):
            ends = (
                f"below {self.low}" if self.high is None else f"outside {100 * (self.low or 0)}% to {100 * self.high}%"
            )
            return f"{self.what}, never {ends}"
        if self.whole and value.denominator != 1:
            return f"{self.what}; write a whole number"
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

_BY_NAME = {
    **dict.fromkeys(("accuracy", "fraction", "warmup"), SHARE),
    "p": PROBABILITY,
    **dict.fromkeys(("forgotten", "mean", "low", "high"), POINTS),
    **dict.fromkeys(("correct", "n", "total", "trainable", "frozen", "steps", "epochs", "batch_size"), COUNT),
    **dict.fromkeys(("k", "seed", "holdout", "rank90", "threads"), COUNT),
    "loss": NATS,
    "images_per_s": NUMBER,
}
_BY_ENDING = {"_bytes": BYTES, "_ms": MILLISECONDS, "_s": SECONDS}


def unit(name: str) -> Unit:
    """The unit of the field `name`, which its last word says."""
    word = name.rpartition(".")[2]
    return _BY_NAME.get(word) or next((_BY_ENDING[end] for end in _BY_ENDING if word.endswith(end)), NUMBER)


def in_percent(name: str) -> bool:
    """Whether a person reads the field in percent: shares and points are, probabilities are not."""
    return unit(name) in {SHARE, POINTS}


def suits(left: Operand, right: Operand) -> str | None:
    """What is wrong with comparing the two, for `query.parse`; None if nothing is."""
    names = [side for side in (left, right) if side.is_name]
    constants = [side for side in (left, right) if not side.is_name]
    if not names:
        return "no field is compared here, so it says nothing about a run"
    units = [unit(side.text) for side in names]
    if not constants:
        one, other = units
        alike = one == other or {one, other} == {COUNT, NUMBER}
        return None if alike else f"{left.text} is {one.what}, {right.text} is {other.what}"
    value, text = constants[0].constant, constants[0].text
    if isinstance(value, Fraction):
        problem = units[0].problem(value, text)
        return f"{text}: {names[0].text} is {problem}" if problem else None
    if value is not None and units[0] != NUMBER:
        return f"{names[0].text} is {units[0].what}, {text} is no number"
    return None


def shown(name: str, value: Value) -> str:
    """A value as `ls` and the report show it: shares and points in percent; `-` where there is none."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value
    if in_percent(name):
        return f"{number.decimal(float(100 * value))}%"
    return str(value) if isinstance(value, int) else f"{float(value):.6g}"


def _percent(value: Fraction) -> str:
    return f"{_decimal(value)}%"


def _decimal(value: Fraction) -> str:
    return f"{float(value):.10g}"
