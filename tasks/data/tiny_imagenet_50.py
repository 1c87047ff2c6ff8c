"""50 of Tiny ImageNet's 200 classes: 40 images of each to train on and 10 to validate, 64 x 64.

A stand-in for ImageNet: real JPEG files in the same layout. The committed list says which.
"""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tasks.data.archives import reading
from tasks.data.download import Original, obtain
from tasks.data.store import DataError, listed

# The address and the MD5 under which everybody fetches it.
ARCHIVE = Original(
    "tiny-imagenet-200.zip",
    "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    md5="90528d7ca1a48142e341f4ef8d21d0de",
)
ROOT = "tiny-imagenet-200"


def prepare(
    folder: Path, originals: Path | None = None, files: Iterable[str] | None = None
) -> None:
    """Write {train,val}/<wnid>/*.JPEG, unchanged.

    Args:
        originals: the archive, or the folder of it or of its content; None: it is fetched.
        files: to be written, by default those of the committed list.
    Raises:
        DataError: if the archive cannot be had, is damaged or lacks a file.
    """
    with _reader(folder, originals) as read:
        for file in listed("tiny_imagenet_50") if files is None else files:
            split, wnid, name = file.split("/")
            # The archive keeps validation images in one folder, of whatever class they are.
            place = f"train/{wnid}/images" if split == "train" else "val/images"
            target = folder / split / wnid / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(read(f"{place}/{name}"))


@contextlib.contextmanager
def _reader(folder: Path, originals: Path | None) -> Iterator[Callable[[str], bytes]]:
    """Give what reads a file of the set by its path, from the archive or from its content."""
    roots = () if originals is None else (originals, originals / ROOT)
    content = next((root for root in roots if (root / "train").is_dir()), None)
    if content is not None:
        yield lambda file: _read(content, lambda: (content / file).read_bytes(), file)
        return
    archive = obtain(ARCHIVE, folder, originals)
    with reading(archive), zipfile.ZipFile(archive) as package:
        yield lambda file: _read(archive, lambda: package.read(f"{ROOT}/{file}"), file)


def _read(source: Path, read: Callable[[], bytes], file: str) -> bytes:
    try:
        with reading(f"{file} in {source}"):
            return read()
    except KeyError as error:
        raise DataError(f"{source} must hold {file}, which it does not") from error
