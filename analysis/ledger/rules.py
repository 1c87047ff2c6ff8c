"""Rules that decide a claim from one number a seed; pure functions on arrays.

Every one returns a Finding: a verdict, and the number behind it with a 95 % bootstrap interval over
the seeds. A quantity's diverged runs enter as the worst there is (inf, or -inf where more is
better), so that they are never left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis import measures
from analysis.ledger.samples import NotTested

REPRODUCED, PARTLY, NOT_REPRODUCED = "reproduced", "partly", "not reproduced"
NOT_TESTED = "not tested"
VERDICTS = (REPRODUCED, PARTLY, NOT_REPRODUCED, NOT_TESTED)


@dataclass(frozen=True)
class Finding:
    """What a rule found.

    Attributes:
        verdict: one of `VERDICTS`.
        what: what `center` is: "difference", "ratio", "largest error", ...
        center, low, high: our number and its interval; nan where a rule has none.
        n: seeds, or cases.
        detail: the rest of the evidence, in words.
        strong: whether the interval lies wholly on the other side of the claim.
    """

    verdict: str
    what: str
    center: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    detail: str = ""
    strong: bool = False


def _finding(verdict: str, what: str, interval, n: int, detail: str = "", strong=False) -> Finding:
    center, low, high = (float(value) for value in interval)
    return Finding(verdict, what, center, low, high, n, detail, bool(strong))


def difference(a: np.ndarray, b: np.ndarray, direction: str) -> measures.Interval:
    """Mean over seeds of how much better `a` is than `b`, with its interval.

    Where some runs of both have diverged the mean is not defined, and the median stands for it.
    """
    if direction == "max":
        a, b = -a, -b
    interval = measures.paired_difference(a, b)
    if np.isnan(interval.center).any():
        interval = measures.paired_difference(a, b, statistic="median")
    return interval


# ---------------------------------------------------------------- comparisons


def better(a: np.ndarray, b: np.ndarray, direction: str = "min") -> Finding:
    """`a` is better than `b`: the interval of the paired difference lies wholly above 0.

    partly: only its mean does. Ties count as not better.
    """
    interval = difference(a, b, direction)
    mean, low, high = (float(value) for value in interval)
    verdict = REPRODUCED if low > 0 and mean > 0 else PARTLY if mean > 0 else NOT_REPRODUCED
    detail = f"{_typical(a)} against {_typical(b)}"
    return _finding(verdict, "difference", interval, len(a), detail, strong=high < 0)


def equal(a: np.ndarray, b: np.ndarray, margin: float) -> Finding:
    """`a` equals `b` to within a margin: the interval of the paired difference lies within it.

    partly: they overlap.
    """
    interval = difference(a, b, "min")
    _, low, high = (float(value) for value in interval)
    if -margin <= low and high <= margin:
        verdict = REPRODUCED
    elif high < -margin or low > margin or math.isnan(low):
        verdict = NOT_REPRODUCED
    else:
        verdict = PARTLY
    detail = f"margin {margin:.3g}; {_typical(a)} against {_typical(b)}"
    strong = verdict == NOT_REPRODUCED
    return _finding(verdict, "difference", interval, len(a), detail, strong)


def ratio(
    a: np.ndarray,
    b: np.ndarray,
    at_most: float | None = None,
    at_least: float | None = None,
    partly: float | None = None,
) -> Finding:
    """The ratio of medians keeps a bound: the end of its paired interval that faces the bound does.

    partly: that end keeps the looser bound `partly`; without one, the ratio itself keeps the bound.
    Numbers that are inf are targets not reached. A resample in which neither is reached counts
    against the claim.

    Raises:
        NotTested: if neither median is reached, so that there is no ratio.
    """
    upper = at_most is not None
    with np.errstate(invalid="ignore", divide="ignore"):
        center = float(np.median(a) / np.median(b))
        index = measures.resampled_seeds(len(a))
        resampled = np.median(a[index], axis=1) / np.median(b[index], axis=1)
    detail = f"medians {np.median(a):.4g} and {np.median(b):.4g}"
    if math.isnan(center):
        raise NotTested(f"neither side reaches its target within the budget ({detail})")
    resampled = np.sort(np.where(np.isnan(resampled), np.inf if upper else -np.inf, resampled))
    last = len(resampled) - 1
    low, high = resampled[math.floor(0.025 * last)], resampled[last - math.floor(0.025 * last)]
    return _bounded("ratio", (center, low, high), len(a), detail, at_most, at_least, partly)


def mean(
    a: np.ndarray,
    at_most: float | None = None,
    at_least: float | None = None,
    partly: float | None = None,
    near: float | None = None,
    tolerance: float = 0.0,
    what: str = "mean",
) -> Finding:
    """The mean over seeds keeps a bound, or is near a number, with its interval; see `ratio`.

    near: the interval overlaps `near` ± `tolerance`.
    """
    interval = measures.bootstrap_interval(a, "mean")
    if near is not None:
        return close(a, near, tolerance, what=what)
    return _bounded(what, interval, len(a), "", at_most, at_least, partly)


def _bounded(what, interval, n, detail, at_most, at_least, partly) -> Finding:
    center, low, high = (float(value) for value in interval)
    sign, bound = (1, at_most) if at_most is not None else (-1, at_least)
    end, other = (high, low) if sign == 1 else (low, high)

    def keeps(value: float, limit: float) -> bool:
        return sign * value <= sign * limit

    if keeps(end, bound):
        verdict = REPRODUCED
    elif keeps(end, partly) if partly is not None else keeps(center, bound):
        verdict = PARTLY
    else:
        verdict = NOT_REPRODUCED
    strong = verdict == NOT_REPRODUCED and not keeps(other, bound)
    words = f"{'at most' if sign == 1 else 'at least'} {bound:.4g}"
    return _finding(verdict, what, interval, n, "; ".join(filter(None, [words, detail])), strong)


def close(
    a: np.ndarray,
    value: float,
    tolerance: float,
    side_of: float | None = None,
    what: str = "mean",
) -> Finding:
    """Our interval overlaps `value` ± `tolerance`.

    partly: it does not, but lies wholly on the same side of `side_of` (1 for a ratio) as `value`.
    """
    interval = measures.bootstrap_interval(a, "mean")
    _, low, high = (float(bound) for bound in interval)
    if low <= value + tolerance and high >= value - tolerance:
        verdict = REPRODUCED
    elif side_of is not None and (high < side_of if value < side_of else low > side_of):
        verdict = PARTLY
    else:
        verdict = NOT_REPRODUCED
    detail = f"{value:.4g} ± {tolerance:.3g} asked for"
    return _finding(verdict, what, interval, len(a), detail, verdict == NOT_REPRODUCED)


def positive(a: np.ndarray) -> Finding:
    """The mean over seeds is positive: its interval lies wholly above 0. partly: the mean does."""
    interval = measures.bootstrap_interval(a, "mean")
    center, low, high = (float(value) for value in interval)
    verdict = REPRODUCED if low > 0 and center > 0 else PARTLY if center > 0 else NOT_REPRODUCED
    return _finding(verdict, "mean", interval, len(a), strong=high < 0)


# ---------------------------------------------------------------- values, each by itself


def bound(
    a: np.ndarray,
    at_most: float | None = None,
    at_least: float | None = None,
    partly: float | None = None,
    share: float = 1.0,
) -> Finding:
    """The stated share of the values lies within the bounds.

    partly: that share keeps the looser bound `partly`, which goes with exactly one bound.
    """
    inside = _inside(a, at_most, at_least)
    count = int(inside.sum())
    verdict = REPRODUCED if _reaches(inside, share) else NOT_REPRODUCED
    if verdict == NOT_REPRODUCED and partly is not None:
        loose = _inside(
            a, partly if at_least is None else None, partly if at_most is None else None
        )
        verdict = PARTLY if _reaches(loose, share) else NOT_REPRODUCED
    words = " and ".join(
        f"{word} {limit:.4g}"
        for word, limit in (("at least", at_least), ("at most", at_most))
        if limit is not None
    )
    wanted = "" if share == 1 else f" ({share:.0%} asked for)"
    detail = f"{count} of {len(a)} {words}{wanted}; from {np.min(a):.4g} to {np.max(a):.4g}"
    if len(a) > 1 and share == 1 and (at_most is None) != (at_least is None):
        # The value that decides: the one nearest to the bound or furthest beyond it.
        decides = np.max(a) if at_least is None else np.min(a)
        what = "largest" if at_least is None else "least"
        return Finding(verdict, what, float(decides), n=len(a), detail=detail)
    return _finding(verdict, "median", measures.bootstrap_interval(a), len(a), detail)


def _reaches(inside: np.ndarray, share: float) -> bool:
    # A share is a ratio of counts: 9 of 10 reaches .9 whatever the last bit of the quotient.
    return inside.mean() >= share - 1e-12


def _inside(a: np.ndarray, at_most: float | None, at_least: float | None) -> np.ndarray:
    inside = ~np.isnan(a)
    if at_most is not None:
        inside &= a <= at_most
    if at_least is not None:
        inside &= a >= at_least
    return inside


def identity(a: np.ndarray, tolerance: float = 1e-9) -> Finding:
    """The largest absolute value, an error, is at most the tolerance."""
    worst = float(np.max(np.where(np.isnan(a), np.inf, np.abs(a))))
    verdict = REPRODUCED if worst <= tolerance else NOT_REPRODUCED
    detail = f"tolerance {tolerance:.3g}; median {np.median(np.abs(a)):.3g}"
    return Finding(verdict, "largest error", worst, n=len(a), detail=detail)


def count(a: np.ndarray, equals: float, relative: float = 0.0) -> Finding:
    """Every value equals a number, up to a relative difference."""
    off = np.abs(a - equals)
    fits = off <= relative * abs(equals)
    verdict = REPRODUCED if fits.all() else NOT_REPRODUCED
    shown = float(a[int(np.argmax(np.where(np.isnan(off), np.inf, off)))])
    detail = f"{equals:.10g} claimed" + (f", within {relative:.3g}" if relative else "")
    return Finding(verdict, "count", shown, n=len(a), detail=detail)


# ---------------------------------------------------------------- several groups


def same_order(groups: Sequence[np.ndarray], tau: float = 1.0, partly: float = 0.6) -> Finding:
    """The methods' means rank alike under every setting.

    Args:
        groups: one array a setting, shape (num_methods,), the methods in one order.
        tau: least Kendall correlation of a setting's ranking with the first one's.
        partly: the same for a verdict of partly.
    """
    from scipy.stats import kendalltau

    found = [float(kendalltau(groups[0], group).statistic) for group in groups[1:]]
    least = min(-1.0 if math.isnan(value) else value for value in found)
    verdict = REPRODUCED if least >= tau - 1e-12 else PARTLY if least >= partly else NOT_REPRODUCED
    detail = "Kendall correlations " + ", ".join(f"{value:.2f}" for value in found)
    return Finding(verdict, "least correlation", least, n=len(groups), detail=detail)


def correlation(a: np.ndarray, b: np.ndarray, at_least_pairs: int = 6) -> Finding:
    """Two numbers a task rise together: the interval of Spearman's correlation lies above 0.

    The interval is over resampled tasks. Fewer than `at_least_pairs` tasks are partly at best.
    """
    from scipy.stats import rankdata

    def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        ranks = [rankdata(v, axis=-1) for v in (x, y)]
        ranks = [r - r.mean(axis=-1, keepdims=True) for r in ranks]
        scale = np.sqrt((ranks[0] ** 2).sum(-1) * (ranks[1] ** 2).sum(-1))
        with np.errstate(invalid="ignore"):
            return (ranks[0] * ranks[1]).sum(-1) / scale

    if len(a) < 3:
        raise NotTested(f"a correlation needs 3 tasks or more, got {len(a)}")
    center = float(spearman(a, b))
    index = measures.resampled_seeds(len(a))
    resampled = spearman(a[index], b[index])
    resampled = np.sort(resampled[~np.isnan(resampled)])
    last = len(resampled) - 1
    low, high = resampled[math.floor(0.025 * last)], resampled[last - math.floor(0.025 * last)]
    verdict = REPRODUCED if low > 0 else PARTLY if center > 0 else NOT_REPRODUCED
    if verdict == REPRODUCED and len(a) < at_least_pairs:
        verdict = PARTLY
    detail = f"{len(a)} tasks, {at_least_pairs} asked for"
    return _finding(
        verdict, "Spearman's correlation", (center, low, high), len(a), detail, high < 0
    )


def throughout(
    a: np.ndarray,
    b: np.ndarray,
    direction: str = "min",
    share: float = 0.9,
    partly: float = 0.5,
    margins: np.ndarray | None = None,
) -> Finding:
    """`a` is better than `b` (or equal, where margins are given) at a share of an axis' points.

    Args:
        a, b: shape (num_seeds, num_points).
        share, partly: least shares of the points for the verdicts.
        margins: of `equal`, shape (num_points,); None for `better`.
    """
    points = range(a.shape[1])
    if margins is None:
        held = [better(a[:, i], b[:, i], direction).verdict == REPRODUCED for i in points]
    else:
        held = [equal(a[:, i], b[:, i], float(margins[i])).verdict == REPRODUCED for i in points]
    found = float(np.mean(held))
    verdict = REPRODUCED if found >= share - 1e-12 else PARTLY
    if found < partly - 1e-12:
        verdict = NOT_REPRODUCED
    word = "better" if margins is None else "equal"
    with np.errstate(invalid="ignore"):
        overall = difference(a.mean(axis=1), b.mean(axis=1), direction)
    detail = f"{word} at {sum(held)} of {len(held)} points ({share:.0%} asked for)"
    if math.isfinite(float(overall.center)):
        detail += f"; mean difference {float(overall.center):.3g}"
    return Finding(verdict, "share of the axis", found, n=len(a), detail=detail)


def _typical(values: np.ndarray) -> str:
    return f"{float(np.mean(values)):.4g}"
