"""How large a difference between two methods is, and how many seeds would settle it."""

from __future__ import annotations

import math

import numpy as np

MOST_SEEDS = 10_000


def paired_effect(differences: np.ndarray) -> float:
    """Cohen's d of paired differences with Hedges' correction for few seeds [Hedges 1981].

    d = J(n - 1) mean / s.d., J(m) = Γ(m/2) / (√(m/2) Γ((m - 1)/2)), which makes d unbiased.

    Args:
        differences: shape (num_seeds,), as of `worse - better`: above 0 is better.
    Returns:
        nan for fewer than two seeds or a difference that is not finite; without any spread inf of
        the mean's sign, or 0.
    """
    differences = np.asarray(differences, dtype=float)
    freedom = len(differences) - 1
    if freedom < 1 or not np.isfinite(differences).all():
        return math.nan
    mean, spread = differences.mean(), differences.std(ddof=1)
    if spread == 0:
        return math.copysign(math.inf, mean) if mean else 0.0
    if freedom == 1:
        return 0.0  # J(1) = 0: of two seeds nothing unbiased can be said
    log_gamma = math.lgamma(freedom / 2) - math.lgamma((freedom - 1) / 2)
    return float(math.exp(log_gamma) / math.sqrt(freedom / 2) * mean / spread)


def cliffs_delta(better: np.ndarray, worse: np.ndarray) -> float:
    """P(better < worse) - P(better > worse) over all pairs of runs [Cliff 1993].

    Args:
        better, worse: a metric where less is better; shapes (num,) and (other_num,); a diverged
            run is inf.
    Returns:
        Between -1 and 1; 1: every run of `better` is below every run of `worse`.
    Raises:
        ValueError: if either is empty.
    """
    better, worse = np.asarray(better, dtype=float), np.asarray(worse, dtype=float)
    if not len(better) or not len(worse):
        raise ValueError(f"both must have runs, got {len(better)} and {len(worse)}")
    less = better[:, None] < worse
    more = better[:, None] > worse
    return float(less.mean() - more.mean())


def probability_of_superiority(better: np.ndarray, worse: np.ndarray) -> float:
    """Chance that a run of `better` ends below one of `worse`, ties counted half.

    Args and errors as for `cliffs_delta`, of which it is (1 + delta) / 2.
    """
    return (1 + cliffs_delta(better, worse)) / 2


def power(effect: float, num_seeds: int, level: float = 0.95) -> float:
    """Chance that a two-sided paired t test finds a difference of the given size.

    Args:
        effect: mean / s.d. of the paired differences.
        num_seeds: pairs, >= 2.
        level: 1 - the test's size.
    """
    from scipy import stats

    freedom = num_seeds - 1
    critical = stats.t.ppf((1 + level) / 2, freedom)
    shift = effect * math.sqrt(num_seeds)
    above = stats.nct.sf(critical, freedom, shift)
    below = stats.nct.cdf(-critical, freedom, shift)
    # scipy gives nan for the far tail of some large shifts, where it is below 1e-15.
    return float(above + (0.0 if math.isnan(below) else below))


def seeds_needed(differences: np.ndarray, aim: float = 0.8, level: float = 0.95) -> float:
    """Pairs of runs with which the difference seen would be found with the chance `aim`.

    From the mean and the s.d. of the differences at hand, taken for the truth; with few seeds it
    is an order of magnitude rather than a number.

    Args:
        differences: shape (num_seeds,).
        aim: the power to reach, in (0, 1).
        level: 1 - the size of the two-sided paired t test.
    Returns:
        A whole number >= 2; inf beyond `MOST_SEEDS`; nan for fewer than two finite differences.
    """
    differences = np.asarray(differences, dtype=float)
    if len(differences) < 2 or not np.isfinite(differences).all():
        return math.nan
    mean, spread = abs(differences.mean()), differences.std(ddof=1)
    if spread == 0:
        return 2.0 if mean else math.inf
    effect = mean / spread
    low, high = 2, MOST_SEEDS
    if power(effect, high, level) < aim:
        return math.inf
    while low < high:  # the power grows with the number of seeds
        middle = (low + high) // 2
        if power(effect, middle, level) >= aim:
            high = middle
        else:
            low = middle + 1
    return float(low)


def more_seeds(differences: np.ndarray, aim: float = 0.8, level: float = 0.95) -> float:
    """Pairs of runs that are missing to `seeds_needed`; 0 if there are enough."""
    return float(np.maximum(0.0, seeds_needed(differences, aim, level) - len(differences)))
