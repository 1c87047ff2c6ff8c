"""Rules on values each by itself: bounds, identities, counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis import measures
from analysis.ledger.limits import Limit, limits_of
from analysis.ledger.rules import NOT_REPRODUCED, PARTLY, REPRODUCED, Finding, finding_of


def bound(
    a: np.ndarray, partly: float | None = None, share: float = 1.0, **bounds: float
) -> Finding:
    """The stated share of the values lies within the bounds.

    partly: that share keeps the looser bound `partly`, which goes with exactly one bound.

    Args:
        bounds: one or two of `limits.KINDS`, an upper and a lower one.
    """
    limits = limits_of(bounds)
    inside = _inside(a, limits)
    verdict = REPRODUCED if _reaches(inside, share) else NOT_REPRODUCED
    if verdict == NOT_REPRODUCED and partly is not None:
        loose = _inside(a, [limits[0].moved_to(partly)])
        verdict = PARTLY if _reaches(loose, share) else NOT_REPRODUCED
    wanted = "" if share == 1 else f" ({share:.0%} asked for)"
    words = " and ".join(map(str, limits))
    detail = f"{inside.sum()} of {len(a)} {words}{wanted}; from {np.min(a):.4g} to {np.max(a):.4g}"
    if len(a) > 1 and share == 1 and len(limits) == 1:
        # The value that decides: the one nearest to the bound or furthest beyond it.
        decides, what = (np.max(a), "largest") if limits[0].upper else (np.min(a), "least")
        return Finding(verdict, what, float(decides), n=len(a), detail=detail)
    return finding_of(verdict, "median", measures.bootstrap_interval(a), len(a), detail)


def within(
    parts: Sequence[tuple[str, np.ndarray, Sequence[Limit]]],
    share: float = 1.0,
    partly: float | None = None,
) -> Finding:
    """The stated share of the instances keeps the bounds on all of its quantities together.

    partly: the smaller share `partly` does.

    Args:
        parts: of each quantity its name, its values, shape (num_instances,), in one order of the
            instances, and its bounds.
    """
    kept = [_inside(values, limits) for _, values, limits in parts]
    together = np.logical_and.reduce(kept)
    verdict = REPRODUCED if _reaches(together, share) else NOT_REPRODUCED
    if verdict == NOT_REPRODUCED and partly is not None and _reaches(together, partly):
        verdict = PARTLY
    words = [
        f"{name} {' and '.join(map(str, limits))} in {inside.sum()}, "
        f"from {np.min(values):.4g} to {np.max(values):.4g}"
        for (name, values, limits), inside in zip(parts, kept, strict=True)
    ]
    detail = f"{share:.0%} asked for; " + "; ".join(words)
    what = f"of {len(together)} within the bounds"
    return Finding(verdict, what, int(together.sum()), n=len(together), detail=detail)


def _reaches(inside: np.ndarray, share: float) -> bool:
    # A share is a ratio of counts: 9 of 10 reaches .9 whatever the last bit of the quotient.
    return inside.mean() >= share - 1e-12


def _inside(a: np.ndarray, limits: Sequence[Limit]) -> np.ndarray:
    return np.logical_and.reduce([limit.keeps(a) for limit in limits])


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
