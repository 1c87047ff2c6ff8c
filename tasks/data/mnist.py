"""MNIST [LeCun et al. 1998]: 60,000 and 10,000 gray images of digits, 28 x 28."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tasks.data.download import Original, find_file, obtain
from tasks.data.formats.idx import read_idx

# The mirror that torchvision uses; the MD5s are its too. The original site asks for a password.
URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MD5 = {
    "train-images-idx3-ubyte": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "ec29112dd5afa0611ce80d1b7f02629c",
}
STEMS = {"train": "train", "test": "t10k"}
NUM_IMAGES = {"train": 60_000, "test": 10_000}


def prepare(
    folder: Path, originals: Path | None = None, num_images: dict[str, int] = NUM_IMAGES
) -> None:
    """Write images (n, 28, 28) and labels (n,) of both splits, uint8, in the files' order.

    Args:
        originals: folder of the four files, compressed or not; None: they are fetched.
    Raises:
        DataError: if a file cannot be had or is damaged.
    """
    for split, stem in STEMS.items():
        count = num_images[split]
        for kind, rank, shape in (("images", 3, (count, 28, 28)), ("labels", 1, (count,))):
            path = _file(folder, originals, f"{stem}-{kind}-idx{rank}-ubyte")
            np.save(folder / f"{split}_{kind}.npy", read_idx(path, shape))


def _file(folder: Path, originals: Path | None, stem: str) -> Path:
    name = f"{stem}.gz"
    if originals is not None:
        return find_file(originals, name, stem)
    return obtain(Original(name, URL + name, md5=MD5[stem]), folder)
