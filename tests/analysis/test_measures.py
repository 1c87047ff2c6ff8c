import math

import numpy as np
import pytest

from analysis import measures
from analysis.measures import bootstrap


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape)


@pytest.mark.parametrize("statistic", ["median", "mean"])
def test_interval_agrees_with_numpys_percentiles(statistic):
    values = normal(10, 3)
    center, low, high = measures.bootstrap_interval(values, statistic, seed=5)
    indices = measures.resampled_seeds(10, seed=5)
    resampled = getattr(np, statistic)(values[indices], axis=1)
    expected = np.percentile(resampled, [2.5, 97.5], axis=0)
    np.testing.assert_array_equal(center, getattr(np, statistic)(values, axis=0))
    # Order statistics against interpolation: apart by at most the gap to the next rank.
    assert (low <= expected[0]).all()
    assert (high >= expected[1]).all()
    np.testing.assert_allclose([low, high], expected, atol=0.02)


def test_interval_of_the_mean_covers_the_truth_about_as_often_as_it_says():
    # 300 samples of 20 seeds side by side; the percentile interval is known to be a little narrow,
    # and the share of hits has the standard error 0.013: hence 0.88 to 0.98 around 0.95.
    values = np.random.default_rng(1).normal(loc=3.0, size=(20, 300))
    _, low, high = measures.bootstrap_interval(values, "mean")
    assert 0.88 < np.mean((low <= 3.0) & (high >= 3.0)) < 0.98


def test_resampling_is_paired_seeded_and_independent_of_chunks(monkeypatch):
    values = normal(6, 4)
    first = measures.bootstrap_interval(values)
    shifted = measures.bootstrap_interval(values + 2.0)
    np.testing.assert_allclose(shifted.low, first.low + 2.0, rtol=1e-12)
    monkeypatch.setattr(bootstrap, "_CHUNK_VALUES", 1)
    for one, other in zip(measures.bootstrap_interval(values), first, strict=True):
        np.testing.assert_array_equal(one, other)
    mean = [measures.bootstrap_interval(values, "mean", seed=seed).low for seed in (0, 1)]
    assert not np.array_equal(*mean)


def test_paired_difference_cancels_what_seeds_share():
    seeds = 10.0 * np.arange(8)
    better, worse = seeds, seeds + 1.0 + 0.01 * np.arange(8)
    center, low, high = measures.paired_difference(better, worse)
    assert center == pytest.approx(1.035)
    assert 1.0 < low < center < high < 1.07
    with pytest.raises(ValueError, match=r"worse must have shape \(8,\), got \(2,\)"):
        measures.paired_difference(better, worse[:2])


def test_diverged_runs_rank_worst_and_are_never_dropped():
    one = np.array([1.0, 2.0, 3.0, 4.0, np.inf])
    center, low, high = measures.bootstrap_interval(one)
    assert (center, high) == (3.0, np.inf)
    assert 1.0 <= low <= 3.0
    assert measures.bootstrap_interval(np.full(3, np.inf)) == (np.inf, np.inf, np.inf)
    both = measures.paired_difference(np.array([np.inf, 1.0]), np.array([np.inf, 1.0]))
    assert both == (0.0, 0.0, 0.0)
    assert measures.paired_difference(np.zeros(3), np.full(3, np.inf)).low == np.inf


def test_one_seed_gives_a_point():
    assert measures.bootstrap_interval(np.array([2.0])) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": np.empty((0, 3))}, r"values must have at least one seed, got shape \(0, 3\)"),
        ({"statistic": "mode"}, "statistic must be one of .*, got 'mode'"),
        ({"level": 1.0}, r"level must be in \(0, 1\), got 1.0"),
        ({"num_resamples": 0}, "num_resamples must be >= 1, got 0"),
    ],
)
def test_bad_arguments_of_the_interval(arguments, message):
    with pytest.raises(ValueError, match=message):
        measures.bootstrap_interval(**{"values": np.ones(3), **arguments})


def test_median_filter_removes_a_spike_and_passes_over_gaps():
    values = np.array([1.0, 2.0, 100.0, 4.0, np.nan, 6.0])
    np.testing.assert_array_equal(measures.median_filter(values, 3), [1.5, 2, 4, 52, 5, 6])
    np.testing.assert_array_equal(measures.median_filter(values, 1), values)
    assert np.isnan(measures.median_filter(np.full(3, np.nan), 3)).all()
    for width in (0, 2):
        with pytest.raises(ValueError, match=f"width must be odd and >= 1, got {width}"):
            measures.median_filter(values, width)


@pytest.mark.parametrize("width", [1, 3, 50])
def test_running_mean_looks_backwards_only(width):
    values = normal(20)
    expected = [values[max(0, i - width + 1) : i + 1].mean() for i in range(20)]
    np.testing.assert_allclose(measures.running_mean(values, width), expected, rtol=1e-12)
    with pytest.raises(ValueError, match="width must be >= 1, got 0"):
        measures.running_mean(values, 0)


def test_running_mean_forgets_a_value_that_is_not_finite():
    values = np.array([1.0, 1.0, np.inf, 1.0, 1.0, 1.0])
    np.testing.assert_array_equal(measures.running_mean(values, 2), [1, 1, np.inf, np.inf, 1, 1])
    assert measures.running_mean(np.empty(0), 3).shape == (0,)


def test_suboptimality_is_per_instance_and_infinite_after_divergence():
    loss = np.array([[1.0, 0.5], [2.0, np.nan]])
    np.testing.assert_array_equal(
        measures.suboptimality(loss, np.array([0.5, 1.0])), [[0.5, 0.0], [1.0, np.inf]]
    )


def test_steps_to_target():
    steps, values = np.array([10, 20, 30, 40]), np.array([5.0, np.nan, 3.0, 2.0])
    assert measures.steps_to_target(steps, values, 3.0) == 30
    assert measures.steps_to_target(steps, values, 1.0) == math.inf
    assert measures.steps_to_target(steps, -values, -3.0, "max") == 30
    with pytest.raises(ValueError, match="direction must be min or max, got 'up'"):
        measures.steps_to_target(steps, values, 1.0, "up")


@pytest.mark.parametrize("num_points", [1, 2, 400, 401, 2000, 100_000])
def test_thinned_keeps_both_ends_and_the_start_dense(num_points):
    kept = measures.thinned(num_points)
    assert len(kept) <= 400
    assert (kept[0], kept[-1]) == (0, num_points - 1)
    assert (np.diff(kept) > 0).all()
    assert kept[: min(num_points, 10)].tolist() == list(range(min(num_points, 10)))
    with pytest.raises(ValueError, match="limit must be >= 2, got 1"):
        measures.thinned(num_points, 1)


def test_few_seeds_give_the_same_bounds_as_computing_every_resample():
    # Six seeds have 462 different resamples, each computed once; the plain way computes 2000.
    values = np.append(normal(5, 3), np.full((1, 3), np.inf), axis=0)
    _, low, high = measures.bootstrap_interval(values)
    resampled = np.sort(np.median(values[measures.resampled_seeds(6)], axis=1), axis=0)
    np.testing.assert_array_equal(low, resampled[49])
    np.testing.assert_array_equal(high, resampled[1999 - 49])


def test_ratio_of_medians_is_paired_and_knows_censored_runs():
    seeds = np.array([1.0, 10.0, 100.0, 1000.0, 1e4])
    # Twice as long on every seed: the seeds' spread of four decades cancels.
    assert measures.ratio_of_medians(2 * seeds, seeds) == (2.0, 2.0, 2.0)
    never = np.full(3, np.inf)
    assert measures.ratio_of_medians(np.ones(3), never) == (0.0, 0.0, 0.0)
    assert measures.ratio_of_medians(never, np.ones(3)) == (np.inf, np.inf, np.inf)
    center, low, high = measures.ratio_of_medians(never, never)
    assert np.isnan(center) and (low, high) == (0.0, np.inf)
    # Where only some resamples are undefined, they widen the interval on both sides.
    center, low, high = measures.ratio_of_medians([1, np.inf, np.inf], [1, np.inf, np.inf])
    assert np.isnan(center) and (low, high) == (0.0, np.inf)
    with pytest.raises(ValueError, match=r"numerator must have shape \(3,\), got \(2,\)"):
        measures.ratio_of_medians(np.ones(2), np.ones(3))


def test_interval_of_any_statistic_leaves_out_undefined_resamples():
    values = np.array([1.0, 2.0, 4.0])

    def spread(indices):
        return np.ptp(values[indices]) or np.nan

    assert measures.statistic_interval(spread, 3) == (3.0, 1.0, 3.0)
    assert np.isnan(measures.statistic_interval(lambda indices: np.nan, 3).low)
