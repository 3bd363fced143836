"""The family of expected failures: each goes from one process to another and stays what it is."""

from __future__ import annotations

import pickle

import pytest

from lorabench import errors
from lorabench.errors import ConfigError, InputError, LorabenchError, UsageError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LorabenchError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_survives_the_way_between_processes(kind: type[LorabenchError]) -> None:
    error = ConfigError(["first: wrong", "second: wrong"]) if kind is ConfigError else kind("it is wrong")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (str(again), again.exit_code) == (str(error), error.exit_code)
    assert getattr(again, "problems", None) == getattr(error, "problems", None)


def test_a_path_with_a_line_end_breaks_no_line() -> None:
    assert str(InputError("a\nb: no such file")) == "a�b: no such file"
    assert str(UsageError("condition", "  loss < 1\r", "")) == "condition\n  loss < 1\n"
    assert ConfigError(["a\nb  is too large", "second: wrong"]).problems == ["a�b  is too large", "second: wrong"]


def test_a_config_error_is_a_line_for_each_problem() -> None:
    error = ConfigError(["first: wrong", "second: wrong"])
    assert (str(error), error.problems) == ("first: wrong\nsecond: wrong", ["first: wrong", "second: wrong"])
