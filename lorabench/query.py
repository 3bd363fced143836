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
What is missing or null has no order and equals nothing: every comparison with it is false, except those with the
word `null`. So `k != 4` leaves out what has no k, `not k == 4` does not, and `k == null` finds it.
"""

from __future__ import annotations

import fnmatch
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn

from lorabench.errors import UsageError

Value = float | int | str | bool | None
Test = Callable[[Mapping[str, Value]], bool]

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
        return self._test(values)


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


class _Operand(NamedTuple):
    """One side of a comparison: `read` gives its value, `null` says that it is the word itself."""

    shown: str
    read: Callable[[Mapping[str, Value]], Value]
    null: bool


def parse(text: str) -> Condition:
    """Read a condition.

    Raises:
        UsageError: it is none, or too long or too deep; the message points to the place.
    """
    if len(text) > MAX_LENGTH:
        raise UsageError(f"a condition of {len(text):,} characters; at most {MAX_LENGTH:,} are read")
    if not text.strip():
        raise UsageError("an empty condition; write one such as k >= 4")
    parser = _Parser(text)
    test = parser.condition()
    if parser.token.kind != "end":
        parser.refuse("it closes no bracket" if parser.token.text == ")" else '"and" or "or" must stand before it')
    return Condition(text, tuple(parser.names), test)


class _Parser:
    """Recursive descent: a method for each line of the grammar. `token` is the first one that is not read yet."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.names: dict[str, None] = {}
        self.depth = 0
        self.tokens = _tokens(text)
        self.token = next(self.tokens)

    def condition(self) -> Test:
        return self._joined("or", self.both, any)

    def both(self) -> Test:
        return self._joined("and", self.one, all)

    def one(self) -> Test:
        if self._take("not"):
            denied = self._deeper(self.one)
            return lambda values: not denied(values)
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
            self.refuse(f"compare {sides[0].shown} with something: {' '.join(_MARKS)}")
        links = [self._link(*link) for link in zip(sides, marks, sides[1:], strict=False)]
        return lambda values: all(link(values) for link in links)

    def value(self) -> _Operand:
        token = self._next()
        text, word = token.text, token.text.lower()
        if token.kind == "word" and word not in {*_WORDS, *_JOINTS}:
            self.names[text] = None
            return _Operand(text, operator.methodcaller("get", text), null=False)
        if word in _WORDS:
            constant: Value = _WORDS[word]
        elif token.kind == "text":
            constant = text[1:-1]
        elif token.kind == "number":
            constant = float(text.replace("%", "e-2"))
            if math.isinf(constant):
                self.refuse("that is too large for a number", token)
        else:
            quote = text in {"'", '"'}
            self.refuse("these quotes are not closed" if quote else "a name or a value must stand here", token)
        return _Operand(text, _always(constant), null=constant is None)

    def refuse(self, hint: str, token: _Token | None = None) -> NoReturn:
        """Say where, what was found, and what would be right."""
        kind, text, at = token or self.token
        found = "the end" if kind == "end" else f'"{text[:40]}"'
        self._fail(f'{found}: did you mean "{_MEANT[text]}"?' if text in _MEANT else f"{found}: {hint}", at)

    def _joined(self, word: str, part: Callable[[], Test], join: Callable[[Iterable[bool]], bool]) -> Test:
        parts = [part()]
        while self._take(word):
            parts.append(part())
        return lambda values: join(test(values) for test in parts)

    def _deeper(self, part: Callable[[], Test]) -> Test:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.refuse(f'at most {MAX_DEPTH} levels of "not" and brackets are read')
        test = part()
        self.depth -= 1
        return test

    def _link(self, left: _Operand, mark: _Token, right: _Operand) -> Test:
        compare = _MARKS[mark.text]
        if left.null or right.null:
            if mark.text not in {"==", "!="}:
                self.refuse("null has no order; write == or !=", mark)
            return lambda values: compare(left.read(values) is None, right.read(values) is None)

        def holds(values: Mapping[str, Value]) -> bool:
            a, b = left.read(values), right.read(values)
            if a is None or b is None:
                return False
            if _kind(a) != _kind(b):
                self._fail(f"{left.shown} is {_kind(a)}, {right.shown} is {_kind(b)}", mark.at)
            return compare(a, b)

        return holds

    def _take(self, text: str) -> bool:
        found = self.token.text.lower() == text
        if found:
            self._next()
        return found

    def _next(self) -> _Token:
        token = self.token
        self.token = next(self.tokens, token)
        return token

    def _fail(self, problem: str, at: int) -> NoReturn:
        """Raise with the stretch of the text around the place, and a caret below it."""
        start = max(0, at - 50)
        stretch = "".join(char if char.isprintable() else " " for char in self.text[start : start + 76])
        raise UsageError(f"condition, column {at + 1}: {problem}\n  {stretch}\n  {' ' * (at - start)}^")


def _tokens(text: str) -> Iterator[_Token]:
    for found in _TOKEN.finditer(text):
        kind = str(found.lastgroup)
        yield _Token(kind, found[kind], found.start(kind))


def _always(value: Value) -> Callable[[Mapping[str, Value]], Value]:
    return lambda _: value


def _kind(value: float | str | bool) -> str:
    if isinstance(value, bool):
        return "true or false"
    return "a text" if isinstance(value, str) else "a number"
