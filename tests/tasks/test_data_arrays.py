"""Checked loading of prepared arrays."""

import numpy as np
import pytest

from tasks.data.arrays import load_array, load_images
from tasks.data.store import DataError

IMAGES = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
LABELS = np.array([0, 2, 1], np.uint8)


def save(folder, images=IMAGES, labels=LABELS):
    np.save(folder / "train_images.npy", images)
    np.save(folder / "train_labels.npy", labels)


def refused(folder, match, shape=(4, 5), num_classes=3):
    with pytest.raises(DataError, match=match) as error:
        load_images(folder, "train", shape, num_classes)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(folder / "train_"))


def test_images_and_labels_are_loaded(tmp_path):
    save(tmp_path)
    images, labels = load_images(tmp_path, "train", (4, 5), 3)
    assert (images == IMAGES).all() and (labels == LABELS).all()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES.astype(np.float32)}, r"uint8 of shape \(n, 4, 5\), got float32"),
        ({"images": IMAGES[:, :3]}, r"uint8 of shape \(n, 4, 5\), got uint8 of \(3, 3, 5\)"),
        ({"images": np.uint8(3)}, r"got uint8 of \(\)"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, r"train_images\.npy is empty"),
        ({"labels": LABELS[:2]}, r"train_labels\.npy must hold 3 labels, one an image, got 2"),
        ({"labels": LABELS.astype(np.int64)}, r"uint8 of shape \(n\), got int64"),
        (
            {"labels": LABELS + np.uint8(1)},
            r"train_labels\.npy must hold labels 0 to 2, got 3 at index 1$",
        ),
    ],
)
def test_wrong_arrays_are_one_line(tmp_path, arrays, message):
    save(tmp_path, **arrays)
    refused(tmp_path, message)


def test_files_that_are_no_arrays_are_one_line(tmp_path):
    save(tmp_path)
    path = tmp_path / "train_images.npy"
    whole = path.read_bytes()
    for content in (b"", b"text", whole[:50], whole[:-1]):
        path.write_bytes(content)
        refused(tmp_path, "is no whole .npy file of numbers")
    # A pickle could run anything: it is not read.
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)
    refused(tmp_path, "is no whole .npy file of numbers")
    with path.open("wb") as stream:
        np.savez(stream, IMAGES)
    refused(tmp_path, "must hold one array")
    path.unlink()
    refused(tmp_path, r"train_images\.npy is missing")
    path.mkdir()
    refused(tmp_path, "is no whole .npy file of numbers")


def test_rows_of_any_kind_are_loaded(tmp_path):
    rows = np.ones((2, 7), np.float32)
    np.save(tmp_path / "rows.npy", rows)
    assert (load_array(tmp_path / "rows.npy", np.float32, (7,)) == rows).all()
