"""CIFAR-100 [Krizhevsky 2009]: 50,000 and 10,000 colour images, 32 x 32, with 100 fine labels."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from tasks.data.download import Original
from tasks.data.formats.cifar import read_batches, save_split, unpacked_batches

# The binary version: the one for Python is a pickle, which could run anything.
ARCHIVE = Original(
    "cifar-100-binary.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
)
# No committed list says what must come out of it, so that a user's own must be the official one.
HELD = dataclasses.replace(ARCHIVE, held=True)
BATCHES = {"train": ("train.bin",), "test": ("test.bin",)}
NUM_IMAGES = {"train": 50_000, "test": 10_000}
NUM_CLASSES = 100


def prepare(
    folder: Path,
    originals: Path | None = None,
    num_images: dict[str, int] = NUM_IMAGES,
    archive: Original = HELD,
) -> None:
    """Write images (n, 32, 32, 3) and labels (n,) of both splits, uint8, in the canonical order.

    Args:
        originals: the archive, or a folder of it or of its batches (of which no checksum is
            published, so that numbers and labels are all that is checked); None: it is fetched.
        archive: the official one.
    Raises:
        DataError: if the archive cannot be had, is damaged or is another.
    """
    for split, (images, labels) in read_splits(folder, originals, num_images, archive).items():
        save_split(folder, split, images, labels)


def read_splits(
    folder: Path,
    originals: Path | None,
    num_images: dict[str, int] = NUM_IMAGES,
    archive: Original = ARCHIVE,
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read images and fine labels of both splits, in the order of the archive."""
    with unpacked_batches(archive, folder, originals, BATCHES) as batches:
        return {
            split: read_batches(paths, num_images[split], NUM_CLASSES, label_bytes=2)
            for split, paths in batches.items()
        }
