"""How well scores tell two classes apart."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def area_under_roc(scores: Tensor, labels: Tensor) -> float:
    """Probability that a positive sample has a higher score than a negative one; ties count half.

    Equation: (sum of the positives' ranks - P (P + 1) / 2) / (P N), equal scores with the mean of
    their ranks [Mann and Whitney 1947].

    Args:
        scores: shape (n,).
        labels: 1 for a positive sample, else 0, shape (n,).
    Returns:
        The area; nan where a score is nan or one class is missing.
    """
    positive = labels.bool()
    num_positive = int(positive.sum())
    num_negative = len(labels) - num_positive
    if num_positive == 0 or num_negative == 0 or bool(scores.isnan().any()):
        return math.nan
    _, where, counts = torch.unique(scores, return_inverse=True, return_counts=True)
    # Ranks a + 1 to a + c have the mean a + (c + 1) / 2; twice it is a whole number.
    twice = 2 * (counts.cumsum(0) - counts) + counts + 1
    total = int(twice[where[positive]].sum()) / 2
    return (total - num_positive * (num_positive + 1) / 2) / (num_positive * num_negative)
