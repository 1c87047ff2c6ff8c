"""Preparation of ImageNet from its archives, or from folders that a user has."""

import functools
import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tasks.data import imagenet
from tasks.data.formats.image_tree import check_tree
from tasks.data.formats.imagenet_devkit import LABELS, validation_classes
from tasks.data.store import DataError, content_hash, fetch, files_of, require
from tests.tasks.originals import tar_of

WNIDS = ("n01440764", "n01443537", "n02119789")
COUNTS = {"train": 6, "val": 3}
# Numbers of the classes are not in the order of their wnids, and inner nodes come among them.
NUMBERS = {1: "n02119789", 2: "n01440764", 3: "n01443537"}
TRUTH = (2, 1, 3)  # of each validation image, as the devkit below says

TRAIN = {wnid: {f"{wnid}_{i}.JPEG": f"{wnid} {i}".encode() for i in (7, 12)} for wnid in WNIDS}
VAL = {f"ILSVRC2012_val_0000000{i}.JPEG": f"val {i}".encode() for i in (1, 2, 3)}
EXPECTED = {
    **{f"train/{w}/{name}": x for w, images in TRAIN.items() for name, x in images.items()},
    **{
        f"val/{NUMBERS[truth]}/{name}": x
        for truth, (name, x) in zip(TRUTH, VAL.items(), strict=True)
    },
}


def meta_mat():
    """The list of classes with the fields that matter here, and an inner node as the last."""
    from scipy.io import savemat

    fields = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    rows = [(number, wnid, "a, b", 0) for number, wnid in NUMBERS.items()]
    rows.append((4, "n00000004", "of others", 3))
    buffer = io.BytesIO()
    savemat(buffer, {"synsets": np.array(rows, dtype=fields).reshape(-1, 1)})
    return buffer.getvalue()


def devkit(labels="2\n1\n3\n", meta=None):
    root = "ILSVRC2012_devkit_t12"
    members = {f"{root}/data/{LABELS}": labels.encode(), f"{root}/readme.txt": b"not read"}
    members[f"{root}/data/meta.mat"] = meta_mat() if meta is None else meta
    return tar_of(members, "w:gz")


def write_archives(folder, **replaced):
    folder.mkdir(exist_ok=True)
    archives = {
        imagenet.TRAIN: tar_of({f"{wnid}.tar": tar_of(images) for wnid, images in TRAIN.items()}),
        # The order in the archive is not that of the names.
        imagenet.VAL: tar_of(dict(reversed(VAL.items()))),
        imagenet.DEVKIT: devkit(),
    }
    for name, content in archives.items():
        (folder / name).write_bytes(replaced.get(name.split("_")[-1].split(".")[0], content))
    return {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in archives}


def write_tree(folder, files=EXPECTED):
    for file, content in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(content)
    return folder


def prepare(folder, originals, md5):
    imagenet.prepare(folder, originals, md5, COUNTS, len(WNIDS))


def written(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "prepared"
    path.mkdir()
    return path


def refused(match, action, *args):
    with pytest.raises(DataError, match=match) as error:
        action(*args)
    assert "\n" not in str(error.value)


def test_archives_are_laid_out_by_class(folder, tmp_path):
    md5 = write_archives(tmp_path / "originals")
    prepare(folder, tmp_path / "originals", md5)
    assert written(folder) == EXPECTED


def test_an_archive_that_is_not_the_official_one_is_refused(folder, tmp_path):
    md5 = write_archives(tmp_path / "originals")
    refused(
        "ILSVRC2012_devkit_t12.tar.gz has MD5 .*, expected fa75699e90414af021442c21a62c3abf",
        *(imagenet.prepare, folder, tmp_path / "originals"),
    )
    (tmp_path / "originals" / imagenet.VAL).unlink()
    refused("must hold ILSVRC2012_img_val.tar", prepare, folder, tmp_path / "originals", md5)
    refused("--from must be a folder for imagenet", prepare, folder, Path(__file__), md5)
    refused("ImageNet cannot be fetched: get ILSVRC2012_img_train.tar", prepare, folder, None, md5)
    assert written(folder) == {}


def link_to(target):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo("n01440764_7.JPEG")
        info.type, info.linkname = tarfile.SYMTYPE, target
        tar.addfile(info)
    return buffer.getvalue()


ONE = TRAIN["n01440764"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tar_of({"../n01440764.tar": tar_of(ONE), "x.txt": b""}), "got x.txt"),
        (tar_of({"n01440764.tar": tar_of({"../../a.JPEG": b"x"})}), r"got \.\./\.\./a\.JPEG"),
        (tar_of({"n01440764.tar": tar_of({"/a.JPEG": b"x"})}), r"files only, got /a\.JPEG"),
        (tar_of({"n01440764.tar": tar_of({"a.png": b"x"})}), r"files only, got a\.png"),
        (tar_of({"n01440764.tar": link_to("/etc/hostname")}), "files only, got n01440764_7"),
        (tar_of({"n01440764.tar": b"no archive" * 100}), "cannot be unpacked"),
        (tar_of({"n01440764.tar": tar_of(ONE)})[:1500], "cannot be unpacked"),
        (tar_of({"n01440764.tar": tar_of(ONE)}), "must hold 3 folders of classes, got 1"),
    ],
)
def test_a_wrong_training_archive_is_one_line(folder, tmp_path, content, message):
    md5 = write_archives(tmp_path / "originals", train=content)
    refused(message, prepare, folder, tmp_path / "originals", md5)
    assert not list(tmp_path.glob("*.JPEG"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["originals", "prepared"]


def test_a_member_is_written_in_its_class_whatever_its_folder_is_called(folder, tmp_path):
    members = {f"../{wnid}.tar": tar_of(images) for wnid, images in TRAIN.items()}
    prepare(folder, tmp_path / "x", write_archives(tmp_path / "x", train=tar_of(members)))
    assert written(folder) == EXPECTED


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tar_of({**VAL, "4.JPEG": b""}), "must hold 3 images, got 4"),
        (tar_of({"../a.JPEG": b"", "b.JPEG": b"", "c.JPEG": b""}), r"got \.\./a\.JPEG"),
        (b"", "cannot be unpacked"),
    ],
)
def test_a_wrong_validation_archive_is_one_line(folder, tmp_path, content, message):
    md5 = write_archives(tmp_path / "originals", val=content)
    refused(message, prepare, folder, tmp_path / "originals", md5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (devkit(labels="2\n1\n4\n"), f"{LABELS}:3 must be the number of a class, got 4"),
        (devkit(labels="2\nx\n3\n"), f"{LABELS}:2 must be the number of a class, got x"),
        (devkit(meta=b"MATLAB"), "meta.mat is no whole list of classes"),
        (tar_of({"data/meta.mat": meta_mat()}, "w:gz"), f"must hold {LABELS}"),
        (devkit()[:100], "cannot be unpacked"),
    ],
)
def test_a_wrong_devkit_is_one_line(tmp_path, content, message):
    path = tmp_path / imagenet.DEVKIT
    path.write_bytes(content)
    refused(message, validation_classes, path)


@pytest.fixture
def tiny(monkeypatch):
    """Make the set a tiny one."""
    small = functools.partial(imagenet.prepare, num_images=COUNTS, num_classes=len(WNIDS))
    monkeypatch.setattr(imagenet, "prepare", small)


def test_a_users_folders_are_linked_and_listed_by_size(tiny, tmp_path):
    originals = write_tree(tmp_path / "originals")
    folder = fetch("imagenet", tmp_path / "data", originals=originals)
    assert (folder / "train").resolve() == (originals / "train").resolve()
    assert files_of("imagenet", tmp_path / "data") == tuple(sorted(EXPECTED))
    assert require("imagenet", tmp_path / "data") == folder
    before = content_hash("imagenet", data_dir=tmp_path / "data")
    other = write_tree(tmp_path / "other", {**EXPECTED, "val/n01440764/more.JPEG": b"x"})
    (other / "val/n01440764/ILSVRC2012_val_00000001.JPEG").unlink()
    fetch("imagenet", tmp_path / "more", originals=other)
    assert content_hash("imagenet", data_dir=tmp_path / "more") != before
    # A file that has changed its size is found.
    (originals / "val/n01440764/ILSVRC2012_val_00000001.JPEG").write_bytes(b"changed")
    refused("is damaged: it has size in bytes 7, expected 5", require, "imagenet", folder.parent)
    # Deleting the set leaves the user's files.
    (originals / "train/n01440764/n01440764_7.JPEG").unlink()
    refused("n01440764_7.JPEG is damaged: it is missing", require, "imagenet", folder.parent)


def test_the_set_of_folders_is_that_of_the_archives(tiny, tmp_path, monkeypatch):
    for name, md5 in write_archives(tmp_path / "archives").items():
        monkeypatch.setitem(imagenet.MD5, name, md5)
    fetch("imagenet", tmp_path / "a", originals=tmp_path / "archives")
    fetch("imagenet", tmp_path / "b", originals=write_tree(tmp_path / "tree"))
    hashes = {content_hash("imagenet", data_dir=tmp_path / place) for place in "ab"}
    assert len(hashes) == 1


@pytest.mark.parametrize("unpack", [True, False])
def test_a_preparation_that_fails_names_the_users_files_and_leaves_nothing(
    tiny, tmp_path, monkeypatch, unpack
):
    originals = tmp_path / "originals"
    if unpack:
        write_tree(originals, {**EXPECTED, "train/n01440764/more.JPEG": b""})
        message = f"^{originals}/train must hold 6 images, got 7$"
    else:
        # The validation images have been written when the training archive proves wrong.
        for name, md5 in write_archives(originals, train=tar_of({"x.txt": b""})).items():
            monkeypatch.setitem(imagenet.MD5, name, md5)
        message = f"^{originals}/{imagenet.TRAIN} must hold <class>.tar only, got x.txt$"
    before = written(originals)
    refused(message, lambda: fetch("imagenet", tmp_path / "data", originals=originals))
    assert not (tmp_path / "data").exists()
    assert written(originals) == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"val/n01440764/ILSVRC2012_val_00000001.JPEG": None}, "n01440764 is empty"),
        ({"train/n01440764/more.JPEG": b""}, "train must hold 6 images, got 7"),
        ({"train/n01440764/more.txt": b""}, r"must hold \.JPEG files, got more\.txt"),
        ({"train/more.JPEG": b""}, r"named like n01440764, got more\.JPEG"),
        ({"train/n1/a.JPEG": b""}, "named like n01440764, got n1"),
        ({"train/n00000001/a.JPEG": b""}, "must hold 3 folders of classes, got 4"),
        ({"train/.hidden": b"", "val/n01440764/.hidden": b""}, None),
    ],
)
def test_a_tree_that_is_no_imagenet_is_one_line(tmp_path, changed, message):
    write_tree(tmp_path, {**EXPECTED, **{k: x for k, x in changed.items() if x is not None}})
    for file in (file for file, content in changed.items() if content is None):
        (tmp_path / file).unlink()
    if message is None:
        check_tree(tmp_path, COUNTS, len(WNIDS))
    else:
        refused(message, check_tree, tmp_path, COUNTS, len(WNIDS))


def test_splits_must_have_the_same_classes(tmp_path):
    write_tree(tmp_path, {"train/n00000001/a.JPEG": b"", "val/n00000002/a.JPEG": b""})
    refused(
        "train and val in .* must have the same classes, got n00000001 in one of them alone",
        *(check_tree, tmp_path, {"train": 1, "val": 1}, 1),
    )
    refused("must be a folder of classes", check_tree, tmp_path, {"test": 1}, 1)
