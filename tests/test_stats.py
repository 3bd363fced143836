"""Intervals and tests against published examples and scipy.stats; what scipy does not have, by simulation too."""

from __future__ import annotations

import importlib
import itertools
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike

from lorabench import stats

reference: Any = importlib.import_module("scipy.stats")  # it carries no types

STUDIES = 2_000


def close(ours: Any, theirs: ArrayLike, within: float = 1e-9) -> bool:
    return bool(np.allclose(ours, theirs, rtol=0, atol=within))


# Darwin's maize: heights of 15 crossed plants less those of their self-fertilised pairs, in 1/8 inch.
DARWIN = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
# Student 1908: hours of sleep gained by ten patients, second drug less first.
SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_newcombes_examples(correct: int, n: int, low: float, high: float) -> None:
    """Newcombe, Statistics in Medicine 17:857-872, 1998, table I, method 3."""
    assert close(stats.wilson(correct, n), (low, high), 5e-5)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
@pytest.mark.parametrize(("correct", "n"), [(0, 1), (1, 1), (0, 10_000), (10_000, 10_000), (9_778, 10_000)])
def test_wilson_equals_scipy_and_contains_the_proportion(correct: int, n: int, level: float) -> None:
    interval = stats.wilson(correct, n, level)
    theirs = reference.binomtest(correct, n).proportion_ci(level, "wilson")
    assert close(interval, (theirs.low, theirs.high), 1e-12)
    assert 0 <= interval.low <= correct / n <= interval.high <= 1


def test_t_interval_equals_scipy() -> None:
    values = [97.81, 97.62, 97.95, 97.70, 97.88]
    estimate = stats.t_interval(values, 0.9)
    theirs = reference.ttest_1samp(values, 0.0).confidence_interval(0.9)
    assert close((estimate.low, estimate.high), (theirs.low, theirs.high), 1e-10)
    assert close(estimate.mean, np.mean(values))
    assert close(estimate.sd, np.std(values, ddof=1))
    assert estimate.n == 5


def test_one_value_has_no_interval_and_equal_ones_have_one_of_no_width() -> None:
    assert stats.t_interval([97.78]) == (97.78, None, None, None, 1)
    assert stats.t_interval([3.0, 3.0, 3.0]) == (3.0, 0.0, 3.0, 3.0, 3)


def test_paired_t_gives_students_own_example() -> None:
    """t = 4.06 on 9 degrees of freedom; p as every textbook since prints it."""
    t, p = stats.paired_t(SLEEP)
    assert close(t, 4.0621, 5e-5)
    assert close(p, 0.002833, 5e-7)
    assert close(p, reference.ttest_1samp(SLEEP, 0.0).pvalue, 1e-12)


def test_paired_t_without_spread() -> None:
    assert stats.paired_t([0.0, 0.0]) == (0.0, 1.0)
    assert stats.paired_t([-2.0, -2.0]) == (-math.inf, 0.0)


def test_variances_of_trainings_and_images_add() -> None:
    assert close(stats.with_images(0.3, 0.4 / 1.959963984540054), 0.5)
    assert close(stats.with_images(0.3, 0.4 / 1.6448536269514722, 0.9), 0.5)


@pytest.mark.parametrize(("b", "c", "p"), [(1, 7, 0.0391), (6, 16, 0.0347), (0, 0, 1.0), (4, 4, 1.0)])
def test_mcnemar_gives_published_p_values(b: int, c: int, p: float) -> None:
    """Bentur 2009, Cavo 2012: Fagerland et al., BMC Med Res Methodol 13:91, 2013, and their R package."""
    assert close(stats.mcnemar_mid_p(b, c), p, 5e-5)
    assert stats.mcnemar_mid_p(c, b) == stats.mcnemar_mid_p(b, c)


@pytest.mark.parametrize(("b", "c"), [(0, 1), (0, 5), (51, 70), (14, 530), (3_000, 3_100)])
def test_mcnemar_counts_half_of_what_was_seen_as_scipy_has_it(b: int, c: int) -> None:
    exact, seen = reference.binomtest(b, b + c).pvalue, reference.binom.pmf(b, b + c, 0.5)
    assert close(stats.mcnemar_mid_p(b, c), exact - seen, 1e-9)


def test_paired_difference_gives_the_published_interval() -> None:
    """Cavo 2012 (59, 6, 16, 80): Tango's interval is -0.1240 to -0.0054 for first - second.

    Fagerland, Lydersen and Laake, "Statistical analysis of contingency tables", 2017, chapter 8.
    """
    assert close(stats.paired_difference(16, 6, 161), (-0.1240, -0.0054), 5e-5)
    assert close(stats.paired_difference(6, 16, 161), (0.0054, 0.1240), 5e-5)


@pytest.mark.parametrize(("b", "c", "n"), [(0, 0, 44), (0, 1, 44), (0, 44, 44), (44, 0, 44), (1, 0, 1), (22, 22, 44)])
def test_paired_difference_at_the_edges(b: int, c: int, n: int) -> None:
    low, high = stats.paired_difference(b, c, n)
    assert -1 <= low <= (c - b) / n <= high <= 1
    assert close(stats.paired_difference(c, b, n), (-high, -low), 1e-12)


def test_paired_difference_of_equal_predictions_has_the_closed_form() -> None:
    z2 = 1.959963984540054**2
    assert close(stats.paired_difference(0, 0, 50), (-z2 / (50 + z2), z2 / (50 + z2)), 1e-9)


@pytest.mark.parametrize(
    ("second", "first", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_independent_difference_gives_newcombes_examples(
    second: tuple[int, int], first: tuple[int, int], low: float, high: float
) -> None:
    """Newcombe, Statistics in Medicine 17:873-890, 1998, table II, method 10."""
    assert close(stats.independent_difference(first, second), (low, high), 5e-5)
    assert close(stats.independent_difference(second, first), (-high, -low), 5e-5)


def test_sign_flip_gives_fishers_example() -> None:
    """Fisher 1935, section 21: 863 of 2^15 patterns reach Darwin's total in one direction."""
    p, smallest = stats.sign_flip(DARWIN)
    assert p == 2 * 863 / 2**15
    assert smallest == 2 / 2**15


def test_sign_flip_equals_scipy() -> None:
    differences = [0.31, -0.12, 0.05, 0.4, 0.0, -0.01]
    theirs = reference.permutation_test((differences,), np.mean, permutation_type="samples")
    assert close(stats.sign_flip(differences).p, theirs.pvalue)


def test_sign_flip_of_few_values_and_of_ties_that_rounding_would_split() -> None:
    assert stats.sign_flip([5.1, 5.0, 4.9, 5.2, 5.3]) == (0.0625, 0.0625)
    assert stats.sign_flip([-0.3]) == (1.0, 1.0)
    assert stats.sign_flip([0.1, 0.2, 0.3]).p == 0.25
    assert stats.sign_flip([0.3, 0.1, 0.2]).p == 0.25
    assert stats.sign_flip([0.1, -0.3, 0.2]).p == 1.0
    assert stats.sign_flip([0.1, 0.7, 1.1]).p == 0.25, "summed in this order they are less than their sum"


def test_holm_is_the_closed_test_of_bonferroni() -> None:
    """The adjusted p of one hypothesis: the largest Bonferroni p of all sets with it (Marcus et al. 1976)."""
    p_values = [0.01, 0.04, 0.03, 0.005, 0.6]
    closed = [
        max(
            min(1.0, size * min(p_values[j] for j in chosen))
            for size in range(1, 6)
            for chosen in itertools.combinations(range(5), size)
            if i in chosen
        )
        for i in range(5)
    ]
    assert close(stats.holm(p_values), closed)
    assert close(stats.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert stats.holm([]) == []


@pytest.mark.parametrize(
    "call",
    [
        lambda: stats.wilson(0, 0),
        lambda: stats.wilson(11, 10),
        lambda: stats.wilson(-1, 10),
        lambda: stats.wilson(5, 10, 1.0),
        lambda: stats.t_interval([]),
        lambda: stats.t_interval([1.0, 2.0], 0.0),
        lambda: stats.paired_t([1.0]),
        lambda: stats.mcnemar_mid_p(-1, 2),
        lambda: stats.paired_difference(6, 6, 10),
        lambda: stats.paired_difference(0, 0, 0),
        lambda: stats.independent_difference((0, 0), (1, 2)),
        lambda: stats.independent_difference((1, 2), (3, 2)),
        lambda: stats.sign_flip([]),
        lambda: stats.sign_flip([1.0] * 21),
    ],
)
def test_what_has_no_answer_raises(call: object) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=r"\w"):
        call()


def test_paired_difference_covers_the_truth() -> None:
    lost, gained, n = 0.005, 0.012, 10_000
    draws = np.random.default_rng(3).multinomial(n, [lost, gained, 1 - lost - gained], STUDIES)
    intervals = [stats.paired_difference(int(b), int(c), n) for b, c, _ in draws]
    assert 0.93 <= np.mean([low <= gained - lost <= high for low, high in intervals]) <= 0.97


@pytest.mark.parametrize(
    ("first", "second"), [((0.9276, 10_000), (0.9792, 5_000)), ((0.135, 613), (0.946, 613)), ((0.97, 300), (0.96, 200))]
)
def test_independent_difference_covers_the_truth(first: tuple[float, int], second: tuple[float, int]) -> None:
    generator = np.random.default_rng(6)
    draws = [generator.binomial(n, truth, STUDIES).tolist() for truth, n in (first, second)]
    found = [stats.independent_difference((a, first[1]), (b, second[1])) for a, b in zip(*draws, strict=True)]
    assert 0.93 <= np.mean([low <= second[0] - first[0] <= high for low, high in found]) <= 0.97
