"""Readers of IDX files and CIFAR batches, on tiny files of the true formats."""

import gzip
import hashlib
import struct

import numpy as np
import pytest

from tasks.data.download import Original
from tasks.data.formats import cifar
from tasks.data.formats.idx import read_idx
from tasks.data.store import DataError
from tests.tasks.originals import cifar_records, idx_bytes, random_bytes, tar_of

IMAGES = random_bytes(0, (3, 28, 28))


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_idx_is_read_compressed_or_not(tmp_path, compress):
    path = tmp_path / "images"
    path.write_bytes(compress(idx_bytes(IMAGES)))
    found = read_idx(path, (3, 28, 28))
    assert found.dtype == np.uint8
    assert (found == IMAGES).all()


RAW = idx_bytes(IMAGES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "unsigned bytes, which begins with 00 00 08, got nothing"),
        (b"\0\0\x0d\3" + RAW[4:], "got 00 00 0d"),  # floats
        (b"\x93NUMPY", "got 93 4e 55"),
        (RAW[:9], "truncated: its header must have 16 bytes, got 9"),
        (RAW[:-1], f"truncated: it must have {len(RAW)} bytes, got {len(RAW) - 1}"),
        (RAW + b"\0", f"extra bytes: it must have {len(RAW)} bytes, got {len(RAW) + 1}"),
        (idx_bytes(IMAGES[:2]), r"shape \(3, 28, 28\), got \(2, 28, 28\)"),
        (idx_bytes(IMAGES[:, 0, 0]), r"shape \(3, 28, 28\), got \(3,\)"),
        (gzip.compress(RAW)[:-9], "cannot be unpacked: Compressed file ended"),
        (gzip.compress(RAW)[:40] + b"damage" + gzip.compress(RAW)[46:], "cannot be unpacked: "),
    ],
)
def test_a_wrong_idx_file_is_one_line(tmp_path, content, message):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_idx(path, (3, 28, 28))
    assert one_line(error).startswith(str(path))


def test_a_header_that_claims_more_than_memory_holds_is_refused(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(b"\0\0\x08\3" + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 2**32 - 1))
    with pytest.raises(DataError, match="must hold an array of shape"):
        read_idx(path, (3, 28, 28))


def cifar_set(seed, count, num_classes=10):
    labels = random_bytes(seed + 100, (count,)) % num_classes
    return random_bytes(seed, (count, 32, 32, 3)), labels


@pytest.mark.parametrize("coarse", [None, 7], ids=["cifar10", "cifar100"])
def test_batches_are_read_in_height_width_channel(tmp_path, coarse):
    images, labels = cifar_set(1, 5)
    paths = [tmp_path / "a.bin", tmp_path / "b.bin"]
    paths[0].write_bytes(cifar_records(images[:3], labels[:3], coarse))
    paths[1].write_bytes(cifar_records(images[3:], labels[3:], coarse))
    found = cifar.read_batches(paths, 5, 10, label_bytes=1 if coarse is None else 2)
    assert (found[0] == images).all()
    assert (found[1] == labels).all()
    assert found[0].dtype == found[1].dtype == np.uint8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "whole records of 3073 bytes, got 0 bytes"),
        (cifar_records(*cifar_set(1, 2))[:-1], "whole records of 3073 bytes, got 6145 bytes"),
        (cifar_records(*cifar_set(1, 2)) + b"x", "got 6147 bytes"),
        (cifar_records(*cifar_set(1, 3)), "must hold 2 images, got 3"),
        (
            cifar_records(cifar_set(1, 2)[0], np.array([9, 10], np.uint8)),
            "label of record 1 must be 0 to 9, got 10",
        ),
    ],
)
def test_a_wrong_batch_is_one_line(tmp_path, content, message):
    path = tmp_path / "test_batch.bin"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        cifar.read_batches([path], 2, 10, label_bytes=1)
    assert one_line(error).startswith(str(path))


def test_a_missing_batch_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"test_batch\.bin cannot be read: No such file"):
        cifar.read_batches([tmp_path / "test_batch.bin"], 2, 10, label_bytes=1)


def test_the_canonical_order_does_not_depend_on_the_sources(tmp_path):
    images, labels = cifar_set(2, 20)
    images[7] = images[3]  # the same image twice: the label decides
    labels[7], labels[3] = 1, 2
    shuffle = np.random.default_rng(0).permutation(20)
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, order in ((one, np.arange(20)), (other, shuffle)):
        folder.mkdir()
        cifar.save_split(folder, "train", images[order], labels[order])
    for name in ("train_images.npy", "train_labels.npy"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    kept = np.load(one / "train_images.npy")
    hashes = [hashlib.sha256(image.tobytes()).hexdigest() for image in kept]
    assert hashes == sorted(hashes)
    double = [i for i in range(20) if (kept[i] == images[3]).all()]
    assert np.load(one / "train_labels.npy")[double].tolist() == [1, 2]


def test_an_archive_that_lacks_a_batch_is_one_line(tmp_path):
    path = tmp_path / "cifar.tar.gz"
    path.write_bytes(tar_of({"cifar/train.bin": b"x"}, "w:gz"))
    batches = {"train": ("train.bin",), "test": ("test.bin",)}
    with (
        pytest.raises(DataError, match=r"cifar\.tar\.gz must hold test\.bin, which it does not"),
        cifar.unpacked_batches(Original("cifar.tar.gz", ""), tmp_path, tmp_path, batches),
    ):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["cifar.tar.gz"]
