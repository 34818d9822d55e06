"""Intervals cover what they claim, ties are ties, and the exact tests are exact."""

import itertools
import math

import numpy as np
import pytest

from cifar_deploy.core import statistics
from cifar_deploy.core.statistics import Estimate, estimate


@pytest.mark.parametrize(
    ("rounds", "low", "high"),
    [(1, 1, 1), (5, 1, 5), (6, 1, 6), (7, 1, 7), (8, 1, 8), (9, 2, 8), (12, 3, 10), (25, 8, 18)],
)
def test_the_interval_of_a_median_is_between_the_order_statistics_of_the_tables(
    rounds: int, low: int, high: int
) -> None:
    found = estimate([float(value) for value in range(1, rounds + 1)])
    assert (found.low, found.high, found.value) == (low, high, (rounds + 1) / 2)
    assert found.kind == ("interval" if rounds >= 6 else "range")


@pytest.mark.parametrize("rounds", [6, 7, 9, 12])
@pytest.mark.parametrize("skewed", [False, True])
def test_the_interval_covers_the_median_at_least_as_often_as_it_says(rounds: int, skewed: bool) -> None:
    random = np.random.default_rng(0)
    samples = random.standard_normal((4000, rounds))
    samples = np.exp(samples) if skewed else samples + 10
    true = 1.0 if skewed else 10.0
    found = [estimate(list(row)) for row in samples]
    assert np.mean([each.low <= true <= each.high for each in found]) > 0.945


def test_an_unpaired_ratio_covers_the_true_one() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(1000):
        slow, fast = 1.2 * np.exp(0.05 * random.standard_normal(7)), np.exp(0.05 * random.standard_normal(8))
        found = statistics.unpaired_ratio(list(slow), list(fast))
        covered += found.low <= 1.2 <= found.high
    assert covered > 940


def test_an_unpaired_ratio_cuts_off_as_many_as_the_mann_whitney_table_says() -> None:
    # Critical values of U, two-sided 5 %: 8 for 7 and 7, 13 for 8 and 8, so the 9th and the 14th are the limits.
    for size, critical in ((7, 8), (8, 13)):
        numerator = [math.exp(step * 2 * size) for step in range(size)]
        denominator = [math.exp(-step / 10) for step in range(size)]
        ratios = sorted(a / b for a, b in itertools.product(numerator, denominator))
        assert statistics.unpaired_ratio(numerator, denominator).low == ratios[critical]


def test_percentiles_need_samples_and_rounds() -> None:
    few = [np.arange(1, 101)] * 5
    assert statistics.percentile(few, 90) is None
    enough = [np.arange(1, 101) + shift for shift in range(6)]
    found = statistics.percentile(enough, 90)
    assert found and found.low < found.value < found.high and found.kind == "range"
    assert found.value == pytest.approx(np.percentile(np.concatenate(enough), 90))
    assert statistics.percentile(enough, 99) is None  # 600 samples; it takes 662


def test_a_paired_ratio_is_over_the_rounds_that_both_have() -> None:
    found = statistics.paired_ratio({0: 2.0, 1: 4.0, 3: 9.0}, {0: 1.0, 1: 2.0, 2: 5.0})
    assert found == Estimate(value=2.0, low=2.0, high=2.0, kind="range", rounds=2)
    assert statistics.paired_ratio({0: 1.0}, {1: 1.0}) is None


def test_a_common_slowdown_of_a_round_leaves_the_paired_ratio_alone() -> None:
    slowdown = [1, 1, 3, 1, 2, 1, 5]
    ratio = statistics.paired_ratio(
        {index: 1.1 * factor for index, factor in enumerate(slowdown)}, dict(enumerate(map(float, slowdown)))
    )
    assert ratio and ratio.low == pytest.approx(1.1) and ratio.high == pytest.approx(1.1)


def _around(middle: float, spread: float = 0.001) -> dict[int, float]:
    return {index: middle * (1 + spread * (index - 3)) for index in range(7)}


def test_ties_share_a_place_and_the_next_place_counts_them() -> None:
    configurations = [_around(3.0), _around(1.0), _around(1.005), _around(2.0)]
    assert statistics.ranks(configurations, noise=0.01) == ["4", "T-1", "T-1", "3"]
    assert statistics.ranks(configurations, noise=0.0) == ["4", "1", "2", "3"]


def test_a_difference_inside_its_interval_is_a_tie_however_quiet_the_machine() -> None:
    apart = {index: 1.05 if index % 2 else 0.98 for index in range(7)}
    assert statistics.ranks([dict.fromkeys(range(7), 1.0), apart], noise=0.0) == ["T-1", "T-1"]


def test_a_range_decides_nothing() -> None:
    assert statistics.ranks([{0: 1.0, 1: 1.0}, {0: 9.0, 1: 9.0}], noise=0.0) == ["T-1", "T-1"]


def test_the_noise_is_what_a_cell_differs_by_from_itself_and_not_one_bad_round() -> None:
    assert statistics.noise([1.0] * 7) == 0.0
    assert statistics.noise([1.02] * 7) == pytest.approx(0.02)
    assert statistics.noise([0.98] * 7) == pytest.approx(1 / 0.98 - 1)
    quiet = [0.99, 1.01, 1.0, 1.005, 0.995, 1.0, 1.002]
    assert 0.001 < statistics.noise(quiet) < 0.01
    assert statistics.noise([*quiet[:6], 2.0]) < 0.01


def test_the_noise_covers_what_a_quiet_machine_shows() -> None:
    random = np.random.default_rng(0)
    medians = np.median(0.01 * random.standard_normal((2000, 7)), axis=1)
    estimates = [statistics.noise(np.exp(0.01 * random.standard_normal(7)).tolist()) for _ in range(2000)]
    assert np.mean(np.abs(medians) < np.median(estimates)) > 0.85


@pytest.mark.parametrize(("worse", "better"), [(0, 0), (5, 5), (37, 26), (1, 9), (12, 0)])
def test_mcnemars_p_is_the_binomial_tests(worse: int, better: int) -> None:
    from scipy import stats

    expected = stats.binomtest(worse, worse + better).pvalue if worse + better else 1.0
    assert statistics.mcnemar(worse, better) == pytest.approx(expected)


def testnewcombes_interval_is_that_of_his_paper() -> None:
    # Newcombe 1998, table II, method 10, the rows (e, f, g, h).
    for configurations, low, high in (
        ((36, 12, 2, 0), 0.0569, 0.3404),
        ((54, 0, 0, 0), -0.0664, 0.0664),
    ):
        found = statistics.newcombe(*configurations)
        assert found == pytest.approx((low, high), abs=2e-4)


def test_agreement_counts_each_image_once() -> None:
    labels = np.zeros(1000, np.int64)
    old, new = np.zeros(1000, np.int32), np.zeros(1000, np.int32)
    old[:10] = 1  # wrong before
    new[5:40] = 1  # wrong now: 5 stay wrong, 5 got better, 30 worse
    found = statistics.agreement(old, new, labels)
    assert (found.images, found.same_label, found.worse, found.better) == (1000, 965, 30, 5)
    assert found.difference == pytest.approx(-0.025)
    assert found.low < -0.025 < found.high < 0 and found.distinguishable


@pytest.mark.parametrize("count", range(1, 9))
def test_the_median_is_the_same_float_as_numpys(count: int) -> None:
    values = [float(value) for value in np.random.default_rng(count).lognormal(size=count)]
    assert statistics.median(values) == float(np.median(values))
