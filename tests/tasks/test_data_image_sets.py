"""Preparation of MNIST, CIFAR, Olivetti and Tiny ImageNet from their official files."""

import dataclasses
import hashlib

import numpy as np
import pytest

from tasks.data import cifar10, cifar100, cifar100_20k, mnist, olivetti, tiny_imagenet_50
from tasks.data.store import DataError
from tests.tasks.originals import (
    cifar_records,
    random_bytes,
    tar_of,
    write_faces,
    write_mnist,
    zip_of,
)

COUNTS = {"train": 20, "test": 10}


@pytest.fixture
def folder(tmp_path):
    """The folder that is prepared."""
    path = tmp_path / "prepared"
    path.mkdir()
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def refused(match, prepare, *args, **kwargs):
    with pytest.raises(DataError, match=match) as error:
        prepare(*args, **kwargs)
    assert "\n" not in str(error.value)


def tiny(shape, num_classes):
    return {
        split: (random_bytes(count, (count, *shape)), random_bytes(0, (count,)) % num_classes)
        for split, count in COUNTS.items()
    }


@pytest.mark.parametrize("compress", [True, False], ids=["gzip", "plain"])
def test_mnist_keeps_the_files_order(folder, tmp_path, compress):
    splits = tiny((28, 28), 10)
    write_mnist(tmp_path / "idx", splits, compress)
    mnist.prepare(folder, tmp_path / "idx", COUNTS)
    for split, (images, labels) in splits.items():
        assert (np.load(folder / f"{split}_images.npy") == images).all()
        assert (np.load(folder / f"{split}_labels.npy") == labels).all()
    assert len(names(folder)) == 4


def test_mnist_must_be_whole(folder, tmp_path):
    write_mnist(tmp_path / "idx", tiny((28, 28), 10), compress=False)
    refused(r"got \(20, 28, 28\)", mnist.prepare, folder, tmp_path / "idx")  # not 60,000
    (tmp_path / "idx" / "t10k-labels-idx1-ubyte").unlink()
    refused(
        r"idx must hold t10k-labels-idx1-ubyte\.gz or t10k-labels-idx1-ubyte",
        *(mnist.prepare, folder, tmp_path / "idx", COUNTS),
    )


def batches_of(splits, names_of, coarse=None):
    """Binary batches of splits, {file name: content}."""
    batches = {}
    for split, (images, labels) in splits.items():
        files = names_of[split]
        for file, part in zip(
            files, np.array_split(np.arange(len(labels)), len(files)), strict=True
        ):
            batches[file] = cifar_records(images[part], labels[part], coarse)
    return batches


def shuffled(splits, seed):
    orders = {split: np.random.default_rng(seed).permutation(COUNTS[split]) for split in splits}
    return {split: (x[orders[split]], y[orders[split]]) for split, (x, y) in splits.items()}


def write_cifar(place, how, archive, batches):
    """Write batches as an archive, a folder of the archive, or as it is unpacked."""
    if how == "unpacked":
        for name, content in batches.items():
            (place / "batches-bin").mkdir(parents=True, exist_ok=True)
            (place / "batches-bin" / name).write_bytes(content)
        return place
    place.mkdir(parents=True)
    path = place / archive.name
    path.write_bytes(tar_of({f"batches-bin/{name}": x for name, x in batches.items()}, "w:gz"))
    return path if how == "archive" else place


@pytest.mark.parametrize("how", ["archive", "folder of the archive", "unpacked"])
def test_cifar10_is_the_same_from_any_order(folder, tmp_path, how):
    splits = tiny((32, 32, 3), 10)
    prepared = []
    for seed in (1, 2):
        place = tmp_path / str(seed)
        batches = batches_of(shuffled(splits, seed), cifar10.BATCHES)
        originals = write_cifar(place, how, cifar10.ARCHIVE, batches)
        cifar10.prepare(folder, originals, COUNTS)
        prepared.append({name: (folder / name).read_bytes() for name in names(folder)})
    assert prepared[0] == prepared[1]
    assert list(prepared[0]) == [
        f"{split}_{kind}.npy" for split in ("test", "train") for kind in ("images", "labels")
    ]


def test_cifar10_must_be_whole(folder, tmp_path):
    batches = batches_of(tiny((32, 32, 3), 10), cifar10.BATCHES)
    place = write_cifar(tmp_path / "originals", "unpacked", cifar10.ARCHIVE, batches)
    refused("5 batches in .* must hold 50000 images, got 20", cifar10.prepare, folder, place)
    (place / "batches-bin" / "data_batch_3.bin").unlink()
    refused(r"must hold data_batch_3\.bin", cifar10.prepare, folder, place, COUNTS)
    refused(r"must hold cifar-10-binary\.tar\.gz", cifar10.prepare, folder, folder, COUNTS)
    (tmp_path / "a.tar.gz").write_bytes(tar_of({"x": b"y" * 5000}, "w:gz")[:60])
    refused(
        r"a\.tar\.gz cannot be unpacked", cifar10.prepare, folder, tmp_path / "a.tar.gz", COUNTS
    )
    assert names(folder) == []


def test_cifar100_takes_the_fine_label(folder, tmp_path):
    splits = tiny((32, 32, 3), 100)
    batches = batches_of(splits, cifar100.BATCHES, coarse=19)
    originals = write_cifar(tmp_path / "originals", "archive", cifar100.ARCHIVE, batches)
    cifar100.prepare(folder, originals, COUNTS, cifar100.ARCHIVE)
    for split, (_, labels) in splits.items():
        assert sorted(np.load(folder / f"{split}_labels.npy")) == sorted(labels)


def test_a_users_own_cifar100_must_be_the_official_one(folder, tmp_path):
    batches = batches_of(tiny((32, 32, 3), 100), cifar100.BATCHES, coarse=19)
    originals = write_cifar(tmp_path / "originals", "archive", cifar100.ARCHIVE, batches)
    md5 = hashlib.md5(originals.read_bytes()).hexdigest()
    for given in (originals, originals.parent):
        refused(
            f"^{originals} has MD5 {md5}, expected 03b5dce01913d631647c71ecec9e9cb8$",
            *(cifar100.prepare, folder, given, COUNTS),
        )
    assert names(folder) == []
    cifar100.prepare(folder, originals, COUNTS, dataclasses.replace(cifar100.HELD, md5=md5))
    assert len(names(folder)) == 4


def test_cifar100_20k_finds_the_chosen_images(folder, tmp_path):
    splits = tiny((32, 32, 3), 100)
    images, labels = splits["train"]
    # One image three times, with two labels; both that have label 8 are chosen.
    images[5], images[6] = images[4], images[4]
    labels[4], labels[5], labels[6] = 8, 9, 8
    chosen = [0, 4, 6, 11]
    keys = np.array([list(key) for key in cifar100_20k.keys(images[chosen], labels[chosen])])
    np.save(tmp_path / "chosen.npy", keys.astype(np.uint8))
    batches = batches_of(shuffled(splits, 3), cifar100.BATCHES, coarse=0)
    originals = write_cifar(tmp_path / "originals", "archive", cifar100.ARCHIVE, batches)
    cifar100_20k.prepare(folder, originals, tmp_path / "chosen.npy", COUNTS)
    kept = np.load(folder / "train_images.npy")
    found = sorted(cifar100_20k.keys(kept, np.load(folder / "train_labels.npy")))
    assert found == sorted(map(bytes, keys.astype(np.uint8)))
    assert len(np.load(folder / "test_labels.npy")) == COUNTS["test"]
    keys[0] = 1
    np.save(tmp_path / "chosen.npy", keys.astype(np.uint8))
    refused(
        "1 of the chosen images are not in cifar-100",
        *(cifar100_20k.prepare, folder, originals, tmp_path / "chosen.npy", COUNTS),
    )


def test_olivetti_stands_upright(folder, tmp_path):
    images = random_bytes(3, (400, 64, 64))
    # A column an image, each written down its columns, as MATLAB does.
    columns = images.transpose(0, 2, 1).reshape(400, 4096).T
    originals = write_faces(tmp_path / "olivettifaces.mat", faces=columns)
    olivetti.prepare(folder, originals)
    prepared = np.load(folder / "images.npy")
    assert prepared.dtype == np.uint8
    assert (prepared == images).all()
    # Numbers that are whole but stored as floats are the same images.
    write_faces(originals, faces=columns.astype(np.float64))
    olivetti.prepare(folder, tmp_path)
    assert (np.load(folder / "images.npy") == images).all()


def test_olivetti_must_be_whole(folder, tmp_path):
    path = tmp_path / "olivettifaces.mat"
    write_faces(path, faces=np.zeros((4096, 399)))
    refused("must be 4096 by 400, got 4096 by 399", olivetti.prepare, folder, path)
    write_faces(path, faces=np.full((4096, 400), 0.5))
    refused("must hold whole numbers from 0 to 255", olivetti.prepare, folder, path)
    write_faces(path, other=np.zeros((4096, 400)))
    refused("must hold a matrix faces, got other", olivetti.prepare, folder, path)
    path.write_bytes(path.read_bytes()[:200])
    refused("olivettifaces.mat", olivetti.prepare, folder, path)


TINY = {
    "train/n01443537/n01443537_0.JPEG": b"one",
    "train/n01698640/n01698640_7.JPEG": b"two",
    "val/n01443537/val_1230.JPEG": b"three",
}
TINY_MEMBERS = {
    "tiny-imagenet-200/train/n01443537/images/n01443537_0.JPEG": b"one",
    "tiny-imagenet-200/train/n01443537/images/n01443537_1.JPEG": b"not chosen",
    "tiny-imagenet-200/train/n01698640/images/n01698640_7.JPEG": b"two",
    "tiny-imagenet-200/val/images/val_1230.JPEG": b"three",
    "tiny-imagenet-200/val/val_annotations.txt": b"val_1230.JPEG\tn01443537\t0\t0\t63\t63\n",
    "../outside": b"is never opened",
}


def written(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("how", ["archive", "folder of the archive", "unpacked", "its content"])
def test_tiny_imagenet_is_laid_out_by_class(folder, tmp_path, how):
    originals = tmp_path / "originals"
    for name, content in TINY_MEMBERS.items() if how in ("unpacked", "its content") else ():
        (originals / name).parent.mkdir(parents=True, exist_ok=True)
        (originals / name).write_bytes(content)
    if how in ("archive", "folder of the archive"):
        originals.mkdir()
        (originals / "tiny-imagenet-200.zip").write_bytes(zip_of(TINY_MEMBERS))
    if how == "its content":
        originals /= "tiny-imagenet-200"
    if how == "archive":
        originals /= "tiny-imagenet-200.zip"
    tiny_imagenet_50.prepare(folder, originals, TINY)
    assert written(folder) == TINY


def test_tiny_imagenet_must_be_whole(folder, tmp_path):
    path = tmp_path / "tiny.zip"
    raw = zip_of(TINY_MEMBERS)
    path.write_bytes(raw)
    refused(
        "tiny.zip must hold val/images/val_9.JPEG, which it does not",
        *(tiny_imagenet_50.prepare, folder, path, ["val/n01443537/val_9.JPEG"]),
    )
    at = raw.index(b"n01443537_0.JPEG") + len("n01443537_0.JPEG")
    path.write_bytes(raw[:at] + b"\xff\xff" + raw[at + 2 :])  # the deflated content
    refused(
        r"train/n01443537/images/n01443537_0\.JPEG in .*tiny\.zip cannot be unpacked",
        *(tiny_imagenet_50.prepare, folder, path, TINY),
    )
    path.write_bytes(raw[:-30])
    refused(r"tiny\.zip cannot be unpacked", tiny_imagenet_50.prepare, folder, path, TINY)
