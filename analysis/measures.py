"""Pure statistics on arrays: no records, no frames, no figures.

Seeds lie on axis 0 everywhere. A diverged run enters as +inf, which medians and order statistics
rank as worse than any number, so it is never dropped.
"""

from __future__ import annotations

import math
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
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be >= 1, got {num_resamples}")
    function = _STATISTICS[statistic]
    indices = resampled_seeds(len(values), num_resamples, seed)
    chunk = max(1, _CHUNK_VALUES // max(values.size, 1))
    resampled = [
        function(values[indices[start : start + chunk]], axis=1)
        for start in range(0, num_resamples, chunk)
    ]
    ordered = np.sort(np.concatenate(resampled), axis=0)
    last = num_resamples - 1
    # Rounded first: 0.025 * 1999 must not move by one rank through round-off of the level.
    low = math.floor(round((1 - level) / 2 * last, 9))
    return Interval(function(values, axis=0), ordered[low], ordered[last - low])


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
    better, worse = np.asarray(better, dtype=float), np.asarray(worse, dtype=float)
    if better.shape != worse.shape:
        raise ValueError(f"worse must have shape {better.shape}, got {worse.shape}")
    with np.errstate(invalid="ignore"):
        difference = np.where(worse == better, 0.0, worse - better)
        return bootstrap_interval(difference, statistic, level, num_resamples, seed)


def median_filter(values: np.ndarray, width: int) -> np.ndarray:
    """Median over a centred window in time, shape (num_times,); narrower towards the ends.

    Missing values (nan) are passed over; a window without any value gives nan.

    Raises:
        ValueError: if width is not an odd number >= 1.
    """
    if width < 1 or width % 2 == 0:
        raise ValueError(f"width must be odd and >= 1, got {width}")
    values = np.asarray(values, dtype=float)
    half = width // 2
    filtered = np.full(len(values), np.nan)
    for index in range(len(values)):
        near = values[max(0, index - half) : index + half + 1]
        near = near[~np.isnan(near)]
        if len(near):
            filtered[index] = np.median(near)
    return filtered


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Mean over the last `width` steps, shape (num_steps,); over fewer at the start.

    Looks only backwards: a point never knows of a later step. A non-finite value reaches no
    further than `width` steps.

    Raises:
        ValueError: if width < 1.
    """
    if width < 1:
        raise ValueError(f"width must be >= 1, got {width}")
    values = np.asarray(values, dtype=float)
    if len(values) == 0:
        return values.copy()
    width = min(width, len(values))
    head = np.cumsum(values[: width - 1]) / np.arange(1, width)
    windows = np.lib.stride_tricks.sliding_window_view(values, width)
    return np.concatenate([head, windows.mean(axis=1)])


def suboptimality(loss: np.ndarray, optimum: np.ndarray) -> np.ndarray:
    """Loss above the optimum, shape (num_seeds, num_steps); what is not finite becomes +inf.

    Args:
        loss: shape (num_seeds, num_steps).
        optimum: the least loss of each seed's instance, shape (num_seeds,).
    """
    loss = np.asarray(loss, dtype=float)
    optimum = np.asarray(optimum, dtype=float)
    return np.where(np.isfinite(loss), loss, np.inf) - optimum[:, None]


def steps_to_target(
    steps: np.ndarray, values: np.ndarray, target: float, direction: str = "min"
) -> float:
    """First step at which a metric reaches its target; inf if it never does.

    Args:
        steps: increasing, shape (num_points,).
        values: the metric there, shape (num_points,); nan reaches nothing.
        target: reached from above ("min") or from below ("max"), itself included.
        direction: "min" where less is better, "max" where more is.
    Raises:
        ValueError: if direction is neither.
    """
    if direction not in ("min", "max"):
        raise ValueError(f"direction must be min or max, got {direction!r}")
    values = np.asarray(values, dtype=float)
    reached = values <= target if direction == "min" else values >= target
    return float(np.asarray(steps)[np.argmax(reached)]) if reached.any() else math.inf


def thinned(num_points: int, limit: int = 400) -> np.ndarray:
    """Indices that keep the shape of a curve: half evenly, half geometrically spaced.

    Returns:
        Increasing indices into `num_points` points, at most `limit`, first and last included.
    Raises:
        ValueError: if limit < 2.
    """
    if limit < 2:
        raise ValueError(f"limit must be >= 2, got {limit}")
    if num_points <= limit:
        return np.arange(num_points)
    even = np.linspace(0, num_points - 1, limit - limit // 2)
    geometric = np.geomspace(1, num_points, limit // 2) - 1
    return np.unique(np.rint(np.concatenate([even, geometric])).astype(int))
