"""Declared samples of hyperparameters: deterministic, evenly spread, and extendable."""

from __future__ import annotations

import math


def van_der_corput(index: int, base: int) -> float:
    """Element `index` (from 0) of the van der Corput sequence in (0, 1) [Halton 1960]."""
    index += 1  # element 0 of the classical sequence is 0, the edge of every range
    result, scale = 0.0, 1.0
    while index:
        index, digit = divmod(index, base)
        scale /= base
        result += digit * scale
    return result


def log_uniform(low: float, high: float, index: int, base: int = 2) -> float:
    """Trial `index` of a log-uniform sample of [low, high].

    Different prime `base`s for different hyperparameters make a Halton sequence. Rounded to
    three significant digits, so that a value can be quoted and typed.

    Raises:
        ValueError: unless 0 < low < high.
    """
    low, high = float(low), float(high)
    if not 0 < low < high:
        raise ValueError(f"log_uniform needs 0 < low < high, got {low} and {high}")
    exponent = math.log(low) + van_der_corput(int(index), int(base)) * math.log(high / low)
    return float(f"{math.exp(exponent):.3g}")
