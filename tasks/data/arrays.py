"""Checked loading of prepared arrays: images and their labels."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from tasks.data.store import DataError


def load_images(
    folder: Path, split: str, image_shape: tuple[int, ...], num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Load `{split}_images.npy` and `{split}_labels.npy` of a prepared folder.

    Args:
        image_shape: of one image, for example (32, 32, 3).
        num_classes: labels must be 0 to num_classes - 1.
    Returns:
        Images, shape (n, *image_shape), and labels, shape (n,), both uint8, in memory.
    Raises:
        DataError: if a file is missing, damaged, empty or holds something else.
    """
    images = load_array(folder / f"{split}_images.npy", np.uint8, image_shape)
    path = folder / f"{split}_labels.npy"
    labels = load_array(path, np.uint8, ())
    if len(labels) != len(images):
        raise DataError(f"{path} must hold {len(images)} labels, one an image, got {len(labels)}")
    wrong = labels >= num_classes
    if wrong.any():
        index = int(wrong.argmax())
        raise DataError(
            f"{path} must hold labels 0 to {num_classes - 1}, got {labels[index]} at index {index}"
        )
    return images, labels


def load_array(
    path: Path,
    dtype: type[np.generic],
    row_shape: tuple[int, ...],
    mmap_mode: Literal["c"] | None = None,
) -> np.ndarray:
    """Load an array of shape (n, *row_shape) with n >= 1; no pickle is read.

    Args:
        mmap_mode: "c": it stays on disk, and what is written to it goes to a private copy.
    Raises:
        DataError: if the file is missing, damaged, empty or holds something else.
    """
    try:
        array = np.load(path, allow_pickle=False, mmap_mode=mmap_mode)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing") from error
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is no whole .npy file of numbers") from error
    expected = f"{np.dtype(dtype)} of shape {_text(('n', *row_shape))}"
    if not isinstance(array, np.ndarray):  # an archive of several arrays
        array.close()
        raise DataError(f"{path} must hold one array, {expected}")
    if array.dtype != dtype or array.ndim == 0 or array.shape[1:] != row_shape:
        raise DataError(f"{path} must hold {expected}, got {array.dtype} of {_text(array.shape)}")
    if len(array) == 0:
        raise DataError(f"{path} is empty: it must hold at least one row")
    return array


def _text(shape: tuple[object, ...]) -> str:
    return f"({', '.join(map(str, shape))})"
