"""Rules on values each by itself: bounds, identities, counts."""

from __future__ import annotations

import numpy as np

from analysis import measures
from analysis.ledger.rules import NOT_REPRODUCED, PARTLY, REPRODUCED, Finding, finding_of


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
    return finding_of(verdict, "median", measures.bootstrap_interval(a), len(a), detail)


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
