"""CURVES [Hinton and Salakhutdinov 2006]: 28 x 28 images of a smooth curve through three points.

The file that is everywhere used, made by R. Salakhutdinov and kept on J. Martens's page. Nobody has
published a checksum of it, so its user brings it; numbers and range of its pixels are checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tasks.data.download import find_file
from tasks.data.matlab import read_matrix
from tasks.data.store import DataError

FILE = "digs3pts_1.mat"
BRING = f"get https://www.cs.toronto.edu/~jmartens/{FILE}, of which no checksum is published"
KEYS = {"train": "bdata", "test": "bdatatest"}  # one image a row
NUM_IMAGES = {"train": 20_000, "test": 10_000}
NUM_PIXELS = 28 * 28
FILES = tuple(f"{split}_images.npy" for split in KEYS)


def prepare(
    folder: Path, originals: Path | None = None, num_images: Mapping[str, int] = NUM_IMAGES
) -> None:
    """Write both splits, float32 in [0, 1], one image a row.

    Args:
        originals: digs3pts_1.mat, or the folder it is in.
        num_images: of each split.
    Raises:
        DataError: if the file is not given, or holds something else.
    """
    if originals is None:
        raise DataError(f"CURVES cannot be fetched: {BRING}")
    path = find_file(originals, FILE)
    for (split, key), file in zip(KEYS.items(), FILES, strict=True):
        images = read_matrix(path, key)
        if images.shape[1] != NUM_PIXELS:
            raise DataError(
                f"{key} in {path} must have {NUM_PIXELS} columns, a pixel each, got "
                f"{images.shape[1]}"
            )
        if len(images) != num_images[split]:
            raise DataError(
                f"{key} in {path} must have {num_images[split]} rows, an image each, got "
                f"{len(images)}"
            )
        if images.min() < 0 or images.max() > 1:
            raise DataError(
                f"{key} in {path} must lie in [0, 1], got {images.min()} to {images.max()}"
            )
        np.save(folder / file, images)
