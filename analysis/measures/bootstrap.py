"""Bootstrap intervals over seeds: of a statistic, of paired differences and of ratios."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

NUM_RESAMPLES = 2000
# Values gathered at once when resampling: bounds the memory at about 32 MB.
_CHUNK_VALUES = 4_000_000

_STATISTICS = {"median": np.median, "mean": np.mean}


class Interval(NamedTuple):
    """A statistic over seeds with the bounds of its interval, each of shape (...)."""

    center: np.ndarray
    low: np.ndarray
    high: np.ndarray


def resampled_seeds(num_seeds: int, num_resamples: int = NUM_RESAMPLES, seed: int = 0):
    """Draw the seed indices of every resample, shape (num_resamples, num_seeds).

    They depend on nothing else, so that methods with the same seeds in the same order are
    resampled together: their intervals, and those of their differences, are paired.
    """
    return np.random.default_rng(seed).integers(num_seeds, size=(num_resamples, num_seeds))


def bootstrap_interval(
    values: np.ndarray,
    statistic: str = "median",
    level: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of a statistic over seeds [Efron & Tibshirani 1993, ch. 13].

    The bounds are order statistics of the resampled values, taken outwards and not interpolated:
    interpolation between a number and inf would give nan.

    Args:
        values: shape (num_seeds, ...); +inf where a run has diverged.
        statistic: "median" or "mean".
        level: share of the resampled statistics inside, in (0, 1).
        num_resamples: resamples of the seeds.
        seed: seed of the resampling.
    Returns:
        Statistic, lower and upper bound, each of shape (...). One seed: all three are equal.
    Raises:
        ValueError: if an argument is out of range or there is no seed.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim == 0 or len(values) == 0:
        raise ValueError(f"values must have at least one seed, got shape {values.shape}")
    if statistic not in _STATISTICS:
        raise ValueError(f"statistic must be one of {sorted(_STATISTICS)}, got {statistic!r}")
    function = _STATISTICS[statistic]
    low, high = _bounds(
        lambda indices: function(values[indices], axis=1),
        values.shape, level, num_resamples, seed,
    )  # fmt: skip
    return Interval(function(values, axis=0), low, high)


def paired_difference(
    better: np.ndarray,
    worse: np.ndarray,
    statistic: str = "mean",
    level: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Interval of the per-seed difference `worse - better`; wholly above 0 means better.

    Args:
        better: a metric where less is better, shape (num_seeds, ...).
        worse: the same metric of the other method on the same seeds in the same order.
        statistic, level, num_resamples, seed: as for `bootstrap_interval`.
    Returns:
        Statistic of the differences and its bounds, each of shape (...). Two diverged runs
        differ by 0; a mean over differences of +inf and -inf is undefined, nan.
    Raises:
        ValueError: if the shapes differ.
    """
    better, worse = _same_shape("worse", worse, "better", better)
    with np.errstate(invalid="ignore"):
        difference = np.where(worse == better, 0.0, worse - better)
        return bootstrap_interval(difference, statistic, level, num_resamples, seed)


def ratio_of_medians(
    numerator: np.ndarray,
    denominator: np.ndarray,
    level: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Interval of median(numerator) / median(denominator), both resampled with the same seeds.

    Meant for steps or seconds to a target, inf where it was not reached: a ratio of a number to
    inf is 0. A ratio of inf to inf is undefined; such resamples count as 0 for the lower bound and
    as inf for the upper one, so that they only widen the interval.

    Args:
        numerator, denominator: >= 0, shape (num_seeds, ...), the same seeds in the same order.
        level, num_resamples, seed: as for `bootstrap_interval`.
    Returns:
        Ratio (nan if undefined) and its bounds, each of shape (...).
    Raises:
        ValueError: if the shapes differ, or an argument is out of range.
    """
    denominator, numerator = _same_shape("numerator", numerator, "denominator", denominator)

    def ratio(rows: np.ndarray, others: np.ndarray, axis: int) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.median(rows, axis=axis) / np.median(others, axis=axis)

    low, high = _bounds(
        lambda indices: ratio(numerator[indices], denominator[indices], axis=1),
        numerator.shape, level, num_resamples, seed, undefined=(0.0, np.inf),
    )  # fmt: skip
    return Interval(ratio(numerator, denominator, axis=0), low, high)


def statistic_interval(
    function: Callable[[np.ndarray], float],
    num_seeds: int,
    level: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Interval of any number that is computed from seeds, such as a correlation.

    Args:
        function: indices of seeds, shape (num_seeds,), -> the number; nan where it is undefined,
            such as the correlation of one seed with itself: those resamples are left out.
        num_seeds: seeds to draw from.
        level, num_resamples, seed: as for `bootstrap_interval`.
    """
    drawn = resampled_seeds(num_seeds, num_resamples, seed)
    values = np.array([function(indices) for indices in drawn])
    values = np.sort(values[~np.isnan(values)])
    center = np.asarray(function(np.arange(num_seeds)))
    if not len(values):
        return Interval(center, np.asarray(np.nan), np.asarray(np.nan))
    low = _rank(level, len(values))
    return Interval(center, values[low], values[len(values) - 1 - low])


def _same_shape(name: str, one: np.ndarray, other_name: str, other: np.ndarray):
    one, other = np.asarray(one, dtype=float), np.asarray(other, dtype=float)
    if one.shape != other.shape:
        raise ValueError(f"{name} must have shape {other.shape}, got {one.shape}")
    return other, one


def _rank(level: float, count: int) -> int:
    # Rounded first: 0.025 * 1999 must not move by one rank through round-off of the level.
    return math.floor(round((1 - level) / 2 * (count - 1), 9))


def _bounds(
    function: Callable[[np.ndarray], np.ndarray],
    shape: tuple[int, ...],
    level: float,
    num_resamples: int,
    seed: int,
    undefined: tuple[float, float] = (np.nan, np.nan),
) -> tuple[np.ndarray, np.ndarray]:
    """Order statistics of `function` over the resamples.

    Args:
        function: indices, shape (num, num_seeds), -> shape (num, ...); of the seeds' order it
            must not depend: few seeds have few different resamples, and each is computed once.
        shape: of the values that are gathered.
        undefined: what nan counts as, for the lower and for the upper bound.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be >= 1, got {num_resamples}")
    indices = resampled_seeds(shape[0], num_resamples, seed)
    different, counts = np.unique(np.sort(indices, axis=1), axis=0, return_counts=True)
    if len(different) > num_resamples // 2:
        different, counts = indices, np.ones(num_resamples, dtype=int)
    chunk = max(1, _CHUNK_VALUES // max(math.prod(shape), 1))
    parts = [function(different[i : i + chunk]) for i in range(0, len(different), chunk)]
    values = np.concatenate(parts)
    low = _rank(level, num_resamples)
    ranks = (low, num_resamples - 1 - low)
    bounds = [
        _order_statistic(values if fill != fill else np.where(np.isnan(values), fill, values),
                         counts, rank)
        for rank, fill in zip(ranks, undefined, strict=True)
    ]  # fmt: skip
    return bounds[0], bounds[1]


def _order_statistic(values: np.ndarray, counts: np.ndarray, rank: int) -> np.ndarray:
    """The value of the given rank, from 0, where row i of `values` occurs counts[i] times."""
    order = np.argsort(values, axis=0)
    before = np.cumsum(counts[order], axis=0)
    place = np.argmax(before > rank, axis=0)
    ordered = np.take_along_axis(values, order, axis=0)
    return np.take_along_axis(ordered, place[None], axis=0)[0]
