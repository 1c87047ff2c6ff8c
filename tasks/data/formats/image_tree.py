"""Trees of image files, {split}/{class}/*.JPEG, as a data set is published or kept by its users."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from tasks.data.store import DataError

WNID = re.compile(r"n\d{8}")  # a class: number of a noun in WordNet
SUFFIX = ".JPEG"


def check_tree(root: Path, num_images: Mapping[str, int], num_classes: int) -> None:
    """Check names and numbers of the files of a tree; no image is opened.

    Args:
        num_images: of each split.
        num_classes: of each split; the same classes in all.
    Raises:
        DataError: if something is missing or does not belong there.
    """
    classes: dict[str, list[str]] = {}
    for split, expected in num_images.items():
        classes[split] = _classes(root / split)
        if len(classes[split]) != num_classes:
            raise DataError(
                f"{root / split} must hold {num_classes} folders of classes, got "
                f"{len(classes[split])}"
            )
        found = sum(_count(root / split / wnid) for wnid in classes[split])
        if found != expected:
            raise DataError(f"{root / split} must hold {expected} images, got {found}")
    first, *others = classes
    for split in others:
        if unshared := set(classes[first]) ^ set(classes[split]):
            raise DataError(
                f"{first} and {split} in {root} must have the same classes, got {min(unshared)} "
                "in one of them alone"
            )


def _classes(folder: Path) -> list[str]:
    try:
        paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder} must be a folder of classes: {error.strerror}") from error
    for path in paths:
        if not (WNID.fullmatch(path.name) and path.is_dir()):
            raise DataError(
                f"{folder} must hold one folder a class, named like n01440764, got {path.name}"
            )
    return [path.name for path in paths]


def _count(folder: Path) -> int:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if not entry.name.startswith(".")]
    for name in names:
        if not name.endswith(SUFFIX):
            raise DataError(f"{folder} must hold {SUFFIX} files, got {name}")
    if not names:
        raise DataError(f"{folder} is empty: it must hold {SUFFIX} files")
    return len(names)
