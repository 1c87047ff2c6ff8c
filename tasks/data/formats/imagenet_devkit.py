"""The development kit of ImageNet 2012: which class each validation image shows."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from tasks.data.archives import reading
from tasks.data.formats.image_tree import WNID
from tasks.data.store import DataError

LABELS = "ILSVRC2012_validation_ground_truth.txt"
CLASSES = "meta.mat"


def validation_classes(devkit: Path) -> list[str]:
    """Read the class (wnid) of each validation image, in order of the images' names.

    Raises:
        DataError: if scipy is missing, or the archive is damaged or lacks a file.
    """
    wnids = read_classes(_member(devkit, CLASSES), f"{devkit}:{CLASSES}")
    classes = []
    for number, line in enumerate(_member(devkit, LABELS).decode("ascii", "replace").split(), 1):
        if not line.isdecimal() or int(line) not in wnids:
            raise DataError(
                f"{devkit}:{LABELS}:{number} must be the number of a class, got {line[:40]}"
            )
        classes.append(wnids[int(line)])
    return classes


def read_classes(raw: bytes, where: str) -> dict[int, str]:
    """Read the numbers and wnids of the classes: leaves of the hierarchy in `meta.mat`."""
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise DataError(f"{where} needs scipy: pip install 'kappa-bench[mat]'") from error
    try:
        rows = loadmat(io.BytesIO(raw), squeeze_me=True)["synsets"].reshape(-1)
        wnids = {
            int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows if not row["num_children"]
        }
    # What scipy raises on a damaged file depends on where the damage is.
    except Exception as error:
        raise DataError(f"{where} is no whole list of classes: {error}") from error
    for wnid in wnids.values():
        if not WNID.fullmatch(wnid):
            raise DataError(f"{where} must hold wnids like n01440764, got {wnid}")
    return wnids


def _member(devkit: Path, name: str) -> bytes:
    with reading(devkit), tarfile.open(devkit) as tar:
        for member in tar:
            if member.isfile() and Path(member.name).name == name:
                stream = tar.extractfile(member)
                assert stream is not None
                return stream.read()
    raise DataError(f"{devkit} must hold {name}, which it does not")
