"""The power of a paired comparison, where scipy's far tails are no numbers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from analysis import measures


@pytest.mark.parametrize("num_seeds", [2, 3, 6, 9, 19, 22])
@pytest.mark.parametrize("effect", [2.0, 4.9, 7.0, 20.0])
def test_a_large_effect_has_a_power(effect, num_seeds):
    assert 0.05 < measures.power(effect, num_seeds) <= 1.0


def test_power_grows_with_the_seeds():
    powers = [measures.power(2.0, num_seeds) for num_seeds in range(2, 60)]
    assert not any(map(math.isnan, powers))
    # Equal from where it is 1 within round-off.
    assert all(after >= before - 1e-12 for before, after in itertools.pairwise(powers))


def test_a_clear_difference_needs_few_seeds():
    differences = np.array([0.0189, 0.016, 0.021, 0.02, 0.017])  # mean / s.d. about 9
    assert measures.seeds_needed(differences) <= 5
    assert measures.more_seeds(differences) == 0
