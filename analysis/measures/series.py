"""Curves over the steps of a run: smoothed, thinned, summed up."""

from __future__ import annotations

import numpy as np


def median_filter(values: np.ndarray, width: int) -> np.ndarray:
    """Median over a centred window in time, shape (num_times,); narrower towards the ends.

    Missing values (nan) are passed over; a window without any value gives nan.

    Raises:
        ValueError: if width is not an odd number >= 1.
    """
    if width < 1 or width % 2 == 0:
        raise ValueError(f"width must be odd and >= 1, got {width}")
    values = np.asarray(values, dtype=float)
    half = width // 2
    filtered = np.full(len(values), np.nan)
    for index in range(len(values)):
        near = values[max(0, index - half) : index + half + 1]
        near = near[~np.isnan(near)]
        if len(near):
            filtered[index] = np.median(near)
    return filtered


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """Mean over the last `width` steps, shape (num_steps,); over fewer at the start.

    Looks only backwards: a point never knows of a later step. A non-finite value reaches no
    further than `width` steps.

    Raises:
        ValueError: if width < 1.
    """
    if width < 1:
        raise ValueError(f"width must be >= 1, got {width}")
    values = np.asarray(values, dtype=float)
    if len(values) == 0:
        return values.copy()
    width = min(width, len(values))
    head = np.cumsum(values[: width - 1]) / np.arange(1, width)
    windows = np.lib.stride_tricks.sliding_window_view(values, width)
    return np.concatenate([head, windows.mean(axis=1)])


def suboptimality(loss: np.ndarray, optimum: np.ndarray) -> np.ndarray:
    """Loss above the optimum, shape (num_seeds, num_steps); what is not finite becomes +inf.

    Args:
        loss: shape (num_seeds, num_steps).
        optimum: the least loss of each seed's instance, shape (num_seeds,).
    """
    loss = np.asarray(loss, dtype=float)
    optimum = np.asarray(optimum, dtype=float)
    return np.where(np.isfinite(loss), loss, np.inf) - optimum[:, None]


def thinned(num_points: int, limit: int = 400) -> np.ndarray:
    """Indices that keep the shape of a curve: half evenly, half geometrically spaced.

    Returns:
        Increasing indices into `num_points` points, at most `limit`, first and last included.
    Raises:
        ValueError: if limit < 2.
    """
    if limit < 2:
        raise ValueError(f"limit must be >= 2, got {limit}")
    if num_points <= limit:
        return np.arange(num_points)
    even = np.linspace(0, num_points - 1, limit - limit // 2)
    geometric = np.geomspace(1, num_points, limit // 2) - 1
    return np.unique(np.rint(np.concatenate([even, geometric])).astype(int))


def area_under_curve(steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean level of a curve between its first and its last step, by the trapezoidal rule.

    Args:
        steps: increasing, shape (num_points,), of any unit: steps, epochs or seconds.
        values: shape (..., num_points); a curve that diverges has the level inf.
    Returns:
        Shape (...); one point: its value.
    Raises:
        ValueError: if the numbers of points differ or there is none.
    """
    steps, values = np.asarray(steps, dtype=float), np.asarray(values, dtype=float)
    if len(steps) == 0 or values.shape[-1:] != steps.shape:
        raise ValueError(f"values must have {len(steps)} >= 1 points, got shape {values.shape}")
    if len(steps) == 1:
        return values[..., 0]
    widths = np.diff(steps)
    return (widths * (values[..., 1:] + values[..., :-1]) / 2).sum(axis=-1) / widths.sum()
