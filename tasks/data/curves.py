"""CURVES [Hinton and Salakhutdinov 2006]: 28 x 28 images of a smooth curve through three points.

The file that is everywhere used, made by R. Salakhutdinov and kept by J. Martens. Nobody has
published a checksum of it, and nothing is fetched that cannot be verified, so its user brings it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tasks.data.download import find_file
from tasks.data.matlab import read_matrix
from tasks.data.store import DataError

FILE = "digs3pts_1.mat"
BRING = f"get https://www.cs.toronto.edu/~jmartens/{FILE}, of which no checksum is published"
KEYS = ("bdata", "bdatatest")  # 20,000 images to train and 10,000 to test, one a row
NUM_PIXELS = 28 * 28
FILES = ("train_images.npy", "test_images.npy")


def prepare(folder: Path, originals: Path | None = None) -> None:
    """Write both splits, float32 in [0, 1], one image a row.

    Args:
        originals: digs3pts_1.mat, or the folder it is in.
    Raises:
        DataError: if the file is not given, or holds something else.
    """
    if originals is None:
        raise DataError(f"CURVES cannot be fetched: {BRING}")
    path = find_file(originals, FILE)
    for key, file in zip(KEYS, FILES, strict=True):
        images = read_matrix(path, key)
        if images.shape[1] != NUM_PIXELS:
            raise DataError(
                f"{key} in {path} must have {NUM_PIXELS} columns, a pixel each, got "
                f"{images.shape[1]}"
            )
        if images.min() < 0 or images.max() > 1:
            raise DataError(
                f"{key} in {path} must lie in [0, 1], got {images.min()} to {images.max()}"
            )
        np.save(folder / file, images)
