"""ImageNet's set of 2012 [Russakovsky et al. 2015]: 1.3 million JPEG images of 1,000 classes.

Its terms want every user to ask for it, so nothing is fetched.
"""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from pathlib import Path

from tasks.data.archives import reading
from tasks.data.download import check, find_file
from tasks.data.formats.image_tree import SUFFIX, WNID, check_tree
from tasks.data.formats.imagenet_devkit import validation_classes
from tasks.data.listing import SIZE
from tasks.data.store import DataError

# The official archives, with the MD5s that image-net.org states and torchvision checks.
TRAIN, VAL, DEVKIT = (
    "ILSVRC2012_img_train.tar",
    "ILSVRC2012_img_val.tar",
    "ILSVRC2012_devkit_t12.tar.gz",
)
MD5 = {
    TRAIN: "1d675b47d978889d74fa0da5fadfb00e",
    VAL: "29b22e2961454d5413ddabcf34fc5622",
    DEVKIT: "fa75699e90414af021442c21a62c3abf",
}
NUM_IMAGES = {"train": 1_281_167, "val": 50_000}
NUM_CLASSES = 1000

BRING = (
    f"get {TRAIN}, {VAL} and {DEVKIT} from https://image-net.org, or take a folder of "
    "{train,val}/<class>/*.JPEG"
)
LISTED_BY = SIZE  # 150 GB: no run can hash them before it begins


def prepare(
    folder: Path,
    originals: Path | None = None,
    md5: Mapping[str, str] = MD5,
    num_images: Mapping[str, int] = NUM_IMAGES,
    num_classes: int = NUM_CLASSES,
) -> None:
    """Write {train,val}/<wnid>/*.JPEG, unchanged; a user's own such folders are linked, not copied.

    Args:
        originals: a folder of the three archives, or of train and val.
        md5: of the archives.
        num_images, num_classes: that there must be.
    Raises:
        DataError: if something is missing, damaged or of another number.
    """
    if originals is None:
        raise DataError(f"ImageNet cannot be fetched: {BRING}")
    if all((originals / split).is_dir() for split in num_images):
        check_tree(originals, num_images, num_classes)
        for split in num_images:
            (folder / split).symlink_to((originals / split).resolve(), target_is_directory=True)
    else:
        if not originals.is_dir():
            raise DataError(f"--from must be a folder for imagenet, got {originals}: {BRING}")
        archives = {name: find_file(originals, name) for name in (DEVKIT, VAL, TRAIN)}
        for name, path in archives.items():
            check(path, path, md5[name])
        write_val(archives[VAL], validation_classes(archives[DEVKIT]), folder / "val")
        write_train(archives[TRAIN], folder / "train")
        check_tree(folder, num_images, num_classes)


def write_train(archive: Path, folder: Path) -> None:
    """Write an archive of one archive a class, <wnid>.tar, as <wnid>/<wnid>_<number>.JPEG.

    Raises:
        DataError: if it is damaged, or holds anything else.
    """
    with reading(archive), tarfile.open(archive) as tar:
        for member in tar:
            name = Path(member.name)
            if not (member.isfile() and WNID.fullmatch(name.stem) and name.suffix == ".tar"):
                raise DataError(f"{archive} must hold <class>.tar only, got {member.name}")
            where = f"{archive}:{member.name}"
            with (
                reading(where),
                tar.extractfile(member) as stream,
                tarfile.open(fileobj=stream) as inner,
            ):
                for image in inner:
                    _write(inner, image, folder / name.stem, where)


def write_val(archive: Path, wnids: list[str], folder: Path) -> None:
    """Write an archive of images, of which the n-th in order of name belongs to the n-th class.

    Raises:
        DataError: if it is damaged, or holds anything else.
    """
    with reading(archive), tarfile.open(archive) as tar:
        members = sorted(tar.getmembers(), key=lambda member: member.name)
        if len(members) != len(wnids):
            raise DataError(f"{archive} must hold {len(wnids)} images, got {len(members)}")
        for member, wnid in zip(members, wnids, strict=True):
            _write(tar, member, folder / wnid, str(archive))


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path, where: str) -> None:
    name = member.name.removeprefix("./")
    if not member.isfile() or "/" in name or not name.endswith(SUFFIX):
        raise DataError(f"{where} must hold {SUFFIX} files only, got {member.name}")
    folder.mkdir(parents=True, exist_ok=True)
    stream = tar.extractfile(member)
    assert stream is not None
    with stream:
        (folder / name).write_bytes(stream.read())
