"""Conditions on named values, as people write them on the command line. Nothing is ever handed to Python to evaluate.

    condition = parse("k >= 4 and fmnist.accuracy > 97.5%")
    condition.names                                        # ("k", "fmnist.accuracy")
    condition.holds({"k": 8, "fmnist.accuracy": 0.9774})   # True

    condition  = both {"or" both}
    both       = one {"and" one}
    one        = "not" one | "(" condition ")" | value mark value {mark value}
    mark       = "<" | "<=" | ">" | ">=" | "==" | "!=" | "~"
    value      = name | number | percentage | text in quotes | "true" | "false" | "null"

`1 < k <= 8` means `1 < k and k <= 8`. `~` fits a text to a pattern with `*`, `?` and `[...]`. `97.5%` is 0.975.
Numbers are compared as fractions of whole numbers, a float as the decimal that it is written as: 9797 of 10,000 are
97.97%, no more and no less.

What is missing or null has no order and equals nothing: every comparison with it is false, except those with the
word `null`. So `k != 4` leaves out what has no k, `not k == 4` does not, and `k == null` finds it. `decides` is
stricter: to it such a comparison is neither true nor false, and neither is what depends on it.
"""

from __future__ import annotations

import fnmatch
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple, NoReturn

from lorabench.errors import UsageError

Value = Fraction | float | int | str | bool | None
Test = Callable[[Mapping[str, Value], bool | None], bool | None]
"""Of the values, and of what a comparison with a missing one gives: false, or None for neither true nor false."""

MAX_LENGTH = 2_000
MAX_DEPTH = 32
"""Characters of a condition, and levels of `not` and brackets in it."""

_MARKS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "~": fnmatch.fnmatchcase,
}
_MEANT = {"=": "==", "===": "==", "=>": ">=", "=<": "<=", "<>": "!=", "&&": "and", "&": "and", "||": "or", "|": "or"}
_WORDS = {"true": True, "false": False, "null": None}
_JOINTS = {"and", "or", "not"}
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+|%)?)
            | (?P<text>'[^']*'|"[^"]*")
            | (?P<word>[a-z_][a-z0-9_]*(?:\.[a-z0-9_]+)*)
            | (?P<end>\Z)
            | (?P<mark>[<>=!&|~]+|.))""",
    re.VERBOSE | re.ASCII | re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class Condition:
    """What `parse` makes of a text. `names` are those that it asks for, each once, in the order of the text."""

    text: str
    names: tuple[str, ...]
    _test: Test = field(repr=False, compare=False)

    def holds(self, values: Mapping[str, Value]) -> bool:
        """Whether the condition is true of `values`; a name that they lack is null.

        Raises:
            UsageError: values of different kinds are compared, such as a number with a text.
        """
        return bool(self._test(values, False))

    def decides(self, values: Mapping[str, Value]) -> bool | None:
        """Whether the condition is true of `values`; None if that hangs on a name that they lack (Kleene's logic).

        Raises:
            UsageError: as `holds`.
        """
        return self._test(values, None)


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


class Operand(NamedTuple):
    """One side of a comparison: a name, or else a constant. `text` and `at`: as and where it is written."""

    text: str
    at: int
    is_name: bool
    constant: Value = None

    @property
    def is_null(self) -> bool:
        """Whether it is the word `null`."""
        return not self.is_name and self.constant is None

    def read(self, values: Mapping[str, Value]) -> Value:
        """Its value, numbers as exact ones."""
        value = values.get(self.text) if self.is_name else self.constant
        return Fraction(repr(value)) if isinstance(value, float) and math.isfinite(value) else value


Rule = Callable[[Operand, Operand], str | None]
"""What is wrong with comparing the two, such as a number that is none of the name's unit; None if nothing is."""


def parse(text: str, rule: Rule = lambda _left, _right: None) -> Condition:
    """Read a condition all of whose comparisons keep to `rule`.

    Raises:
        UsageError: it is none, or too long or too deep, or breaks the rule; the message points to the place.
    """
    if len(text) > MAX_LENGTH:
        raise UsageError(f"a condition of {len(text):,} characters; at most {MAX_LENGTH:,} are read")
    if not text.strip():
        raise UsageError("an empty condition; write one such as k >= 4")
    parser = _Parser(text, rule)
    test = parser.condition()
    if parser.token.kind != "end":
        parser.refuse("it closes no bracket" if parser.token.text == ")" else '"and" or "or" must stand before it')
    return Condition(text, tuple(parser.names), test)


class _Parser:
    """Recursive descent: a method for each line of the grammar. `token` is the first one that is not read yet."""

    def __init__(self, text: str, rule: Rule) -> None:
        self.text = text
        self.rule = rule
        self.names: dict[str, None] = {}
        self.depth = 0
        self.tokens = _tokens(text)
        self.token = next(self.tokens)

    def condition(self) -> Test:
        return self._joined("or", self.both, _any)

    def both(self) -> Test:
        return self._joined("and", self.one, _all)

    def one(self) -> Test:
        if self._take("not"):
            denied = self._deeper(self.one)
            return lambda values, missing: _not(denied(values, missing))
        if self._take("("):
            inner = self._deeper(self.condition)
            if not self._take(")"):
                self.refuse("a bracket is still open")
            return inner
        return self.comparison()

    def comparison(self) -> Test:
        sides, marks = [self.value()], list[_Token]()
        while self.token.text in _MARKS:
            marks.append(self._next())
            right = self.token
            sides.append(self.value())
            if marks[-1].text == "~" and right.kind != "text":
                self.refuse("a pattern in quotes must follow ~, such as 'lora-k*'", right)
        if not marks:
            self.refuse(f"compare {sides[0].text} with something: {' '.join(_MARKS)}")
        links = [self._link(*link) for link in zip(sides, marks, sides[1:], strict=False)]
        return lambda values, missing: _all(link(values, missing) for link in links)

    def value(self) -> Operand:
        token = self._next()
        text, word = token.text, token.text.lower()
        if token.kind == "word" and word not in {*_WORDS, *_JOINTS}:
            self.names[text] = None
            return Operand(text, token.at, is_name=True)
        if word in _WORDS:
            constant: Value = _WORDS[word]
        elif token.kind == "text":
            constant = text[1:-1]
        elif token.kind == "number":
            constant = self._number(token)
        else:
            quote = text in {"'", '"'}
            self.refuse("these quotes are not closed" if quote else "a name or a value must stand here", token)
        return Operand(text, token.at, is_name=False, constant=constant)

    def _number(self, token: _Token) -> Fraction:
        written = token.text.replace("%", "e-2")
        rough = float(written)
        if math.isinf(rough):
            self.refuse("that is too large for a number", token)
        # A fraction with the exponent of 1e-999999999 would fill the memory; as a float it is 0.
        return Fraction(written) if rough else Fraction(0)

    def refuse(self, hint: str, token: _Token | None = None) -> NoReturn:
        """Say where, what was found, and what would be right."""
        kind, text, at = token or self.token
        word = "the end" if kind == "end" else f'"{text[:40]}"'
        self._fail(f'{word}: did you mean "{_MEANT[text]}"?' if text in _MEANT else f"{word}: {hint}", at)

    def _joined(
        self, word: str, part: Callable[[], Test], join: Callable[[Iterable[bool | None]], bool | None]
    ) -> Test:
        parts = [part()]
        while self._take(word):
            parts.append(part())
        return lambda values, missing: join(test(values, missing) for test in parts)

    def _deeper(self, part: Callable[[], Test]) -> Test:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.refuse(f'at most {MAX_DEPTH} levels of "not" and brackets are read')
        test = part()
        self.depth -= 1
        return test

    def _link(self, left: Operand, mark: _Token, right: Operand) -> Test:
        compare = _MARKS[mark.text]
        if problem := self.rule(left, right):
            self._fail(problem, left.at if right.is_name and not left.is_name else right.at)
        if left.is_null or right.is_null:
            if mark.text not in {"==", "!="}:
                self.refuse("null has no order; write == or !=", mark)
            return lambda values, _: compare(left.read(values) is None, right.read(values) is None)

        def holds(values: Mapping[str, Value], missing: bool | None) -> bool | None:
            a, b = left.read(values), right.read(values)
            if a is None or b is None:
                return missing
            if _kind(a) != _kind(b):
                self._fail(f"{left.text} is {_kind(a)}, {right.text} is {_kind(b)}", mark.at)
            return compare(a, b)

        return holds

    def _take(self, text: str) -> bool:
        fits = self.token.text.lower() == text
        if fits:
            self._next()
        return fits

    def _next(self) -> _Token:
        token = self.token
        self.token = next(self.tokens, token)
        return token

    def _fail(self, problem: str, at: int) -> NoReturn:
        """Raise with the stretch of the text around the place, and a caret below it."""
        start = max(0, at - 50)
        stretch = "".join(char if char.isprintable() else " " for char in self.text[start : start + 76])
        raise UsageError(f"condition, column {at + 1}: {problem}", f"  {stretch}", f"  {' ' * (at - start)}^")


def _tokens(text: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(text):
        kind = str(match.lastgroup)
        yield _Token(kind, match[kind], match.start(kind))


def _all(decisions: Iterable[bool | None]) -> bool | None:
    known: bool | None = True
    for decision in decisions:
        if decision is False:
            return False
        known = known and decision
    return known


def _any(decisions: Iterable[bool | None]) -> bool | None:
    return _not(_all(map(_not, decisions)))


def _not(decision: bool | None) -> bool | None:
    return None if decision is None else not decision


def _kind(value: Fraction | float | str | bool) -> str:
    if isinstance(value, bool):
        return "true or false"
    return "a text" if isinstance(value, str) else "a number"
