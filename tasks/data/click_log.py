"""A log of what was shown and clicked, with its categories numbered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tasks.data.formats.criteo import ClickRows


@dataclass(frozen=True)
class ClickLog:
    """Rows in the order of time.

    Args:
        labels: 1 for a click, shape (n,), uint8.
        integers: counts, shape (n, num_integers), int32.
        categories: number of each row's category among the `values` of its column, shape
            (n, num_categories), int32.
        values: what occurs in each column, ascending, uint32.
    """

    labels: np.ndarray
    integers: np.ndarray
    categories: np.ndarray
    values: tuple[np.ndarray, ...]


def gather_log(parts: Iterable[ClickRows]) -> ClickLog:
    """Put the rows of a log that fits in memory together, and number their categories."""
    parts = list(parts)
    categories = np.concatenate([part.categories for part in parts])
    numbers = np.empty(categories.shape, dtype=np.int32)
    return ClickLog(
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.integers for part in parts]),
        numbers,
        tuple(number_column(categories[:, j], numbers[:, j]) for j in range(numbers.shape[1])),
    )


def number_column(column: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Write the number of each category among all that occur into `numbers`; returns these.

    DLRM's own preprocessing numbers a category by when it first occurs in the whole file, test
    rows included. Here they are numbered by value, which is the same model with its rows in another
    order.
    """
    values, numbers[:] = np.unique(column, return_inverse=True)
    return values


def day_ends(num_rows: int, num_days: int) -> np.ndarray:
    """Where each of equally many rows' days ends, shape (num_days,); the first ones are longer.

    Criteo's log covers seven days and does not say which row is of which: DLRM's reference code
    takes seven equal parts in the file's order.
    """
    each, more = divmod(num_rows, num_days)
    return np.cumsum([each + (day < more) for day in range(num_days)])
