"""FACES [Hinton and Salakhutdinov 2006]: 165,600 patches, 25 x 25, of the 400 Olivetti faces.

The file that is everywhere used, made by R. Salakhutdinov and kept on J. Martens's page: 414
patches a face, each pixel shifted to mean 0, the whole set scaled to average variance 1. Nobody has
published a checksum of it, so its user brings it; numbers of patches and pixels are checked.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tasks.data.download import find_file
from tasks.data.matlab import read_matrix
from tasks.data.store import DataError
from tasks.seeding import seeded

FILE = "newfaces_rot_single.mat"
BRING = f"get https://www.cs.toronto.edu/~jmartens/{FILE}, of which no checksum is published"
KEY = "newfaces_single"  # one patch a column
NUM_PIXELS = 25 * 25
NUM_PATCHES = 165_600
FILES = ("images.npy",)
SPLITS = ("random", "people")
_SPLIT_KEY = 103_500  # of the random split: the same for all runs, so that test losses compare


def prepare(folder: Path, originals: Path | None = None, num_patches: int = NUM_PATCHES) -> None:
    """Write the patches, float32, one a row, in the file's order.

    Args:
        originals: newfaces_rot_single.mat, or the folder it is in.
        num_patches: that there must be.
    Raises:
        DataError: if the file is not given, or holds something else.
    """
    if originals is None:
        raise DataError(f"FACES cannot be fetched: {BRING}")
    path = find_file(originals, FILE)
    patches = read_matrix(path, KEY)
    if patches.shape[0] != NUM_PIXELS:
        raise DataError(
            f"{KEY} in {path} must have {NUM_PIXELS} rows, a pixel each, got {patches.shape[0]}"
        )
    if patches.shape[1] != num_patches:
        raise DataError(
            f"{KEY} in {path} must have {num_patches} columns, a patch each, got {patches.shape[1]}"
        )
    np.save(folder / FILES[0], np.ascontiguousarray(patches.T))


def split_indices(num_patches: int, split: str) -> tuple[Tensor, Tensor]:
    """Numbers of the training and of the test patches.

    Args:
        num_patches: 165,600 in the whole set, which come person after person.
        split: "random": 103,500 and the other 62,100, whoever they show [code of Mei et al. 2023];
            "people": the first 103,500 and the last 41,400, of other people [Goldfarb et al. 2020
            and all before]. Of fewer patches the same shares.
    """
    num_train = num_patches * 25 // 40
    if split == "random":
        order = torch.randperm(num_patches, generator=seeded(_SPLIT_KEY))
        return order[:num_train], order[num_train:]
    order = torch.arange(num_patches)
    return order[:num_train], order[num_patches - num_patches * 10 // 40 :]
