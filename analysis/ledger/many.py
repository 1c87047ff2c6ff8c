"""Rules on many numbers at once: the points of an axis, rankings, pairs of tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from analysis import measures
from analysis.ledger.rules import (
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    Finding,
    better,
    difference,
    equal,
    finding_of,
    shown,
)
from analysis.ledger.samples import NotTested

MIN_PAIRS = 6  # tasks, for a correlation


def same_order(groups: Sequence[np.ndarray], tau: float = 1.0, partly: float = 0.6) -> Finding:
    """The methods' means rank alike under every setting.

    Args:
        groups: one array a setting, shape (num_methods,), the methods in one order.
        tau: least Kendall correlation of a setting's ranking with the first one's.
        partly: the same for a verdict of partly.
    """
    found = [measures.kendall_tau(groups[0], group) for group in groups[1:]]
    least = min(-1.0 if math.isnan(value) else value for value in found)
    verdict = REPRODUCED if least >= tau - 1e-12 else PARTLY if least >= partly else NOT_REPRODUCED
    detail = "Kendall correlations " + ", ".join(f"{value:.2f}" for value in found)
    return Finding(verdict, "least correlation", least, n=len(groups), detail=detail)


def correlation(a: np.ndarray, b: np.ndarray, at_least_pairs: int = MIN_PAIRS) -> Finding:
    """Two numbers a task rise together: the interval of Spearman's correlation lies above 0.

    The interval is over resampled tasks. Fewer than `at_least_pairs` tasks are partly at best.
    """
    if len(a) < 3:
        raise NotTested(f"a correlation needs 3 tasks or more, got {len(a)}")
    interval = measures.spearman(a, b)
    center, low, high = (float(value) for value in interval)
    verdict = REPRODUCED if low > 0 else PARTLY if center > 0 else NOT_REPRODUCED
    if verdict == REPRODUCED and len(a) < at_least_pairs:
        verdict = PARTLY
    detail = f"{len(a)} tasks, {at_least_pairs} asked for"
    return finding_of(
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
        detail += f"; {shown('mean difference', *map(float, overall))}"
    return Finding(verdict, "share of the axis", found, n=len(a), detail=detail)
