"""Steps and seconds until a target is reached, where some runs never reach it (censored)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


def steps_to_target(
    steps: np.ndarray, values: np.ndarray, target: float, direction: str = "min"
) -> float:
    """First step or second at which a metric reaches its target; inf if it never does.

    Args:
        steps: increasing, shape (num_points,); seconds of training may take their place.
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


class Comparison(NamedTuple):
    """How two methods' times to a target compare; p-values are two-sided."""

    wins: int  # seeds on which the first method was sooner
    losses: int
    sign_test: float  # p of the paired sign test, ties left out; 1 if there are only ties
    log_rank: float  # p of the log-rank test, which is not paired; nan if nothing was reached


def median_time(times: np.ndarray) -> float:
    """Median time to a target over seeds; inf where less than half of the runs reached it.

    Args:
        times: shape (num_seeds,), inf where the target was not reached within a budget that all
            runs share.
    Raises:
        ValueError: if there is no run.
    """
    return float(np.median(_checked(times)))


def restricted_mean(times: np.ndarray, budget: float) -> float:
    """Mean of the time to a target or the budget, whichever is less [Royston & Parmar 2013].

    Unlike the median it is finite whatever share of the runs reached the target.

    Args:
        times: shape (num_seeds,), inf where the target was not reached.
        budget: where the runs ended, in the unit of `times`.
    Raises:
        ValueError: if there is no run.
    """
    return float(np.minimum(_checked(times), budget).mean())


def compare_times(times: np.ndarray, others: np.ndarray, budget: float) -> Comparison:
    """Compare two methods' times to one target on the same seeds.

    Args:
        times, others: shape (num_seeds,), inf where the target was not reached.
        budget: where all runs ended.
    Raises:
        ValueError: if the shapes differ or there is no run.
    """
    from scipy import stats

    times, others = _checked(times), _checked(others)
    if times.shape != others.shape:
        raise ValueError(f"others must have shape {times.shape}, got {others.shape}")
    wins, losses = int((times < others).sum()), int((times > others).sum())
    sign_test = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    log_rank = math.nan
    if np.isfinite(times).any() or np.isfinite(others).any():
        samples = [_censored(values, budget) for values in (times, others)]
        with np.errstate(divide="ignore", invalid="ignore"):
            log_rank = float(stats.logrank(*samples).pvalue)
    return Comparison(wins, losses, float(sign_test), log_rank)


def _censored(times: np.ndarray, budget: float):
    from scipy import stats

    return stats.CensoredData.right_censored(np.minimum(times, budget), np.isinf(times))


def _checked(times: np.ndarray) -> np.ndarray:
    times = np.asarray(times, dtype=float)
    if times.ndim != 1 or len(times) == 0:
        raise ValueError(f"times must be of shape (num_seeds,), got {times.shape}")
    return times
