"""The image sets of the autoencoders, as rows of pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tasks.data import curves, curves_synthetic, faces, olivetti_patches
from tasks.data.arrays import load_array
from tasks.data.store import DataError, content_hash, require

MNIST_FILES = ("train_images.npy", "test_images.npy")

# Images of each split that are wanted, the first ones; None: all.
Count = int | None
Splits = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class PixelSet:
    """A set of images for training and test.

    Args:
        num_pixels: of an image.
        load: (folder, split, num_train, num_test) -> training and test images, each
            (n, num_pixels), uint8 for brightness in 255ths or float32.
        files: that are read, of the prepared folder; () where all is generated.
        version: of what is generated, "" where nothing is.
        splits: ways in which training and test images can be told apart, the papers' own first.
        unit_range: whether brightness lies in [0, 1].
    """

    num_pixels: int
    load: Callable[[Path | None, str, Count, Count], Splits]
    files: tuple[str, ...]
    version: str = ""
    splits: tuple[str, ...] = ("official",)
    unit_range: bool = True

    def data_hash(self, name: str, data_dir: str) -> str:
        """Hash of the files, then the version of what is made of them."""
        hashed = content_hash(name, self.files, data_dir=data_dir) if self.files else ""
        return "-".join(part for part in (hashed, self.version) if part)

    def read(self, name: str, data_dir: str, split: str, *counts: Count) -> Splits:
        """Verify the files and load them.

        Raises:
            DataError: if a file is missing or damaged, or too few images are in it to have some
                of each split.
        """
        folder = require(name, data_dir, self.files) if self.files else None
        parts = self.load(folder, split, *counts)
        for what, part in zip(("training", "test"), parts, strict=True):
            if len(part) == 0:
                source = ", ".join(str(folder / file) for file in self.files) if folder else name
                raise DataError(f"{source} must hold images for {what} (split {split}), got none")
        return parts


def _load_arrays(
    files: tuple[str, str], dtype: type[np.generic], row_shape: tuple[int, ...]
) -> Callable[[Path, str, Count, Count], Splits]:
    """A loader of one prepared file for each split."""

    def load(folder: Path, split: str, num_train: Count, num_test: Count) -> Splits:
        train, test = (
            torch.from_numpy(load_array(folder / file, dtype, row_shape)[:count]).flatten(1)
            for file, count in zip(files, (num_train, num_test), strict=True)
        )
        return train, test

    return load


def _generate_curves(folder: None, split: str, num_train: Count, num_test: Count) -> Splits:
    sizes = curves_synthetic.NUM_TRAIN, curves_synthetic.NUM_TEST
    counts = (
        size if count is None else min(size, count)
        for size, count in zip(sizes, (num_train, num_test), strict=True)
    )
    return curves_synthetic.generate(*counts)


def _load_faces(folder: Path, split: str, num_train: Count, num_test: Count) -> Splits:
    patches = load_array(folder / faces.FILES[0], np.float32, (faces.NUM_PIXELS,))
    train, test = faces.split_indices(len(patches), split)
    rows = torch.from_numpy(patches)
    return rows[train[:num_train]], rows[test[:num_test]]


def _cut_patches(folder: Path, split: str, num_train: Count, num_test: Count) -> Splits:
    side = olivetti_patches.FACE_SIDE
    pictures = load_array(folder / olivetti_patches.FILES[0], np.uint8, (side, side))
    return olivetti_patches.generate(torch.from_numpy(pictures), split, num_train, num_test)


SETS: Mapping[str, PixelSet] = {
    "mnist": PixelSet(784, _load_arrays(MNIST_FILES, np.uint8, (28, 28)), MNIST_FILES),
    "curves": PixelSet(784, _load_arrays(curves.FILES, np.float32, (784,)), curves.FILES),
    "curves_synthetic": PixelSet(784, _generate_curves, (), curves_synthetic.VERSION),
    "faces": PixelSet(625, _load_faces, faces.FILES, splits=faces.SPLITS, unit_range=False),
    "olivetti": PixelSet(
        625,
        _cut_patches,
        olivetti_patches.FILES,
        olivetti_patches.VERSION,
        splits=faces.SPLITS,
        unit_range=False,
    ),
}
