"""Declared samples: the sequence by hand, its range and its spread."""

import itertools
import math

import pytest

from runners.sampling import log_uniform, van_der_corput


def test_the_sequence_is_that_of_the_books():
    # Digits mirrored at the point, from 1 on [Halton 1960].
    assert [van_der_corput(i, 2) for i in range(7)] == [
        1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8,
    ]  # fmt: skip
    # Thirds are no binary fractions: a few roundings.
    expected = [1 / 3, 2 / 3, 1 / 9, 4 / 9, 7 / 9]
    assert [van_der_corput(i, 3) for i in range(5)] == pytest.approx(expected, rel=1e-15)


def test_values_are_spread_over_the_logarithm():
    values = [log_uniform(1e-4, 1.0, i) for i in range(4)]
    assert values == [1e-2, 1e-3, 1e-1, 3.16e-4]
    many = sorted(log_uniform(1e-4, 1.0, i) for i in range(63))
    assert len(set(many)) == 63
    assert many[0] > 1e-4 and many[-1] < 1.0
    logs = [math.log10(value) for value in many]
    # 63 points of base 2 lie on a grid of 64 cells, 1/16 of a decade each; rounded to three digits.
    gaps = [b - a for a, b in itertools.pairwise(logs)]
    assert max(gaps) < 1 / 16 + 0.005 and min(gaps) > 1 / 16 - 0.005


def test_a_longer_sample_extends_a_shorter_one_and_bases_differ():
    assert log_uniform(1, 10, 7) == log_uniform(
        "1", "10", "7", "2"
    )  # as a configuration gives them
    assert log_uniform(1, 10, 7, 3) != log_uniform(1, 10, 7, 2)


@pytest.mark.parametrize("low, high", [(0, 1), (-1, 1), (1, 1), (2, 1)])
def test_a_range_must_be_one(low, high):
    with pytest.raises(ValueError, match="log_uniform needs 0 < low < high, got"):
        log_uniform(low, high, 0)
