"""Generators for whatever a task draws, each from a key of its own."""

from __future__ import annotations

import numpy as np
import torch


def seeded(*key: int) -> torch.Generator:
    """Make the CPU generator of a key, such as (seed, epoch, step).

    The same key gives the same stream on every machine and after every interruption. A key is
    mixed into a seed of 32 bits: the streams of two keys are unrelated, or, with a probability of
    2^-32, the same; among n keys one expects n^2 / 2^33 such pairs.
    """
    mixed = np.random.SeedSequence(key).generate_state(1, np.uint32)[0]
    return torch.Generator().manual_seed(int(mixed))
