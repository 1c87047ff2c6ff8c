"""Generators for whatever a task draws, each from a key of its own."""

from __future__ import annotations

import numpy as np
import torch


def seeded(*key: int) -> torch.Generator:
    """Make the CPU generator of a key, such as (seed, epoch, step).

    Different keys give unrelated streams, and the same key the same stream on every machine and
    after every interruption.
    """
    mixed = np.random.SeedSequence(key).generate_state(1, np.uint32)[0]
    return torch.Generator().manual_seed(int(mixed))
