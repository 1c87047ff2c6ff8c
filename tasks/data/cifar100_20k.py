"""20,000 of CIFAR-100's 50,000 training images, drawn at random once, and all its test images.

A stand-in where the full set cannot be had. Which images it holds is kept beside this module.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from tasks.data import cifar100
from tasks.data.arrays import load_array
from tasks.data.formats.cifar import image_hashes, save_split
from tasks.data.store import DataError

# Of each training image the first bytes of its SHA-256 and its label, sorted, (20000, 7), uint8.
# 6 bytes tell 50,000 images apart; of images that are there twice the label says which is meant.
CHOSEN = Path(__file__).with_name("cifar100_20k.npy")
HASH_BYTES = 6


def prepare(
    folder: Path,
    originals: Path | None = None,
    chosen: Path = CHOSEN,
    num_images: dict[str, int] = cifar100.NUM_IMAGES,
) -> None:
    """Write the chosen images and fine labels, as `tasks.data.cifar100` does.

    Args:
        originals: CIFAR-100's archive, or a folder of it or of its batches; None: it is fetched.
    Raises:
        DataError: if the archive cannot be had, is damaged, or lacks a chosen image.
    """
    splits = cifar100.read_splits(folder, originals, num_images)
    wanted = Counter(map(bytes, load_array(chosen, np.uint8, (HASH_BYTES + 1,))))
    images, labels = splits["train"]
    indices = []
    for index, key in enumerate(keys(images, labels)):
        if wanted[key] > 0:
            wanted[key] -= 1
            indices.append(index)
    if missing := wanted.total():
        raise DataError(f"{missing} of the chosen images are not in {cifar100.ARCHIVE.name}")
    save_split(folder, "train", images[indices], labels[indices])
    save_split(folder, "test", *splits["test"])


def keys(images: np.ndarray, labels: np.ndarray) -> list[bytes]:
    """What tells an image from the others: the first bytes of its SHA-256, and its label."""
    return [
        digest[:HASH_BYTES] + bytes([label])
        for digest, label in zip(image_hashes(images), labels.tolist(), strict=True)
    ]
