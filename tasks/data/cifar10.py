"""CIFAR-10 [Krizhevsky 2009]: 50,000 and 10,000 colour images of 10 classes, 32 x 32."""

from __future__ import annotations

from pathlib import Path

from tasks.data.download import Original
from tasks.data.formats.cifar import read_batches, save_split, unpacked_batches

# The binary version: the one for Python is a pickle, which could run anything.
ARCHIVE = Original(
    "cifar-10-binary.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
)
BATCHES = {
    "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    "test": ("test_batch.bin",),
}
NUM_IMAGES = {"train": 50_000, "test": 10_000}
NUM_CLASSES = 10


def prepare(
    folder: Path, originals: Path | None = None, num_images: dict[str, int] = NUM_IMAGES
) -> None:
    """Write images (n, 32, 32, 3) and labels (n,) of both splits, uint8, in the canonical order.

    Args:
        originals: the archive, or a folder of it or of its batches; None: it is fetched.
    Raises:
        DataError: if the archive cannot be had or is damaged.
    """
    with unpacked_batches(ARCHIVE, folder, originals, BATCHES) as batches:
        for split, paths in batches.items():
            images, labels = read_batches(paths, num_images[split], NUM_CLASSES, label_bytes=1)
            save_split(folder, split, images, labels)
