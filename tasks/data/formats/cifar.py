"""CIFAR's binary batches, and the one order in which their images are kept."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from tasks.data.archives import unpacked
from tasks.data.download import Original, find_file
from tasks.data.store import DataError

SIDE, CHANNELS = 32, 3
NUM_PIXELS = SIDE * SIDE * CHANNELS


def read_batches(
    paths: Sequence[Path], num_images: int, num_classes: int, label_bytes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Read binary batches: records of label bytes and 3,072 bytes of red, green and blue planes.

    Args:
        num_images: in all batches together.
        label_bytes: of a record; its last one is the label (CIFAR-100: coarse, then fine).
    Returns:
        Images, shape (num_images, 32, 32, 3), and labels, shape (num_images,), both uint8.
    Raises:
        DataError: if a file is truncated, too long, or has a label out of range, or the number
            of images is another.
    """
    length = label_bytes + NUM_PIXELS
    batches = []
    for path in paths:
        try:
            raw = np.frombuffer(path.read_bytes(), np.uint8)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror}") from error
        if len(raw) == 0 or len(raw) % length:
            raise DataError(
                f"{path} must hold whole records of {length} bytes, got {len(raw)} bytes"
            )
        records = raw.reshape(-1, length)
        labels = records[:, label_bytes - 1]
        if (labels >= num_classes).any():
            first = int((labels >= num_classes).argmax())
            raise DataError(
                f"{path}: label of record {first} must be 0 to {num_classes - 1}, got "
                f"{labels[first]}"
            )
        batches.append(records)
    found = sum(map(len, batches))
    if found != num_images:
        where = paths[0] if len(paths) == 1 else f"{len(paths)} batches in {paths[0].parent}"
        raise DataError(f"{where} must hold {num_images} images, got {found}")
    records = np.concatenate(batches)
    planes = records[:, label_bytes:].reshape(-1, CHANNELS, SIDE, SIDE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, label_bytes - 1].copy()


def image_hashes(images: np.ndarray) -> list[bytes]:
    """SHA-256 of each image's bytes, in the order height, width, channel."""
    return [hashlib.sha256(image.tobytes()).digest() for image in images]


def canonical_order(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Order by SHA-256 of the image, then by label: the same whatever the source's order.

    Returns:
        Indices, shape (n,).
    """
    hashes = image_hashes(images)
    return np.array(sorted(range(len(images)), key=lambda i: (hashes[i], labels[i])), dtype=int)


def save_split(folder: Path, split: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Write a split in the canonical order as `{split}_images.npy` and `{split}_labels.npy`."""
    order = canonical_order(images, labels)
    np.save(folder / f"{split}_images.npy", images[order])
    np.save(folder / f"{split}_labels.npy", labels[order])


@contextlib.contextmanager
def unpacked_batches(
    archive: Original, folder: Path, originals: Path | None, batches: Mapping[str, Sequence[str]]
) -> Iterator[dict[str, list[Path]]]:
    """Give the paths of the batches of each split, as `unpacked` has them.

    Args:
        batches: file names of each split.
    """
    names = [name for files in batches.values() for name in files]
    with unpacked(archive, folder, originals, names, "*.bin") as place:
        yield {
            split: [find_file(place, name) for name in files] for split, files in batches.items()
        }
