"""Intervals and paired tests: pure functions of counts and numbers. scipy does the mathematics.

    wilson(9779, 10_000)                       # Interval(low=0.9748..., high=0.9806...)
    t_interval([97.8, 97.6, 97.9]).low         # a mean over seeds
    mcnemar_mid_p(51, 70)                      # two runs on the same images

Intervals are two-sided at `level`; p-values are two-sided. Importing this room is instant: scipy and numpy
are imported inside the functions that need them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

MOST_SIGN_FLIPS = 20
"""The longest list that `sign_flip` takes: 2^20 sign patterns are 8 MB and some milliseconds."""


class Interval(NamedTuple):
    """The two ends of a confidence interval."""

    low: float
    high: float


class Mean(NamedTuple):
    """A mean of `n` values in their unit. One value has no spread: `sd`, `low` and `high` are then None."""

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    n: int


class PairedT(NamedTuple):
    """Student's statistic with n − 1 degrees of freedom, and its p-value."""

    t: float
    p: float


class SignFlip(NamedTuple):
    """A permutation test's p-value, and the smallest that so few values can give."""

    p: float
    smallest_p: float


def wilson(correct: int, n: int, level: float = 0.95) -> Interval:
    """The score interval of a proportion, `correct` of `n`, as fractions.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.

    Raises:
        ValueError: `n` is not positive, `correct` not within 0..n, or `level` not between 0 and 1.
    """
    if not 0 <= correct <= n or n == 0:
        raise ValueError(f"{correct} of {n} is no proportion")
    z = _normal_quantile(level)
    centre = correct + z * z / 2
    half = z * math.sqrt(correct * (n - correct) / n + z * z / 4)
    # At the ends the formula gives 0 and 1 but for rounding.
    low = 0.0 if correct == 0 else (centre - half) / (n + z * z)
    high = 1.0 if correct == n else (centre + half) / (n + z * z)
    return Interval(low, high)


def t_interval(values: Sequence[float], level: float = 0.95) -> Mean:
    """The mean of `values` with Student's interval; one value gives no interval.

    Student, "The probable error of a mean", Biometrika 6, 1908.

    Raises:
        ValueError: there are no values, or `level` is not between 0 and 1.
    """
    n = len(values)
    if n == 0:
        raise ValueError("no values have no mean")
    mean = math.fsum(values) / n
    if n == 1:
        return Mean(mean, None, None, None, 1)
    sd = _sd(values, mean)
    half = _t_quantile(level, n - 1) * sd / math.sqrt(n)
    return Mean(mean, sd, mean - half, mean + half, n)


def with_images(half: float, error: float, level: float = 0.95) -> float:
    """Half of an interval of a mean accuracy that covers other trainings and other test images.

    Trainings and images are two random effects, and so their variances add; `half`² and (z·`error`)² do, as in
    Zou and Donner, "Construction of confidence limits about effect measures: a general approach", Statistics in
    Medicine 27, 2008. An image that is hard for one seed is not for each, and that part is in both terms: the interval
    covers no less than `level`.

    Args:
        half: of Student's interval over trainings.
        error: standard error of one training's accuracy over images, √(p(1 − p) / n).
        level: of both.
    """
    return math.hypot(half, _normal_quantile(level) * error)


def paired_t(differences: Sequence[float]) -> PairedT:
    """Student's test that the mean of paired `differences` is 0. Student 1908, as `t_interval`.

    Raises:
        ValueError: fewer than two differences.
    """
    n = len(differences)
    if n < 2:
        raise ValueError("a paired t-test needs two differences or more")
    mean = math.fsum(differences) / n
    sd = _sd(differences, mean)
    if sd == 0:
        return PairedT(math.copysign(math.inf, mean), 0.0) if mean else PairedT(0.0, 1.0)
    t = mean / (sd / math.sqrt(n))
    return PairedT(t, 2 * _special("stdtr")(n - 1, -abs(t)))


def mcnemar_mid_p(b: int, c: int) -> float:
    """P-value of the hypothesis that two classifiers err equally often on the same images.

    `b` images only the first got right, `c` only the second. Given b + c, `b` is binomial, probability 1/2, and what
    was seen counts half.

    McNemar, "Note on the sampling error of the difference between correlated proportions", Psychometrika 12, 1947; in
    this form, recommended, Fagerland, Lydersen and Laake, BMC Medical Research Methodology 13:91, 2013.

    Raises:
        ValueError: a count is negative.
    """
    if min(b, c) < 0:
        raise ValueError(f"b = {b} and c = {c} must be counts")
    if b == c:
        return 1.0
    tail = _special("bdtr")
    fewer = float(min(b, c))
    return tail(fewer, b + c, 0.5) + (tail(fewer - 1, b + c, 0.5) if fewer else 0.0)


def paired_difference(b: int, c: int, n: int, level: float = 0.95) -> Interval:
    """The score interval of the difference of two accuracies, as fractions, on the same `n` images.

    `b` images only the first got right, `c` only the second; the difference is second − first, (c − b) / n.

    Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design", Statistics in Medicine 17, 1998; recommended by Fagerland, Lydersen and Laake, ibid. 33, 2014.

    Raises:
        ValueError: the counts are negative or exceed `n`, `n` is 0, or `level` is not between 0 and 1.
    """
    if min(b, c) < 0 or b + c > n or n == 0:
        raise ValueError(f"b = {b} and c = {c} must be counts within n = {n}")
    z = _normal_quantile(level)
    estimate = (c - b) / n
    low = -1.0 if b == n else _bisect(lambda d: _tango(b, c, n, d) <= z, -1.0, estimate)
    high = 1.0 if c == n else _bisect(lambda d: _tango(b, c, n, d) < -z, estimate, 1.0)
    return Interval(low, high)


def independent_difference(first: tuple[int, int], second: tuple[int, int], level: float = 0.95) -> Interval:
    """The hybrid score interval of the difference of two accuracies, as fractions, on different images.

    Each argument is (correct, n); the difference is second − first.

    Newcombe, "Interval estimation for the difference between independent proportions: comparison of eleven
    methods", Statistics in Medicine 17:873-890, 1998, method 10.

    Raises:
        ValueError: as `wilson`.
    """
    (low, high), (lower, higher) = wilson(*first, level), wilson(*second, level)
    a, b = first[0] / first[1], second[0] / second[1]
    return Interval(b - a - math.hypot(b - lower, high - a), b - a + math.hypot(higher - b, a - low))


def sign_flip(differences: Sequence[float]) -> SignFlip:
    """Exact test that paired `differences`, say of seeds, are as likely one way as the other.

    All 2^n patterns of signs are tried: p is the share whose sum is at least as far from 0 as the one seen.
    n values cannot give less than 2^(1 − n): 0.0625 for 5.

    Fisher, "The design of experiments", 1935, section 21.

    Raises:
        ValueError: there are no differences, or more than `MOST_SIGN_FLIPS`.
    """
    import numpy as np

    n = len(differences)
    if not 1 <= n <= MOST_SIGN_FLIPS:
        raise ValueError(f"sign_flip takes 1 to {MOST_SIGN_FLIPS} differences, not {n}")
    sums = np.zeros(1)
    for difference in differences:
        sums = np.concatenate([sums + difference, sums - difference])
    # The same sum reached in another order differs in the last bits; it is a tie all the same.
    slack = 1e-12 * math.fsum(abs(d) for d in differences)
    p = float(np.mean(np.abs(sums) >= abs(math.fsum(differences)) - slack))
    return SignFlip(p, 2.0 ** (1 - n))


def holm(p_values: Sequence[float]) -> list[float]:
    """`p_values` adjusted for their number, in the given order: reject those that stay below the level.

    Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 6, 1979.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _sd(values: Sequence[float], mean: float) -> float:
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _tango(b: int, c: int, n: int, difference: float) -> float:
    """Tango's statistic of the hypothesis that second − first is `difference`; it falls as that grows."""
    linear = -b - c + (2 * n - c + b) * difference
    constant = -b * difference * (1 - difference)
    # The likeliest probability of `b` under the hypothesis: a root of 2n·q² + linear·q + constant.
    q = (math.sqrt(max(0.0, linear * linear - 8 * n * constant)) - linear) / (4 * n)
    variance = n * (2 * q + difference * (1 - difference))
    gap = c - b - n * difference
    return gap / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, gap) if gap else 0.0


def _bisect(beyond: Callable[[float], bool], low: float, high: float) -> float:
    """Where `beyond` turns from false to true between `low` and `high`, to the last bits."""
    for _ in range(60):
        middle = (low + high) / 2
        if beyond(middle):
            high = middle
        else:
            low = middle
    return (low + high) / 2


def _normal_quantile(level: float) -> float:
    return _special("ndtri")((1 + _checked(level)) / 2)


def _t_quantile(level: float, freedom: int) -> float:
    return _special("stdtrit")(freedom, (1 + _checked(level)) / 2)


def _checked(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level = {level} must lie between 0 and 1")
    return level


def _special(name: str) -> Callable[..., float]:
    """A function of scipy.special, which loads in a fraction of scipy.stats' time and carries no types."""
    from scipy import special  # pyright: ignore[reportMissingTypeStubs]

    function: Callable[..., float] = getattr(special, name)
    return lambda *arguments: float(function(*arguments))
