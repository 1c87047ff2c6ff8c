"""Methods compared over several tasks: profiles, ranks, correlations."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from analysis.measures.bootstrap import NUM_RESAMPLES, Interval, statistic_interval


class RankTable(NamedTuple):
    """Mean ranks over tasks; two methods differ when theirs are further apart than `critical`."""

    mean_ranks: np.ndarray  # shape (num_methods,); 1 is best
    friedman: float  # p of the Friedman test that all methods are alike; nan for two methods
    critical: float  # the Nemenyi test's critical difference


def performance_profile(costs: np.ndarray, ratios: np.ndarray) -> np.ndarray:
    """Share of tasks that a method solves within a multiple of the best cost [Dolan & Moré 2002].

    Args:
        costs: steps or seconds to a target, > 0, shape (num_tasks, num_methods); inf: not solved.
        ratios: multiples of the best, >= 1, shape (num_ratios,).
    Returns:
        Shape (num_ratios, num_methods). A task that no method solves counts for none.
    Raises:
        ValueError: if there is no task, or a cost is not > 0.
    """
    costs = np.asarray(costs, dtype=float)
    if costs.ndim != 2 or not len(costs):
        raise ValueError(f"costs must have shape (num_tasks, num_methods), got {costs.shape}")
    if not (costs > 0).all():
        raise ValueError("costs must be > 0")
    with np.errstate(invalid="ignore"):
        relative = costs / costs.min(axis=1, keepdims=True)
    relative = np.where(np.isfinite(costs), relative, np.inf)
    return (relative <= np.asarray(ratios, dtype=float)[:, None, None]).mean(axis=1)


def rank_table(scores: np.ndarray, level: float = 0.95) -> RankTable:
    """Mean ranks with the Friedman test and Nemenyi's critical difference [Demšar 2006].

    Args:
        scores: lower is better, shape (num_tasks, num_methods); inf: diverged; ties share ranks.
        level: 1 - the size of the tests.
    Raises:
        ValueError: if there are fewer than two tasks or methods, or a score is nan.
    """
    from scipy import stats

    scores = np.asarray(scores, dtype=float)
    if scores.ndim != 2 or min(scores.shape) < 2:
        raise ValueError(f"scores must have >= 2 tasks and >= 2 methods, got shape {scores.shape}")
    if np.isnan(scores).any():
        raise ValueError("scores must not be nan: leave out tasks that lack a method")
    num_tasks, num_methods = scores.shape
    ranks = stats.rankdata(scores, axis=1)
    friedman = math.nan
    if num_methods > 2:
        alike = (ranks == ranks[:, :1]).all()  # every task a tie: the statistic is 0 / 0
        friedman = 1.0 if alike else float(stats.friedmanchisquare(*ranks.T).pvalue)
    quantile = stats.studentized_range.ppf(level, num_methods, np.inf) / math.sqrt(2)
    critical = quantile * math.sqrt(num_methods * (num_methods + 1) / (6 * num_tasks))
    return RankTable(ranks.mean(axis=0), friedman, float(critical))


def kendall_tau(one: np.ndarray, other: np.ndarray) -> float:
    """Kendall's tau-b of two rankings: 1 if they agree on every pair, -1 if on none."""
    from scipy import stats

    return float(stats.kendalltau(one, other).statistic)


def spearman(
    one: np.ndarray,
    other: np.ndarray,
    level: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Spearman's rank correlation with its bootstrap interval over pairs.

    Args:
        one, other: shape (num_pairs,), num_pairs >= 3.
        level, num_resamples, seed: as for `bootstrap_interval`.
    Raises:
        ValueError: if the shapes differ or there are fewer than three pairs.
    """
    from scipy import stats

    one, other = np.asarray(one, dtype=float), np.asarray(other, dtype=float)
    if one.shape != other.shape or one.ndim != 1 or len(one) < 3:
        raise ValueError(f"need >= 3 pairs, got shapes {one.shape} and {other.shape}")

    def correlation(indices: np.ndarray) -> float:
        ranks = [stats.rankdata(values[indices]) for values in (one, other)]
        if any(np.ptp(rank) == 0 for rank in ranks):
            return math.nan
        return float(np.corrcoef(*ranks)[0, 1])

    return statistic_interval(correlation, len(one), level, num_resamples, seed)


def loglog_slope(x: np.ndarray, y: np.ndarray, level: float = 0.95) -> Interval:
    """Exponent b of y = a x^b, by least squares of log y on log x.

    Args:
        x: > 0, shape (num_points,), at least two different values.
        y: > 0, shape (num_points,) or (num_seeds, num_points).
        level: of the interval.
    Returns:
        Several seeds: the mean of their slopes and its t interval over seeds. One: the slope and
        the interval of the regression, which needs three points (two: unbounded).
    Raises:
        ValueError: if a value is not > 0 or the shapes do not fit.
    """
    from scipy import stats

    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if y.shape[-1:] != x.shape or len(set(x.tolist())) < 2:
        raise ValueError(f"x needs two different points, as many as y, got {x.shape}, {y.shape}")
    if not ((x > 0).all() and (y > 0).all()):
        raise ValueError("x and y must be > 0")
    fits = [stats.linregress(np.log(x), np.log(row)) for row in np.atleast_2d(y)]
    slopes = np.array([fit.slope for fit in fits])
    if len(fits) > 1:
        freedom, error = len(fits) - 1, slopes.std(ddof=1) / math.sqrt(len(fits))
    else:
        freedom, error = len(x) - 2, fits[0].stderr
    center = slopes.mean()
    reach = stats.t.ppf((1 + level) / 2, freedom) * error if freedom > 0 else math.inf
    return Interval(center, center - reach, center + reach)
