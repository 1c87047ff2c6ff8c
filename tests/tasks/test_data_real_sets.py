"""Of the real sets, the listed bytes come out of the official formats."""

import os
from pathlib import Path

import numpy as np
import pytest

from tasks.data import cifar10, cifar100_20k
from tasks.data.store import fetch, listed
from tests.tasks.originals import write_faces, write_mnist, zip_of


def real(name):
    """The folder of a real set; skips where it is not there."""
    path = Path(os.environ.get("KAPPA_DATA", "data")).absolute() / name
    if not all((path / file).is_file() for file in listed(name)):
        pytest.skip(f"{name} is not there; set KAPPA_DATA to the folder of data sets")
    return path


def real_splits(path):
    return {
        split: (np.load(path / f"{split}_images.npy"), np.load(path / f"{split}_labels.npy"))
        for split in ("train", "test")
    }


def test_the_real_mnist_comes_out_of_its_idx_files(tmp_path):
    write_mnist(tmp_path / "idx", real_splits(real("mnist")), compress=False)
    fetch("mnist", tmp_path / "data", originals=tmp_path / "idx")


def test_the_real_cifar10_comes_out_of_shuffled_batches(tmp_path):
    splits = real_splits(real("cifar10"))
    (tmp_path / "batches").mkdir()
    for split, files in cifar10.BATCHES.items():
        images, labels = splits[split]
        order = np.random.default_rng(0).permutation(len(labels))
        for file, part in zip(files, np.array_split(order, len(files)), strict=True):
            planes = images[part].transpose(0, 3, 1, 2).reshape(len(part), -1)
            records = np.concatenate([labels[part, None], planes], axis=1)
            (tmp_path / "batches" / file).write_bytes(records.tobytes())
    fetch("cifar10", tmp_path / "data", originals=tmp_path / "batches")


def test_the_chosen_images_are_those_of_the_real_cifar100_20k():
    images, labels = real_splits(real("cifar100_20k"))["train"]
    kept = np.load(cifar100_20k.CHOSEN)
    assert kept.shape == (20_000, 7)
    assert sorted(cifar100_20k.keys(images, labels)) == list(map(bytes, kept))


def test_the_real_olivetti_comes_out_of_a_matlab_file(tmp_path):
    images = np.load(real("olivetti") / "images.npy")
    columns = images.transpose(0, 2, 1).reshape(400, 4096).T
    path = write_faces(tmp_path / "olivettifaces.mat", faces=columns)
    fetch("olivetti", tmp_path / "data", originals=path)
    # What scikit-learn shows of its copy begins 0.30991736, 0.3677686, 0.41735536: these / 242.
    assert images[0, 0, :3].tolist() == [75, 89, 101]
    assert images.max() == 242


def test_the_real_tiny_imagenet_comes_out_of_its_archive(tmp_path):
    source = real("tiny_imagenet_50")
    members = {}
    for file in listed("tiny_imagenet_50"):
        split, wnid, name = file.split("/")
        place = f"train/{wnid}/images" if split == "train" else "val/images"
        members[f"tiny-imagenet-200/{place}/{name}"] = (source / file).read_bytes()
    (tmp_path / "tiny-imagenet-200.zip").write_bytes(zip_of(members))
    fetch("tiny_imagenet_50", tmp_path / "data", originals=tmp_path)
