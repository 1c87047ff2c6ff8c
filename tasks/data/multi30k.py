"""Multi30k [Elliott et al. 2016], task 1: captions of Flickr images in German and English."""

from __future__ import annotations

from pathlib import Path

from tasks.data.archives import gunzipped
from tasks.data.download import Original, find_file, obtain
from tasks.data.parallel_text import SPLITS, Pair, read_pairs

# At a commit: the branch may move.
_URL = (
    "https://raw.githubusercontent.com/multi30k/dataset/"
    "2cc0f2d7c615b60e07e2d51bb5edc004444d7e0e/data/task1/raw/"
)
_MD5 = {
    "train.de": "81ff90b99829c0cd4b1b587d394afd39",
    "train.en": "0065d13af80720a55ca8153d126e6627",
    "val.de": "6e0e229eb049e3fc99a1ef02fb2d5f91",
    "val.en": "2b69aa9253948ac9f67e94917272dd40",
    "test_2016_flickr.de": "efd67d314d98489b716b145475101932",
    "test_2016_flickr.en": "ff2c0fcb4893a13bd73414306bc250ae",
}
FILES = tuple(_MD5)
_NAMES = dict(zip(SPLITS, ("train", "val", "test_2016_flickr"), strict=True))


def prepare(folder: Path, originals: Path | None = None) -> None:
    """Write the six files, unpacked and otherwise unchanged.

    Args:
        originals: folder of the files, packed or not; None: they are fetched.
    Raises:
        DataError: if a file cannot be had or is damaged.
    """
    for name, md5 in _MD5.items():
        packed = f"{name}.gz"
        if originals is None:
            path = obtain(Original(packed, _URL + packed, md5), folder)
        else:
            path = find_file(originals, packed, name)
        (folder / name).write_bytes(gunzipped(path))


def read(folder: Path) -> dict[str, list[Pair]]:
    """Read the prepared pairs of each split: 29,000, 1,014 and 1,000.

    Raises:
        DataError: if a file is empty, not UTF-8, or has not as many lines as its other side.
    """
    return {
        split: read_pairs(folder / f"{name}.de", folder / f"{name}.en")
        for split, name in _NAMES.items()
    }
