"""Targets, effect sizes, ranks and slopes, on cases with known answers."""

import math

import numpy as np
import pytest
from scipy import stats

from analysis import measures

NEVER = math.inf


# ---------------------------------------------------------------- targets


def test_median_and_restricted_mean_of_censored_times():
    times = np.array([10.0, 20.0, NEVER])
    assert measures.median_time(times) == 20
    assert measures.median_time(np.array([10.0, NEVER, NEVER])) == NEVER
    assert measures.restricted_mean(times, 60) == 30  # (10 + 20 + 60) / 3
    assert measures.restricted_mean(np.full(3, NEVER), 60) == 60
    with pytest.raises(ValueError, match=r"times must be of shape \(num_seeds,\), got \(0,\)"):
        measures.median_time(np.empty(0))


def test_sign_test_leaves_out_ties():
    times = np.array([1.0, 1.0, 1.0, 1.0, 1.0, NEVER, 9.0])
    others = np.array([2.0, 2.0, 2.0, 2.0, NEVER, NEVER, 3.0])
    found = measures.compare_times(times, others, 100)
    assert (found.wins, found.losses) == (5, 1)
    # Of six coins one or none, or five or six, fall one way: 2 (1 + 6) / 64.
    assert found.sign_test == pytest.approx(14 / 64, rel=1e-12)


def test_log_rank_agrees_with_the_textbook():
    # Remission of leukaemia in weeks [Freireich et al. 1963], 6-MP against placebo, as in
    # Kleinbaum & Klein, "Survival Analysis", ch. 2: chi-square 16.79 on one degree of freedom.
    drug = [6, 6, 6, 7, 10, 13, 16, 22, 23]
    censored = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    placebo = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]
    one = stats.CensoredData(uncensored=drug, right=censored)
    assert stats.logrank(one, placebo).statistic ** 2 == pytest.approx(16.79, abs=0.005)
    # Ours has one budget for all runs; with that the same call.
    times, others = np.array([6.0, 7, 10, NEVER, NEVER]), np.array([1.0, 2, 3, 4, 5])
    expected = stats.logrank(stats.CensoredData(uncensored=[6, 7, 10], right=[12, 12]), others)
    found = measures.compare_times(times, others, 12)
    assert found.log_rank == pytest.approx(expected.pvalue, rel=1e-12)


def test_nothing_reached_says_nothing():
    found = measures.compare_times(np.full(3, NEVER), np.full(3, NEVER), 10)
    assert found[:3] == (0, 0, 1.0)
    assert math.isnan(found.log_rank)
    with pytest.raises(ValueError, match=r"others must have shape \(3,\), got \(2,\)"):
        measures.compare_times(np.ones(3), np.ones(2), 10)


# ---------------------------------------------------------------- curves


def test_area_under_a_line_is_its_middle():
    steps = np.array([0.0, 1.0, 4.0])
    np.testing.assert_allclose(measures.area_under_curve(steps, [2 * steps, 1 - steps]), [4, -1])
    assert measures.area_under_curve([3], np.array([7.0])) == 7
    assert measures.area_under_curve([0, 1], [1.0, math.inf]) == math.inf
    with pytest.raises(ValueError, match="values must have 2 >= 1 points"):
        measures.area_under_curve([0, 1], [1.0])


# ---------------------------------------------------------------- effect sizes


def test_paired_effect_is_hedges():
    # Differences 1..5: mean 3, s.d. sqrt(2.5); J(4) = Γ(2) / (√2 Γ(1.5)) = .7979.
    expected = 3 / math.sqrt(2.5) / (math.sqrt(2) * math.gamma(1.5))
    assert measures.paired_effect(np.arange(1.0, 6)) == pytest.approx(expected, rel=1e-12)
    assert measures.paired_effect(-np.arange(1.0, 6)) == pytest.approx(-expected, rel=1e-12)
    assert measures.paired_effect(np.ones(3)) == math.inf
    assert measures.paired_effect(np.zeros(3)) == 0
    assert measures.paired_effect(np.array([1.0, 2.0])) == 0
    for differences in ([1.0], [1.0, math.inf, 2.0]):
        assert math.isnan(measures.paired_effect(np.array(differences)))


def test_hedges_correction_is_unbiased():
    # The mean over 20,000 samples of 5 seeds of a true effect of 1 has the standard error .005.
    samples = np.random.default_rng(0).normal(loc=1.0, size=(20_000, 5))
    assert np.mean([measures.paired_effect(row) for row in samples]) == pytest.approx(1, abs=0.02)


def test_cliffs_delta_counts_pairs():
    # 1 < 2, 1 < 3, 2 = 2, 2 < 3: three of four pairs less, none more.
    assert measures.cliffs_delta([1, 2], [2, 3]) == 0.75
    assert measures.probability_of_superiority([1, 2], [2, 3]) == 0.875
    assert measures.cliffs_delta([1, 1], [math.inf, math.inf]) == 1
    assert measures.cliffs_delta([math.inf], [math.inf]) == 0
    with pytest.raises(ValueError, match="both must have runs, got 0 and 1"):
        measures.cliffs_delta([], [1])


@pytest.mark.parametrize(("effect", "num_seeds"), [(0.5, 34), (0.8, 15), (1.0, 10)])
def test_seeds_needed_agree_with_published_tables(effect, num_seeds):
    # Two-sided paired t test, size .05, power .8, as G*Power and Cohen (1988) have them.
    spread = math.sqrt(0.5)  # of two values one apart
    differences = np.array([0.0, 1.0]) - 0.5 + effect * spread
    assert measures.seeds_needed(differences) == num_seeds
    assert measures.more_seeds(differences) == num_seeds - 2
    assert measures.power(effect, num_seeds) >= 0.8 > measures.power(effect, num_seeds - 1)


def test_seeds_needed_at_the_ends():
    assert measures.seeds_needed(np.ones(4)) == 2
    assert measures.more_seeds(np.ones(4)) == 0
    assert measures.seeds_needed(np.zeros(4)) == math.inf
    assert measures.seeds_needed(np.array([1.0, -1.0, 1e-9])) == math.inf
    assert math.isnan(measures.seeds_needed(np.array([1.0])))
    assert math.isnan(measures.more_seeds(np.array([1.0, math.inf])))


# ---------------------------------------------------------------- over tasks


def test_performance_profile_by_hand():
    costs = np.array([[1.0, 2.0], [4.0, 2.0], [NEVER, 5.0], [NEVER, NEVER]])
    profile = measures.performance_profile(costs, [1, 2, 1e9])
    # First method: best on task 1, twice the best on task 2, 3 and 4 unsolved.
    np.testing.assert_array_equal(profile, [[0.25, 0.5], [0.5, 0.75], [0.5, 0.75]])
    with pytest.raises(ValueError, match="costs must be > 0"):
        measures.performance_profile(np.array([[0.0, 1.0]]), [1])
    with pytest.raises(ValueError, match="costs must have shape"):
        measures.performance_profile(np.empty((0, 2)), [1])


def test_critical_difference_agrees_with_demsar():
    # Demšar (2006), section 3.2.2: four classifiers on 14 data sets, CD = 1.25 at .05; and its
    # table 5(a): q for five methods is 2.728, so that CD = 2.728 √(5·6 / (6·14)).
    scores = np.random.default_rng(0).normal(size=(14, 4))
    assert measures.rank_table(scores).critical == pytest.approx(1.25, abs=0.005)
    five = measures.rank_table(np.random.default_rng(0).normal(size=(14, 5)))
    assert five.critical == pytest.approx(2.728 * math.sqrt(30 / 84), abs=1e-3)


def test_ranks_share_ties_and_put_divergence_last():
    scores = np.array([[1.0, 1.0, 3.0], [1.0, 2.0, math.inf], [5.0, 6.0, 7.0]])
    found = measures.rank_table(scores)
    np.testing.assert_allclose(found.mean_ranks, [3.5 / 3, 5.5 / 3, 3])
    assert found.friedman == pytest.approx(stats.friedmanchisquare(*scores.T).pvalue, rel=1e-12)
    assert math.isnan(measures.rank_table(scores[:, :2]).friedman)
    assert measures.rank_table(np.ones((3, 3))).friedman == 1
    with pytest.raises(ValueError, match="must not be nan"):
        measures.rank_table(np.array([[1.0, math.nan], [1.0, 2.0]]))
    with pytest.raises(ValueError, match="scores must have >= 2 tasks and >= 2 methods"):
        measures.rank_table(np.ones((1, 3)))


def test_rank_correlations():
    one = np.array([1.0, 2.0, 3.0, 4.0])
    # One of six pairs is in another order.
    assert measures.kendall_tau(one, [1, 2, 4, 3]) == pytest.approx(4 / 6)
    center, low, high = measures.spearman(one, np.exp(one))
    assert center == pytest.approx(1) and low == pytest.approx(1) and high == pytest.approx(1)
    other = np.array([2.0, 1.0, 4.0, 3.0])
    center, low, high = measures.spearman(one, other)
    assert center == pytest.approx(stats.spearmanr(one, other).statistic, rel=1e-12)
    assert low < center < high
    with pytest.raises(ValueError, match="need >= 3 pairs"):
        measures.spearman(one[:2], other[:2])


def test_slope_of_a_power_law():
    x = np.array([1.0, 10.0, 100.0, 1000.0])
    center, low, high = measures.loglog_slope(x, 3 * x**0.5)
    assert center == pytest.approx(0.5) and low == pytest.approx(0.5) and high == pytest.approx(0.5)
    assert measures.loglog_slope(x[:2], x[:2]).high == math.inf
    seeds = np.stack([x**0.4, x**0.5, x**0.6])
    center, low, high = measures.loglog_slope(x, seeds)
    # Mean of three slopes; t for two degrees of freedom is 4.303.
    assert center == pytest.approx(0.5)
    assert high - center == pytest.approx(4.3027 * 0.1 / math.sqrt(3), rel=1e-4)
    assert center - low == pytest.approx(high - center)
    with pytest.raises(ValueError, match="must be > 0"):
        measures.loglog_slope(x, -x)
    with pytest.raises(ValueError, match="x needs two different points"):
        measures.loglog_slope([1, 1], [1, 1])
