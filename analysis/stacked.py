"""One method's runs side by side: arrays of seeds by steps."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd


class Runs(NamedTuple):
    """One method's runs side by side."""

    seeds: list[int]
    steps: np.ndarray  # shape (num_steps,)
    values: np.ndarray  # shape (num_seeds, num_steps); +inf from where a run has diverged


def side_by_side(
    frame: pd.DataFrame, column: str, seeds: Sequence[int], diverged: Collection[int] = ()
) -> Runs:
    """Arrange one method's rows as an array of seeds by steps.

    Args:
        frame: rows with `seed`, `step` and `column`.
        column: what to arrange; its non-finite values become +inf.
        seeds: the seeds to take, in this order.
        diverged: seeds of diverged runs: what they did not live to see is +inf.
    Returns:
        The steps that every run reached that has not diverged, in order.
    """
    steps, values, there = _grid(frame, column, seeds)
    alive = [seed not in diverged for seed in seeds]
    kept = there[alive].all(axis=0)
    values = np.where(np.isfinite(values), values, np.inf)
    return Runs(list(seeds), steps[kept], values[:, kept])


def median_over_seeds(
    frame: pd.DataFrame, column: str, steps: np.ndarray, seeds: Sequence[int]
) -> np.ndarray:
    """Median of a column at each of `steps` over the runs that reached it, shape (num_steps,).

    Args:
        frame: one method's rows with `seed`, `step` and `column`.
        steps: steps of the frame, such as those of `side_by_side`.
        seeds: whose runs.
    """
    every, values, _ = _grid(frame, column, seeds)
    # Ordered with nan last, so that the middle of those that are there can be looked up.
    ordered = np.sort(values[:, np.searchsorted(every, steps)], axis=0)
    count = (~np.isnan(ordered)).sum(axis=0)
    middle = np.maximum(count - 1, 0)
    columns = np.arange(len(steps))
    return (ordered[middle // 2, columns] + ordered[(middle + 1) // 2, columns]) / 2


def _grid(
    frame: pd.DataFrame, column: str, seeds: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All steps, the column as an array of seeds by steps (nan: none), and where there is a row.

    An evaluation may be written twice at the last step: the later row counts.
    """
    place = {seed: index for index, seed in enumerate(seeds)}
    row = frame["seed"].map(place).to_numpy(dtype=float)
    known = ~np.isnan(row)
    every, at = np.unique(frame["step"].to_numpy()[known], return_inverse=True)
    values = np.full((len(seeds), len(every)), np.nan)
    there = np.zeros(values.shape, dtype=bool)
    index = (row[known].astype(int), at)
    values[index] = frame[column].to_numpy(dtype=float)[known]
    there[index] = True
    return every, values, there
