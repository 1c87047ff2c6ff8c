"""Sets whose files no committed list names: what their preparation writes verifies them."""

import functools
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from tasks.data import cifar100, place
from tasks.data.listing import SHA256, SIZE, read_listing, write_listing
from tasks.data.store import DataError, content_hash, fetch, files_of, require
from tests.tasks.originals import cifar_records, random_bytes

FILES = tuple(f"{split}_{kind}.npy" for split in ("test", "train") for kind in ("images", "labels"))
COUNTS = {"train": 6, "test": 4}


def write_originals(folder, seed=0):
    """A tiny CIFAR-100 as it is unpacked."""
    folder.mkdir(parents=True)
    for split, count in COUNTS.items():
        labels = random_bytes(seed, (count,)) % 100
        batch = cifar_records(random_bytes(seed + 1, (count, 32, 32, 3)), labels, coarse=3)
        (folder / f"{split}.bin").write_bytes(batch)
    return folder


@pytest.fixture
def originals(tmp_path, monkeypatch):
    for split, count in COUNTS.items():
        monkeypatch.setitem(cifar100.NUM_IMAGES, split, count)
    return write_originals(tmp_path / "originals")


def offline(action):
    with pytest.raises(DataError) as error:
        action()
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_list_is_written_last_and_verified(originals, tmp_path):
    folder = fetch("cifar100", tmp_path / "data", originals=originals)
    assert sorted(path.name for path in folder.iterdir()) == ["SHA256SUMS", *FILES]
    assert sorted(path.name for path in folder.parent.iterdir()) == [".cifar100.lock", "cifar100"]
    assert require("cifar100", tmp_path / "data", FILES) == folder
    assert files_of("cifar100", tmp_path / "data") == FILES
    assert np.load(folder / "train_images.npy").shape == (6, 32, 32, 3)


def test_the_content_hash_needs_the_list(originals, tmp_path):
    data_dir = tmp_path / "data"
    assert content_hash("cifar100", FILES, data_dir=data_dir) == ""
    assert not data_dir.exists()
    fetch("cifar100", data_dir, originals=originals)
    one = content_hash("cifar100", FILES, data_dir=data_dir)
    assert one == content_hash("cifar100", FILES[::-1], data_dir=data_dir)
    assert one == content_hash("cifar100", data_dir=data_dir)
    assert one != content_hash("cifar100", FILES[:2], data_dir=data_dir)
    other = write_originals(tmp_path / "others", seed=5)
    fetch("cifar100", tmp_path / "other", originals=other)
    assert one != content_hash("cifar100", FILES, data_dir=tmp_path / "other")
    with pytest.raises(ValueError, match="data_dir must be given for cifar100"):
        content_hash("cifar100", FILES)


def test_a_damaged_file_is_one_line_and_prepared_again(originals, tmp_path):
    folder = fetch("cifar100", tmp_path, originals=originals)
    path = folder / "test_labels.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\0")
    message = offline(lambda: require("cifar100", tmp_path, FILES))
    assert f"{path} is damaged: it has SHA-256 " in message
    assert f"delete {folder} and run: python -m scripts.prepare_data cifar100" in message
    path.unlink()
    assert f"{path} is damaged: it is missing" in offline(lambda: require("cifar100", tmp_path))
    # Nobody's files are deleted unasked.
    message = offline(lambda: fetch("cifar100", tmp_path, originals=originals))
    assert f"{folder} holds no complete data set" in message
    for file in folder.iterdir():
        file.unlink()
    fetch("cifar100", tmp_path, originals=originals)
    assert path.read_bytes() == whole


def test_files_that_a_user_keeps_there_are_left_alone(originals, tmp_path):
    folder = tmp_path / "cifar100"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    message = offline(lambda: fetch("cifar100", tmp_path, originals=originals))
    assert f"{folder} holds no complete data set; delete {folder} and run" in message
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("0123\n", "SHA256SUMS:1 must be a SHA-256, two blanks and a file, got '0123'"),
        ("0123  a\n0123  ../b\n", "SHA256SUMS:2 must be"),
        ("0123  /b\n", "SHA256SUMS:1 must be"),
    ],
)
def test_a_damaged_list_is_one_line(tmp_path, content, message):
    folder = tmp_path / "cifar100"
    folder.mkdir()
    (folder / "SHA256SUMS").write_text(content)
    assert message in offline(lambda: require("cifar100", tmp_path))
    assert message in offline(lambda: content_hash("cifar100", data_dir=tmp_path))


def test_a_file_that_the_list_does_not_name_is_refused(originals, tmp_path):
    fetch("cifar100", tmp_path, originals=originals)
    assert "has no file a.npy" in offline(lambda: require("cifar100", tmp_path, ["a.npy"]))


def test_a_missing_set_says_what_to_do(tmp_path):
    message = offline(lambda: require("cifar100", tmp_path / "data"))
    assert "KAPPA_OFFLINE forbids fetching it" in message
    assert "python -m scripts.prepare_data cifar100" in message
    assert "--from PATH" in message
    message = offline(lambda: require("imagenet", tmp_path / "data"))
    assert "cannot be fetched: get ILSVRC2012_img_train.tar" in message
    assert not (tmp_path / "data").exists()
    assert "is missing; run: " in offline(lambda: files_of("cifar100", tmp_path))


def test_originals_must_exist_and_be_elsewhere(originals, tmp_path):
    message = offline(lambda: fetch("cifar100", tmp_path, originals=tmp_path / "no"))
    assert message.startswith("--from must be a file or folder that exists")
    message = offline(lambda: fetch("cifar100", tmp_path, originals=tmp_path / "cifar100"))
    assert message.startswith("--from must be a file or folder that exists")
    (tmp_path / "cifar100").mkdir()
    message = offline(lambda: fetch("cifar100", tmp_path, originals=tmp_path / "cifar100"))
    assert message.startswith("--from must not be the folder that is written")


def test_an_empty_folder_is_no_obstacle(originals, tmp_path):
    (tmp_path / "cifar100").mkdir()
    assert require("cifar100", fetch("cifar100", tmp_path, originals=originals).parent)


def test_a_helper_is_no_set():
    names = offline(lambda: require("download", "data"))
    assert names.startswith("data set must be one of ") and names.endswith(", got download")
    assert " cifar100," in names and " imagenet," in names
    assert offline(lambda: require("../x", "data")).endswith(", got ../x")


def test_sizes_stand_for_content_where_a_set_is_large(tmp_path):
    folder = tmp_path / "set"
    (folder / "train").mkdir(parents=True)
    (folder / "train" / "a.JPEG").write_bytes(b"abc")
    (folder / ".hidden").write_bytes(b"not part of it")
    listing = write_listing(folder, SIZE)
    assert (folder / "SIZES").read_text() == "3  train/a.JPEG\n"
    assert read_listing(folder, SIZE) == listing
    assert read_listing(folder, SHA256) is None
    assert list(listing.wrong(folder, ["train/a.JPEG"])) == []
    (folder / "train" / "a.JPEG").write_bytes(b"abcd")
    wrong = "has size in bytes 4, expected 3"
    assert list(listing.wrong(folder, ["train/a.JPEG"])) == [("train/a.JPEG", wrong)]


KILLED = """
import os, signal, sys
from tasks.data import cifar100, store
cifar100.NUM_IMAGES.update({counts})
point, data_dir, originals = sys.argv[1:]
save_split = cifar100.save_split
def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)
def first_only(folder, split, images, labels):
    (folder / "left_over.npy").write_bytes(b"of an attempt that was cut")
    save_split(folder, split, images, labels)
    die()
if point == "between files":
    cifar100.save_split = first_only
elif point == "before the list":
    store.write_listing = die
else:
    store._publish = die
store.fetch("cifar100", data_dir, originals=originals)
"""


@pytest.mark.parametrize("point", ["between files", "before the list", "before the renaming"])
def test_a_kill_is_never_taken_for_a_whole(originals, tmp_path, point):
    data_dir = tmp_path / "data"
    script = KILLED.replace("{counts}", repr(COUNTS))
    arguments = [sys.executable, "-c", script, point, str(data_dir), str(originals)]
    root = Path(place.__file__).parents[2]
    assert subprocess.run(arguments, cwd=root, check=False).returncode == -9
    partial = data_dir / ".cifar100.partial"
    assert (partial / "train_images.npy").exists()
    assert not (data_dir / "cifar100").exists()
    assert "is missing" in offline(lambda: require("cifar100", data_dir))
    assert content_hash("cifar100", data_dir=data_dir) == ""
    folder = fetch("cifar100", data_dir, originals=originals)
    assert sorted(path.name for path in folder.iterdir()) == ["SHA256SUMS", *FILES]
    assert not partial.exists()


def test_a_preparation_that_fails_leaves_no_set(originals, tmp_path, monkeypatch):
    data_dir = tmp_path / "data"
    (originals / "test.bin").write_bytes(b"damaged")
    message = offline(lambda: fetch("cifar100", data_dir, originals=originals))
    assert message.endswith("test.bin must hold whole records of 3074 bytes, got 7 bytes")
    assert not (data_dir / "cifar100").exists()
    monkeypatch.setattr(
        cifar100, "prepare", functools.partial(cifar100.prepare, num_images={"train": 7, "test": 4})
    )
    assert "must hold 7 images, got 6" in offline(
        lambda: fetch("cifar100", data_dir, originals=originals)
    )


def test_two_at_a_time_prepare_once(originals, tmp_path, monkeypatch):
    begun = []
    both = threading.Barrier(2, timeout=10)
    prepare, check = cifar100.prepare, place.Place.check_can_begin

    def counted(folder, originals):
        begun.append(folder)
        prepare(folder, originals)

    def meet(self, originals):
        check(self, originals)
        both.wait()  # neither has seen the other's set

    monkeypatch.setattr(cifar100, "prepare", counted)
    monkeypatch.setattr(place.Place, "check_can_begin", meet)
    threads = [
        threading.Thread(
            target=fetch, args=("cifar100", tmp_path / "data"), kwargs={"originals": originals}
        )
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(begun) == 1
    assert require("cifar100", tmp_path / "data", FILES)
