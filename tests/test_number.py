"""Numbers as the report prints them: what is printed never says other than what was decided."""

from __future__ import annotations

import re

import numpy as np
import pytest

from lorabench.analysis import inference, number
from lorabench.analysis.inference import Estimate
from lorabench.analysis.quantities import Count


def estimate(mean: float, half: float | None, *values: float) -> Estimate:
    low, high = (None, None) if half is None else (mean - half, mean + half)
    lacks = "fewer than 3 seeds" if half is None else None
    return Estimate(mean, None, low, high, len(values) or 5, values, lacks)


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.003, 0.412, "[+0.003, +0.412]"),
        (-0.412, -0.00004, "[-0.41200, -0.00004]"),
        (-0.003, 0.412, "[0.00, +0.41]"),
        (0.0, 0.412, "[0.00, +0.41]"),
        (0.006, 0.412, "[+0.01, +0.41]"),
        (-0.52, -0.31, "[-0.52, -0.31]"),
        (1e-12, 0.5, "[+1e-12, +0.5]"),
    ],
)
def test_printed_ends_hold_zero_where_the_interval_does(low: float, high: float, text: str) -> None:
    assert number.signed_interval(low, high) == text


def test_plus_minus_reaches_zero_where_the_interval_does() -> None:
    assert number.plus_minus(estimate(0.2134, 0.2121), sign=True) == "+0.213 +- 0.212"
    assert number.plus_minus(estimate(-0.2049, 0.2051), sign=True) == "-0.20 +- 0.21"
    assert number.plus_minus(estimate(-0.2041, 0.2049), sign=True) == "-0.20 +- 0.20"
    assert number.plus_minus(estimate(97.9234, 0.2821)) == "97.92 +- 0.28"


def test_what_is_printed_of_simulated_differences_agrees_with_the_decision() -> None:
    draws = np.random.default_rng(1).normal(30, 25, (3_000, 5)).round().astype(int).tolist()
    for row in draws:
        found = inference.difference([(Count(5_000, 10_000), Count(5_000 + one, 10_000)) for one in row])
        assert found is not None
        low, high = map(float, re.findall(r"[-+\d.]+(?=[,\]])", number.estimate(found.estimate, sign=True)))
        mean, half = map(float, number.plus_minus(found.estimate, sign=True).split(" +- "))
        p = float(number.p(found.p or 0.0).removeprefix("< "))
        assert (low <= 0 <= high) == (abs(mean) <= half) == (p >= 0.05) == (not found.detectable)


@pytest.mark.parametrize(
    ("p", "text"),
    [
        (0.0, "< 0.0001"),
        (0.00009, "< 0.0001"),
        (0.0001, "0.0001"),
        (0.0625, "0.0625"),
        (0.049988, "0.04999"),
        (1.0, "1.0000"),
    ],
)
def test_a_p_is_never_nothing_and_never_on_the_other_side_of_its_level(p: float, text: str) -> None:
    assert number.p(p) == text
    assert number.p_value(p) == ("p < 0.0001" if p < 0.0001 else f"p = {text}")


def test_without_an_interval_the_values_are_shown() -> None:
    assert number.estimate(estimate(97.92, None, 97.92)) == "97.92"
    assert number.estimate(estimate(97.92, None, 97.8, 98.04)) == "97.92 (97.80, 98.04)"
    assert number.plus_minus(estimate(4.22, None, 4.22, 4.22), sign=True) == "+4.22 (+4.22, +4.22)"
    assert number.estimate(estimate(4.22, None, *[4.22] * 5), sign=True) == "+4.22 (all 5)"
    assert number.values(estimate(90.0, 1.0, 91, 93, 97, 95, 98, 99)) == "91.00 to 99.00"
    assert number.values(estimate(90.0, 1.0, 91, 93, 97, 95, 98)) == "91.00, 93.00, 97.00, 95.00, 98.00"
