"""What is concluded from few seeds, and how often that is right: simulated studies in which the truth is known."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from lorabench import stats
from lorabench.analysis import inference
from lorabench.analysis.inference import Difference, Estimate
from lorabench.analysis.quantities import Count

STUDIES = 2_000
IMAGES = 10_000


def counts(*correct: int, n: int = IMAGES) -> list[Count]:
    return [Count(one, n) for one in correct]


def estimate(*correct: int, n: int = IMAGES) -> Estimate:
    found = inference.accuracy(counts(*correct, n=n))
    assert found is not None
    return found


def apart(*gained: int, before: int = 9_300, n: int = IMAGES) -> Difference:
    """Seeds that gained so many images each."""
    found = inference.difference([(Count(before, n), Count(before + more, n)) for more in gained])
    assert found is not None
    return found


def test_an_accuracy_is_a_mean_over_seeds_with_students_interval() -> None:
    found, student = estimate(9_774, 9_781, 9_779), stats.t_interval([97.74, 97.81, 97.79])
    assert (found.mean, found.sd, found.low, found.high, found.n) == pytest.approx(student)
    assert found.values == (97.74, 97.81, 97.79)
    assert found.lacks is None
    narrow = inference.accuracy(counts(9_774, 9_781, 9_779), level=0.9)
    assert narrow is not None
    assert (narrow.low, narrow.high) == pytest.approx(stats.t_interval([97.74, 97.81, 97.79], 0.9)[2:4])


def test_without_values_there_is_nothing() -> None:
    assert inference.accuracy([]) is None
    assert inference.mean([None]) is None
    assert inference.difference([(None, Count(1, 2)), (Count(1, 2), None)]) is None


@pytest.mark.parametrize("gained", [(422, 422), (400, 450), (422,)])
def test_fewer_than_three_seeds_decide_nothing(gained: tuple[int, ...]) -> None:
    found = apart(*gained)
    assert found.excludes_zero is None
    assert found.estimate.lacks == "fewer than 3 seeds"
    assert (found.estimate.low, found.estimate.high, found.p, found.holm, found.detectable) == (None,) * 5
    assert found.estimate.values == pytest.approx([one / 100 for one in gained])


@pytest.mark.parametrize(("gained", "n"), [((422,) * 5, 10_000), ((422, 422, 423, 422, 422), 10_000), ((1, 1, 2), 613)])
def test_a_spread_below_one_image_decides_nothing(gained: tuple[int, ...], n: int) -> None:
    """Also where another count of images would make shares that differ in the last bits."""
    found = apart(*gained, before=100, n=n)
    assert found.estimate.lacks == "a spread below one image"
    assert (found.estimate.low, found.p, found.detectable) == (None, None, None)
    alike = estimate(*gained, n=n)
    assert (alike.lacks, alike.low, alike.images) == ("a spread below one image", None, None)


def test_a_spread_of_one_image_is_enough() -> None:
    assert apart(421, 422, 423).estimate.sd == pytest.approx(0.01)
    assert apart(421, 422, 423).detectable is True


def test_equal_gains_have_no_spread_whatever_the_bases_were() -> None:
    """Shares that are subtracted differ by rounding; images do not."""
    found = inference.difference([(Count(one, 613), Count(one + 7, 613)) for one in (83, 91, 204)])
    assert found is not None
    assert found.estimate.sd == 0


def test_what_is_not_counted_in_images_needs_three_values_that_differ() -> None:
    seconds = inference.mean([4.1, None, 4.2, 4.4])
    assert seconds is not None
    assert (seconds.n, seconds.lacks) == (3, None)
    equal, two = inference.mean([4.0, 4.0, 4.0]), inference.mean([4.0, 5.0])
    assert equal is not None
    assert two is not None
    assert (equal.lacks, equal.low, two.lacks, two.low) == ("no spread", None, "fewer than 3 seeds", None)


def test_the_paired_t_decides_and_the_sign_flip_stands_beside_it() -> None:
    found = apart(480, 477, 485, 490, 470)
    assert found.p == stats.paired_t([4.80, 4.77, 4.85, 4.90, 4.70]).p
    assert (found.detectable, found.sign_flip, found.least_sign_flip) == (True, 0.0625, 0.0625)
    many = apart(*range(400, 400 + stats.MOST_SIGN_FLIPS + 1))
    assert (many.detectable, many.sign_flip, many.least_sign_flip) == (True, None, None)


def test_the_interval_and_the_p_of_seeds_agree() -> None:
    draws = np.random.default_rng(1).normal(2, 2, (STUDIES, 5)).round().astype(int).tolist()
    tested = [one for row in draws if (one := apart(*row)).p is not None]
    ends = [(one.estimate.low or 0.0, one.estimate.high or 0.0) for one in tested]
    assert [not low <= 0 <= high for low, high in ends] == [one.excludes_zero for one in tested]
    assert 0.2 < np.mean([one.excludes_zero is True for one in tested]) < 0.8


def test_holm_corrects_the_rows_that_were_tested() -> None:
    rows = [apart(3, 8, 12, 1, 9), apart(5, 5), apart(-5, 6, 1, -2, 4), apart(480, 477, 485, 490, 470)]
    found = inference.corrected(rows)
    assert [one.holm for one in found] == [pytest.approx(2 * (rows[0].p or 0)), None, rows[2].p, 3 * (rows[3].p or 0)]
    assert [one.of for one in found] == [3, 1, 3, 3]
    assert [one.detectable for one in found] == [False, None, False, True]
    assert (rows[0].detectable, found[0].excludes_zero) == (True, True), "alone it would have been one"
    assert inference.corrected([]) == []


def test_a_collapsed_seed_is_told() -> None:
    assert estimate(9_770, 9_781, 9_775, 9_790, 9_785).scattered is False
    assert estimate(9_770, 9_781, 1_135, 9_790, 9_785).scattered is True
    assert estimate(9_770, 9_781, 9_500).scattered is True
    assert estimate(83, 61, 100, n=613).scattered is False, "the same distance on few images is none"


def test_a_pair_of_runs_is_decided_by_the_p_and_the_interval_never_contradicts_it() -> None:
    """Over all counts up to 80, and those where Tango's interval and the mid-p test disagree."""
    beyond = [(88, 116), (102, 132), (125, 158), (188, 228), (219, 262), (241, 286), (3_000, 3_153), (3_000, 3_154)]
    widened: list[tuple[int, int]] = []
    for lost, gained in [(b, c) for b in range(81) for c in range(b, 81)] + beyond:
        found = inference.same_images(lost, gained, IMAGES)
        low, high = stats.paired_difference(lost, gained, IMAGES)
        assert found.p is not None
        assert found.detectable == (found.p < 0.05) == (not found.low <= 0 <= found.high), (lost, gained)
        assert found.low <= 100 * low + 1e-12
        assert found.high == pytest.approx(100 * high)
        if found.low < 100 * low - 1e-12:
            widened.append((lost, gained))
    assert widened[:7] == [(0, 4), (6, 15), (8, 18), (10, 21), (29, 46), (33, 51), (42, 62)]
    mirrored, found = inference.same_images(15, 6, IMAGES), inference.same_images(6, 15, IMAGES)
    assert (-mirrored.high, -mirrored.low, mirrored.p) == pytest.approx((found.low, found.high, found.p))


def test_different_images_are_compared_by_newcombes_interval() -> None:
    first, second = Count(9_276, 10_000), Count(4_893, 5_000)
    found = inference.other_images(first, second)
    assert found.difference == pytest.approx(97.86 - 92.76)
    assert found[1:3] == pytest.approx([100 * end for end in stats.independent_difference(first, second)])
    assert (found.detectable, inference.other_images(first, first).detectable) == (True, False)


# Simulated studies: how often an interval holds the truth, a test finds what is not there, and what is.


def gains(mean: float, sd: float, seeds: int, seed: int) -> list[Difference]:
    """Studies whose seeds gain `mean` images on average, in whole images."""
    draws = np.random.default_rng(seed).normal(mean, sd, (STUDIES, seeds)).round().astype(int)
    return [apart(*row) for row in draws.tolist()]


def error(share: float) -> float:
    """Three standard errors of a share of the simulated studies."""
    return 3 * math.sqrt(share * (1 - share) / STUDIES)


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_the_interval_of_whole_images_covers_the_truth(seeds: int) -> None:
    found = [one.estimate for one in gains(12, 9, seeds, 2)]
    covered = [e.low <= 0.12 <= e.high for e in found if e.low is not None and e.high is not None]
    assert len(covered) > 0.95 * STUDIES
    assert abs(np.mean(covered) - 0.95) < error(0.95)


@pytest.mark.parametrize("sd", [0.7, 2, 10])
def test_the_paired_t_finds_what_is_not_there_as_often_as_it_says(sd: float) -> None:
    """And no more often where the seeds lie a few images apart, so that many of them tie."""
    found = np.mean([one.detectable is True for one in gains(0, sd, 5, 3)])
    assert found <= 0.05 + error(0.05)
    assert sd < 10 or found >= 0.05 - error(0.05)


def test_five_seeds_find_a_difference_of_two_spreads_that_the_sign_flip_never_would() -> None:
    """Power of Student's test, two-sided at 5%, n = 5, a difference of 2 sd: 0.91 (noncentral t)."""
    found = gains(20, 10, 5, 4)
    assert abs(np.mean([one.detectable is True for one in found]) - 0.91) < 0.03
    assert not any(one.sign_flip is not None and one.sign_flip < 0.05 for one in found)


def test_holm_keeps_the_level_over_a_table_and_five_seeds_still_have_power() -> None:
    """Six rows: with three true differences of 6 sd they are found, and the three others seldom."""
    null, true = gains(0, 10, 5, 5), gains(60, 10, 5, 6)
    tables = [inference.corrected([*null[at : at + 3], *true[at : at + 3]]) for at in range(0, STUDIES - 3, 3)]
    wrong = np.mean([any(one.detectable for one in table[:3]) for table in tables])
    power = np.mean([one.detectable is True for table in tables for one in table[3:]])
    assert wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / len(tables))
    assert wrong > 0.015
    assert power > 0.95


@pytest.mark.parametrize("rate", [0.0005, 0.004, 0.02])
def test_two_equal_runs_are_seldom_told_apart(rate: float) -> None:
    draws = np.random.default_rng(7).multinomial(IMAGES, [rate, rate, 1 - 2 * rate], STUDIES)
    found = np.mean([inference.same_images(b, c, IMAGES).detectable for b, c, _ in draws.tolist()])
    assert 0.05 - 0.025 < found <= 0.05 + error(0.05)


def test_two_runs_that_differ_are_told_apart() -> None:
    draws = np.random.default_rng(8).multinomial(IMAGES, [0.004, 0.007, 0.989], STUDIES)
    assert np.mean([inference.same_images(b, c, IMAGES).detectable for b, c, _ in draws.tolist()]) > 0.75


@pytest.mark.parametrize(
    ("errors", "alike", "spread", "n"), [(0.022, 0.5, 0.02, 10_000), (0.022, 0.8, 0.05, 10_000), (0.05, 0.6, 0.1, 613)]
)
def test_what_an_interval_covers(errors: float, alike: float, spread: float, n: int) -> None:
    """Some images are hard for every seed (`alike`: the correlation of two seeds' errors), and some seeds are worse.

    On other images Student's interval over trainings covers the truth half to four fifths of the time; the one over
    trainings and images at least as often as it says, and it is not twice too wide.
    """
    studies, seeds = 400, 5
    generator = np.random.default_rng(9)
    hardness = (1 - alike) / alike
    hard = generator.beta(errors * hardness, (1 - errors) * hardness, (studies, 1, n)).astype(np.float32)
    worse = np.exp(generator.normal(-(spread**2) / 2, spread, (studies, seeds, 1))).astype(np.float32)
    right = (generator.random((studies, seeds, n), dtype=np.float32) >= hard * worse).sum(2)
    found = [estimate(*row, n=n) for row in right.tolist()]
    truth = 100 * (1 - errors)
    trainings = [e.low <= truth <= e.high for e in found if e.low is not None and e.high is not None]
    both = [e.images.low <= truth <= e.images.high for e in found if e.images]
    assert len(both) == len(trainings) > 0.95 * studies
    assert 0.45 < np.mean(trainings) < 0.85
    assert np.mean(both) > 0.95 - 3 * math.sqrt(0.95 * 0.05 / studies)
    half = np.mean([e.images.high - e.mean for e in found if e.images])
    assert half < 2 * 1.96 * np.std([e.mean for e in found])


def test_importing_it_and_stats_loads_neither_numpy_nor_scipy_nor_rich() -> None:
    modules = ("numpy", "scipy", "torch", "rich")
    code = f"import lorabench.analysis.inference, sys; sys.exit(any(m in sys.modules for m in {modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
