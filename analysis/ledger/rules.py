"""Rules that decide a claim from the mean or the median of one number a seed; pure functions.

Every one returns a Finding: a verdict, and the number behind it with a 95 % bootstrap interval over
the seeds. A quantity's diverged runs enter as the worst there is (inf, or -inf where more is
better), so that they are never left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis import measures
from analysis.ledger.limits import limits_of
from analysis.ledger.samples import NotTested

REPRODUCED, PARTLY, NOT_REPRODUCED = "reproduced", "partly", "not reproduced"
NOT_TESTED = "not tested"
VERDICTS = (REPRODUCED, PARTLY, NOT_REPRODUCED, NOT_TESTED)


@dataclass(frozen=True)
class Finding:
    """What a rule found.

    Attributes:
        verdict: one of `VERDICTS`.
        what: what `center` is: "difference", "ratio", "largest error", or "of 3 parts hold".
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

    @property
    def text(self) -> str:
        """The number with its interval, in words."""
        return shown(self.what, self.center, self.low, self.high)


def shown(what: str, center: float, low: float, high: float) -> str:
    """A number with its interval, in words; only `what` where there is no number."""
    if math.isnan(center):
        return what
    text = f"{_digits(center)} {what}" if what.startswith("of ") else f"{what} {_digits(center)}"
    if math.isnan(low) or low == high == center:
        return text
    return f"{text} [{_digits(low)}, {_digits(high)}]"


def _digits(value: float) -> str:
    # Counts are exact, everything else is told to three digits.
    whole = float(value).is_integer() and abs(value) < 1e9
    return f"{value:,.0f}" if whole else f"{value:.3g}"


def finding_of(
    verdict: str, what: str, interval, n: int, detail: str = "", strong=False
) -> Finding:
    """A finding whose number comes with an interval."""
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
    return finding_of(verdict, "difference", interval, len(a), detail, strong=high < 0)


def equal(a: np.ndarray, b: np.ndarray, margin: float) -> Finding:
    """`a` equals `b` to within a margin: the interval of the paired difference lies within it.

    partly: they overlap. Where runs of one side alone diverged, the two are not equal.

    Raises:
        NotTested: if runs of both sides diverged, or the margin is not finite.
    """
    finite = [bool(np.isfinite(side).all()) for side in (a, b)]
    if not any(finite):
        raise NotTested("runs of both sides diverged, so that there is nothing to be equal")
    if all(finite) and not math.isfinite(margin):
        raise NotTested("the margin is not finite: a run that it is taken from diverged")
    interval = difference(a, b, "min")
    _, low, high = (float(value) for value in interval)
    if all(finite) and -margin <= low and high <= margin:
        verdict = REPRODUCED
    elif not all(finite) or high < -margin or low > margin:
        verdict = NOT_REPRODUCED
    else:
        verdict = PARTLY
    detail = f"margin {margin:.3g}; {_typical(a)} against {_typical(b)}"
    strong = verdict == NOT_REPRODUCED
    return finding_of(verdict, "difference", interval, len(a), detail, strong)


def not_better(a: np.ndarray, b: np.ndarray, direction: str = "min") -> Finding:
    """`a` is not ahead of `b`: the interval of the paired difference contains 0, or lies below it.

    There is no partly. Few seeds make the interval wide and the rule easy to keep, which is why the
    claims use it only beside a rule that the same seeds can fail.

    Raises:
        NotTested: if the difference is not defined because all runs of both diverged.
    """
    found = better(a, b, direction)
    if not (np.isfinite(a) | np.isfinite(b)).any():
        raise NotTested("all runs of both diverged, so that neither is ahead")
    verdict = NOT_REPRODUCED if found.verdict == REPRODUCED else REPRODUCED
    return replace(found, verdict=verdict, strong=verdict == NOT_REPRODUCED)


def ratio(a: np.ndarray, b: np.ndarray, partly: float | None = None, **bounds: float) -> Finding:
    """The ratio of medians keeps a bound: the end of its paired interval that faces the bound does.

    partly: that end keeps the looser bound `partly`; without one, the ratio itself keeps the bound.
    Numbers that are inf are targets not reached; resamples in which neither side reaches it only
    widen the interval.

    Args:
        bounds: one of `limits.KINDS`.
    Raises:
        NotTested: if neither median is reached, so that there is no ratio.
    """
    interval = measures.ratio_of_medians(a, b)
    detail = f"medians {np.median(a):.4g} and {np.median(b):.4g}"
    if math.isnan(float(interval.center)):
        raise NotTested(f"neither side reaches its target within the budget ({detail})")
    return _bounded("ratio", interval, len(a), detail, partly, bounds)


def mean(
    a: np.ndarray,
    partly: float | None = None,
    near: float | None = None,
    tolerance: float = 0.0,
    what: str = "mean",
    **bounds: float,
) -> Finding:
    """The mean over seeds keeps a bound, or is near a number, with its interval; see `ratio`.

    near: the interval overlaps `near` ± `tolerance`.
    """
    if near is not None:
        return close(a, near, tolerance, what=what)
    return _bounded(what, measures.bootstrap_interval(a, "mean"), len(a), "", partly, bounds)


def _bounded(what, interval, n, detail, partly, bounds) -> Finding:
    center, low, high = (float(value) for value in interval)
    (limit,) = limits_of(bounds)
    end, other = (high, low) if limit.upper else (low, high)
    if limit.keeps(end):
        verdict = REPRODUCED
    elif limit.moved_to(partly).keeps(end) if partly is not None else limit.keeps(center):
        verdict = PARTLY
    else:
        verdict = NOT_REPRODUCED
    strong = verdict == NOT_REPRODUCED and not limit.keeps(other)
    words = "; ".join(filter(None, [str(limit), detail]))
    return finding_of(verdict, what, interval, n, words, strong)


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
    return finding_of(verdict, what, interval, len(a), detail, verdict == NOT_REPRODUCED)


def positive(a: np.ndarray) -> Finding:
    """The mean over seeds is positive: its interval lies wholly above 0. partly: the mean does."""
    interval = measures.bootstrap_interval(a, "mean")
    center, low, high = (float(value) for value in interval)
    verdict = REPRODUCED if low > 0 and center > 0 else PARTLY if center > 0 else NOT_REPRODUCED
    return finding_of(verdict, "mean", interval, len(a), strong=high < 0)


def _typical(values: np.ndarray) -> str:
    return f"{float(np.mean(values)):.4g}"


def joint(found: Sequence[Finding]) -> str:
    """The verdict of several findings together: all, some or none of them hold."""
    verdicts = {finding.verdict for finding in found}
    if verdicts == {REPRODUCED}:
        return REPRODUCED
    return PARTLY if verdicts & {REPRODUCED, PARTLY} else NOT_REPRODUCED
