"""Conditions: what holds, what is refused and where, and that any text at all does one of the two."""

from __future__ import annotations

import contextlib
import math
import re
from fractions import Fraction
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorabench.errors import UsageError
from lorabench.query import MAX_DEPTH, MAX_LENGTH, Operand, Value, parse

VALUES: dict[str, Value] = {
    "k": 4,
    "seed": 0,
    "id": "lora-k4-s0-7f3c2a91",
    "started": "2026-11-24T01:50:00+00:00",
    "fmnist.accuracy": 0.9774,
    "fmnist.loss": math.nan,
    "reuse": True,
    "method": None,
}

EXAMPLES = settings(max_examples=300, deadline=None, derandomize=True, database=None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("k == 4", True),
        ("k != 4", False),
        ("k < 4", False),
        ("k<=4", True),
        ("k > -4", True),
        ("k >= 4.5", False),
        ("4 == k", True),
        ("seed < k", True),
        ("1 < k <= 4", True),
        ("1 < k < 4", False),
        ("0 == seed < k != 5", True),
        ("k >= 4 and fmnist.accuracy > 0.97", True),
        ("fmnist.accuracy == 97.74%", True),
        ("fmnist.accuracy > 98%", False),
        ("k == 4 or k == 5 and seed == 1", True),
        ("(k == 4 or k == 5) and seed == 1", False),
        ("not k == 4 or seed == 0", True),
        ("not (k == 4 or seed == 0)", False),
        ("not not k == 4", True),
        ("id ~ 'lora-k*'", True),
        ('id ~ "*-s[1-9]-*"', False),
        ("id == 'lora-k4-s0-7f3c2a91'", True),
        ("started >= '2026-11-24'", True),
        ("reuse == true and not reuse == FALSE", True),
        ("K == 4", False),
        ("k\n==\t4", True),
        ("fmnist.loss < 1", False),
        ("id != 'and'", True),
    ],
)
def test_a_condition_holds_as_it_reads(text: str, expected: bool) -> None:
    assert parse(text).holds(VALUES) is expected


@pytest.mark.parametrize("name", ["method", "nowhere"])
def test_what_is_missing_equals_and_orders_nothing_but_null(name: str) -> None:
    for mark in ("<", "<=", ">", ">=", "==", "!="):
        assert not parse(f"{name} {mark} 4").holds(VALUES)
        assert not parse(f"{name} {mark} {name}").holds(VALUES)
        assert not parse(f"'lora' {mark} {name}").holds(VALUES)
    assert not parse(f"{name} ~ '*'").holds(VALUES)
    assert parse(f"not {name} == 4").holds(VALUES)
    assert parse(f"{name} == null and null == {name}").holds(VALUES)
    assert not parse(f"{name} != null").holds(VALUES)
    assert parse("k != null and not k == null").holds(VALUES)


def test_names_are_those_of_the_text_each_once() -> None:
    assert parse("fmnist.accuracy > 0.9 and (k < 4 or not K == k) and id == 'seed' and k != null").names == (
        "fmnist.accuracy",
        "k",
        "K",
        "id",
    )


@pytest.mark.parametrize(
    ("text", "column", "problem"),
    [
        ("k = 4", 3, 'did you mean "=="?'),
        ("k => 4", 3, 'did you mean ">="?'),
        ("k == 4 && seed == 0", 8, 'did you mean "and"?'),
        ("k == 4 || seed == 0", 8, 'did you mean "or"?'),
        ("k", 2, "the end: compare k with something"),
        ("not k and seed == 0", 7, '"and": compare k with something'),
        ("k >", 4, "the end: a name or a value must stand here"),
        ("k > and", 5, '"and": a name or a value must stand here'),
        ("> 4", 1, "a name or a value must stand here"),
        ("k == 4 seed == 0", 8, '"and" or "or" must stand before it'),
        ("(k == 4", 8, "a bracket is still open"),
        ("k == 4)", 7, "it closes no bracket"),
        ("(k) == 4", 3, "compare k with something"),
        ("id == 'lora", 7, "these quotes are not closed"),
        ("id ~ 'lora", 6, "these quotes are not closed"),
        ("id ~ method", 6, "a pattern in quotes must follow ~"),
        ("k < null", 3, "null has no order"),
        ("null ~ '*'", 6, "null has no order"),
        ("k == 1e999", 6, "too large for a number"),
        ("k - 1 == 3", 3, '"-": compare k with something'),
        ("k == 4 $", 8, '"$"'),
        ("k == 4k", 7, '"k"'),
        ("__import__('os')", 11, '"(": compare __import__ with something'),
    ],
)
def test_what_is_no_condition_is_refused_at_its_place(text: str, column: int, problem: str) -> None:
    with pytest.raises(UsageError, match=f"^condition, column {column}: .*{re.escape(problem)}") as caught:
        parse(text)
    _, shown, caret = str(caught.value).splitlines()
    assert shown == f"  {text}"
    assert caret.index("^") == column + 1


def test_the_caret_points_to_its_place_in_a_long_text() -> None:
    with pytest.raises(UsageError, match="column 903") as caught:
        parse("k == 4 or " * 90 + "k = 4")
    _, shown, caret = str(caught.value).splitlines()
    assert shown[caret.index("^") :] == "= 4"
    assert len(shown) <= 80


def test_a_long_word_does_not_fill_the_message() -> None:
    with pytest.raises(UsageError) as caught:
        parse("k == 4 " + "k" * 500)
    assert max(map(len, str(caught.value).splitlines())) <= 100


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("k == 'four'", "k is a number, 'four' is a text"),
        ("id > 3", "id is a text, 3 is a number"),
        ("reuse == 1", "reuse is true or false, 1 is a number"),
        ("k ~ '4*'", "k is a number"),
        ("seed == 0 and k < id", "k is a number, id is a text"),
    ],
)
def test_values_of_different_kinds_are_not_compared(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=re.escape(problem)):
        parse(text).holds(VALUES)


def test_an_empty_condition_is_refused() -> None:
    for text in ("", " \n"):
        with pytest.raises(UsageError, match="write one such as"):
            parse(text)


def test_long_and_deep_conditions_are_refused() -> None:
    assert parse("k==4 or" + " " * (MAX_LENGTH - 11) + "k==4").holds(VALUES)
    with pytest.raises(UsageError, match="2,001 characters"):
        parse("k==4 or" + " " * (MAX_LENGTH - 10) + "k==4")
    half = MAX_DEPTH // 2
    assert parse("not (" * half + "k == 4" + ")" * half).holds(VALUES)
    for text in ("not " * (MAX_DEPTH + 1) + "k == 4", "(" * (MAX_DEPTH + 1) + "k == 4" + ")" * (MAX_DEPTH + 1)):
        with pytest.raises(UsageError, match=f"at most {MAX_DEPTH} levels"):
            parse(text)
    assert parse(" and ".join(["(k == 4)"] * 100)).holds(VALUES), "side by side is not deep"


def test_numbers_are_compared_as_the_decimals_that_they_are_written_as() -> None:
    values: dict[str, Value] = {
        "share": Fraction(9797, 10_000),
        "lr": 0.1 + 0.2,
        "third": Fraction(1, 3),
        "big": 2**53 + 1,
    }
    for text, expected in (
        ("share == 97.97%", True),
        ("share < 97.97% or share > 97.97%", False),
        ("share == .9797 and share == 9797.e-4", True),
        ("lr == 0.3", False),
        ("lr == 0.30000000000000004", True),
        ("third > 0.33333333333333333333333", True),
        ("big == 9007199254740993", True),
        ("share > 1e-999999999 and share < 1e300", True),
    ):
        assert parse(text).holds(values) is expected, text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nowhere < 4", None),
        ("not nowhere < 4", None),
        ("nowhere < 4 or k == 4", True),
        ("k == 4 or nowhere < 4", True),
        ("nowhere < 4 and k == 5", False),
        ("k == 4 and nowhere < 4", None),
        ("not (nowhere < 4 and k == 5)", True),
        ("k < nowhere < 3", None),
        ("5 < k < nowhere", False),
        ("nowhere == null and not nowhere != null", True),
    ],
)
def test_a_condition_decides_what_does_not_hang_on_a_missing_name(text: str, expected: bool | None) -> None:
    assert parse(text).decides(VALUES) is expected


def test_a_rule_is_asked_of_each_comparison_and_points_to_the_constant() -> None:
    def rule(left: Operand, right: Operand) -> str | None:
        return "no fours" if "4" in (left.text, right.text) else None

    assert parse("1 < k < 3", rule).holds({"k": 2})
    for text, column in (("k == 3 or 4 < k", 11), ("1 < k <= 4", 10), ("k != 4", 6)):
        with pytest.raises(UsageError, match=f"^condition, column {column}: no fours"):
            parse(text, rule)


def chains(operands: st.SearchStrategy[str], marks: list[str]) -> st.SearchStrategy[str]:
    links = st.builds("{} {}".format, st.sampled_from(marks), operands)
    return st.builds("{} {}".format, operands, st.lists(links, min_size=1, max_size=3).map(" ".join))


NUMBERS = st.one_of(
    st.sampled_from(["k", "seed", "fmnist.accuracy", "fmnist.loss"]),
    st.integers(-5, 5).map(str),
    st.integers(-(2**53), 2**53).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
)
TEXTS = st.sampled_from(["id", "started"]) | st.text("lora-k4()= ", max_size=6).map("'{}'".format)
ALL = ["<", "<=", ">", ">=", "==", "!="]
COMPARISONS = st.one_of(
    chains(NUMBERS, ALL), chains(TEXTS, ALL), chains(st.sampled_from(["reuse", "True", "False"]), ["==", "!="])
)
CONDITIONS = st.recursive(
    COMPARISONS,
    lambda inner: st.one_of(
        st.builds("{} {} {}".format, inner, st.sampled_from(["and", "or"]), inner),
        inner.map("not {}".format),
        inner.map("({})".format),
        inner.map("not ({})".format),
    ),
    max_leaves=8,
)


@EXAMPLES
@given(CONDITIONS)
def test_random_conditions_hold_as_python_would_have_it(text: str) -> None:
    fmnist = SimpleNamespace(accuracy=VALUES["fmnist.accuracy"], loss=VALUES["fmnist.loss"])
    assert parse(text).holds(VALUES) is eval(text, {}, {**VALUES, "fmnist": fmnist})


@EXAMPLES
@given(CONDITIONS, st.sampled_from(["k", "seed", "fmnist.accuracy"]), st.integers(-5, 5))
def test_what_is_decided_without_a_name_stays_so_with_it(text: str, name: str, value: int) -> None:
    condition = parse(text)
    found = condition.decides({key: known for key, known in VALUES.items() if key != name})
    assert found is None or condition.decides(VALUES | {name: value}) is found
    assert condition.decides(VALUES) is condition.holds(VALUES)


@EXAMPLES
@given(st.text() | st.text("k.<=>!~()'\" andortue\n05e%-[") | CONDITIONS.flatmap(st.permutations).map("".join))
def test_any_text_holds_or_not_or_is_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert parse(text).holds(VALUES) in {True, False}
