"""Olivetti faces [AT&T Laboratories Cambridge]: 40 people, 10 gray images of each, 64 x 64."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tasks.data.download import Original, obtain
from tasks.data.matlab import read_matrix
from tasks.data.store import DataError

# S. Roweis's reduction to 64 x 64, at the address, and with the SHA-256, that scikit-learn uses.
ARCHIVE = Original(
    "olivettifaces.mat",
    "https://ndownloader.figshare.com/files/5976027",
    sha256="b612fb967f2dc77c9c62d3e1266e0c73d5fca46a4b8906c18e454d41af987794",
)
KEY = "faces"
SIDE = 64
NUM_IMAGES = 400  # image i shows person i // 10


def prepare(folder: Path, originals: Path | None = None) -> None:
    """Write `images.npy`, (400, 64, 64), uint8, upright, in the file's order.

    Args:
        originals: olivettifaces.mat, or the folder it is in; None: it is fetched.
    Raises:
        DataError: if the file cannot be had or holds something else.
    """
    path = obtain(ARCHIVE, folder, originals)
    # MATLAB counts down the columns: one image a column, and each image's columns in turn.
    faces = read_matrix(path, KEY)
    if faces.shape != (SIDE * SIDE, NUM_IMAGES):
        raise DataError(
            f"{KEY} in {path} must be {SIDE * SIDE} by {NUM_IMAGES}, got "
            f"{faces.shape[0]} by {faces.shape[1]}"
        )
    images = faces.T.reshape(NUM_IMAGES, SIDE, SIDE).transpose(0, 2, 1)
    if not (images == images.clip(0, 255).round()).all():
        raise DataError(f"{KEY} in {path} must hold whole numbers from 0 to 255")
    np.save(folder / "images.npy", np.ascontiguousarray(images, dtype=np.uint8))
