"""CURVES and FACES from MATLAB files of the true format, and what is wrong with others."""

import functools

import numpy as np
import pytest
import torch

from tasks.data import curves, faces
from tasks.data.matlab import read_matrix
from tasks.data.pixel_sets import SETS
from tasks.data.store import DataError, content_hash, fetch

scipy_io = pytest.importorskip("scipy.io")


def pixels(rows, columns, seed=0):
    return np.random.default_rng(seed).random((rows, columns))


def expect(monkeypatch, module, **numbers):
    """Make a set a tiny one."""
    monkeypatch.setattr(module, "prepare", functools.partial(module.prepare, **numbers))


@pytest.fixture
def curves_file(tmp_path, monkeypatch):
    expect(monkeypatch, curves, num_images={"train": 12, "test": 5})
    folder = tmp_path / "originals"
    folder.mkdir()
    path = folder / curves.FILE
    arrays = {"bdata": pixels(12, 784), "bdatatest": pixels(5, 784, 1)}
    scipy_io.savemat(path, {**arrays, "seed": 3}, do_compression=True)
    return path, arrays


@pytest.fixture
def faces_file(tmp_path, monkeypatch):
    expect(monkeypatch, faces, num_patches=80)
    folder = tmp_path / "originals"
    folder.mkdir()
    path = folder / faces.FILE
    array = (pixels(625, 80) - 0.5).astype(np.float32)
    scipy_io.savemat(path, {faces.KEY: array})
    return path, array


def test_curves_are_prepared_and_read(curves_file, tmp_path):
    path, arrays = curves_file
    data_dir = tmp_path / "data"
    assert fetch("curves", data_dir, originals=path) == data_dir / "curves"
    train, test = SETS["curves"].read("curves", str(data_dir), "official", None, 3)
    assert train.dtype == torch.float32
    np.testing.assert_array_equal(train, arrays["bdata"].astype(np.float32))
    np.testing.assert_array_equal(test, arrays["bdatatest"][:3].astype(np.float32))
    # Its identity is its content.
    hashed = SETS["curves"].data_hash("curves", str(data_dir))
    assert hashed == content_hash("curves", curves.FILES, data_dir=data_dir) != ""


def test_faces_are_prepared_with_a_patch_a_row(faces_file, tmp_path):
    path, array = faces_file
    data_dir = tmp_path / "data"
    fetch("faces", data_dir, originals=path.parent)
    train, test = SETS["faces"].read("faces", str(data_dir), "people", None, None)
    np.testing.assert_array_equal(train, array.T[:50])
    np.testing.assert_array_equal(test, array.T[60:])
    train, test = SETS["faces"].read("faces", str(data_dir), "random", 7, None)
    assert (len(train), len(test)) == (7, 30)


def test_other_numbers_of_images_than_the_papers_are_refused(tmp_path):
    scipy_io.savemat(
        tmp_path / curves.FILE, {"bdata": pixels(12, 784), "bdatatest": pixels(5, 784)}
    )
    scipy_io.savemat(tmp_path / faces.FILE, {faces.KEY: pixels(625, 80)})
    message = {
        curves: "bdata in {path} must have 20000 rows, an image each, got 12",
        faces: "newfaces_single in {path} must have 165600 columns, a patch each, got 80",
    }
    for module in (curves, faces):
        with pytest.raises(DataError) as error:
            module.prepare(tmp_path, tmp_path)
        assert str(error.value) == message[module].format(path=tmp_path / module.FILE)
    with pytest.raises(DataError, match=r"bdatatest in .* must have 10000 rows"):
        curves.prepare(tmp_path, tmp_path, {**curves.NUM_IMAGES, "train": 12})


@pytest.mark.parametrize(
    ("split", "count", "part"),
    [("random", 1, "training"), ("people", 1, "training"), ("people", 3, "test")],
)
def test_faces_too_few_to_be_split_are_one_line(tmp_path, monkeypatch, split, count, part):
    expect(monkeypatch, faces, num_patches=count)
    path = tmp_path / faces.FILE
    scipy_io.savemat(path, {faces.KEY: pixels(625, count)})
    folder = fetch("faces", tmp_path / "data", originals=path)
    with pytest.raises(DataError) as error:
        SETS["faces"].read("faces", str(folder.parent), split, None, None)
    wanted = f"{folder / 'images.npy'} must hold images for {part} (split {split}), got none"
    assert str(error.value) == wanted


@pytest.mark.parametrize(
    ("split", "sizes"), [("random", (103_500, 62_100)), ("people", (103_500, 41_400))]
)
def test_the_splits_are_the_papers(split, sizes):
    train, test = faces.split_indices(165_600, split)
    assert (len(train), len(test)) == sizes
    assert not set(train.tolist()) & set(test.tolist())
    again, _ = faces.split_indices(165_600, split)
    assert torch.equal(again, train)
    # 414 patches a face, 10 faces a person: who is in the training patches is in the test ones?
    people = [set((indices // 4140).tolist()) for indices in (train, test)]
    assert bool(people[0] & people[1]) == (split == "random")


def with_hole(array):
    array[3, 5] = np.nan
    return array


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": pixels(3, 784)}, "{path} must hold a matrix bdata, got data"),
        (
            {"bdata": pixels(3, 700), "bdatatest": pixels(3, 784)},
            "bdata in {path} must have 784 columns, a pixel each, got 700",
        ),
        (
            {"bdata": with_hole(pixels(9, 784)), "bdatatest": pixels(3, 784)},
            "bdata in {path} must be finite, got nan in row 4, column 6",
        ),
        (
            {"bdata": pixels(3, 784), "bdatatest": np.zeros((0, 784))},
            "bdatatest in {path} is empty",
        ),
        (
            {"bdata": 2 + np.zeros((3, 784)), "bdatatest": pixels(3, 784)},
            "bdata in {path} must lie in [0, 1], got 2.0 to 2.0",
        ),
        (
            {"bdata": "words", "bdatatest": pixels(3, 784)},
            "bdata in {path} must be a matrix of numbers, got <U5",
        ),
    ],
)
def test_a_wrong_curves_file_is_one_line(tmp_path, content, message):
    path = tmp_path / curves.FILE
    scipy_io.savemat(path, content)
    folder = tmp_path / "prepared"
    folder.mkdir()
    with pytest.raises(DataError) as error:
        curves.prepare(folder, path, {"train": len(content.get("bdata", [])), "test": 3})
    assert str(error.value) == message.format(path=path)


def test_a_wrong_number_of_pixels_in_faces_is_one_line(tmp_path):
    path = tmp_path / faces.FILE
    scipy_io.savemat(path, {faces.KEY: pixels(80, 625)})
    with pytest.raises(DataError) as error:
        faces.prepare(tmp_path, path)
    wanted = f"{faces.KEY} in {path} must have 625 rows, a pixel each, got 80"
    assert str(error.value) == wanted


def test_a_damaged_or_missing_file_is_one_line(curves_file, tmp_path):
    path, _ = curves_file
    whole = path.read_bytes()
    for damaged in (b"", b"no MATLAB file", whole[:200], whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="is no whole MATLAB file") as error:
            read_matrix(path, "bdata")
        assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="is missing"):
        read_matrix(tmp_path / "nothing.mat", "bdata")


def test_who_has_not_the_file_is_told_where_it_is(tmp_path):
    for name, module in (("curves", curves), ("faces", faces)):
        with pytest.raises(DataError) as error:
            SETS[name].read(name, str(tmp_path), SETS[name].splits[0], None, None)
        for part in (f"toronto.edu/~jmartens/{module.FILE}", f"prepare_data {name}", "--from"):
            assert part in str(error.value)
        assert "\n" not in str(error.value)
        with pytest.raises(DataError, match="cannot be fetched"):
            module.prepare(tmp_path)
