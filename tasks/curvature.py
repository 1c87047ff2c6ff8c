"""What a sample is, and what it weighs, where the loss is a mean over terms of all samples."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from tasks.base import Batch, CurvatureInfo


@contextlib.contextmanager
def equal_weights(batch: Batch, num_terms: int) -> Iterator[CurvatureInfo]:
    """Context of a pass whose loss is the sum of the samples' losses, divided by num_terms.

    Args:
        batch: its samples lie along the first dimension, its targets are on the model's device.
        num_terms: images, or the symbols of all sequences together, padding apart.
    """
    weights = torch.full((batch.num_samples,), 1 / num_terms, device=batch.targets.device)
    yield CurvatureInfo(batch.num_samples, 0, weights)
