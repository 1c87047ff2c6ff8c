"""Images in folders by class: what is listed, what a view shows, what comes out of the workers."""

import gc
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.data import image_folder
from tasks.data.image_folder import find_splits, read_batches, read_image
from tasks.data.store import DataError
from tasks.data.views import CentreCrop, RandomCrop, random_box
from tasks.models.torchvision_ops import import_torchvision
from tasks.seeding import seeded

SIZES = ((40, 30), (33, 50), (64, 64), (25, 80))
VIEW = RandomCrop(16, 0.1, 1.25)


def picture(width, height, seed=0):
    """Smooth enough that JPEG keeps it, different everywhere."""
    y, x = np.mgrid[:height, :width]
    pixels = [127 + 120 * np.sin(x / (3 + c) + y / (5 - c) + seed) for c in range(3)]
    return Image.fromarray(np.stack(pixels, -1).astype(np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes of JPEG files; one is gray."""
    root = tmp_path_factory.mktemp("photos")
    for split, count in (("train", 8), ("val", 3)):
        for label, name in enumerate(("ant", "bee", "cat")):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                image = picture(*SIZES[i % 4], seed=10 * label + i)
                image = image.convert("L") if (split, i) == ("train", 5) else image
                image.save(root / split / name / f"{i}.JPEG")
    return root


def files_below(folder):
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*.JPEG")]


@pytest.fixture(scope="module")
def splits(folder):
    return find_splits(folder, files_below(folder), ("train", "val"))[0]


def read(split, numbers, num_workers=0, key=(0, 0), view=VIEW):
    return list(read_batches(split, view, key, np.asarray(numbers), num_workers))


# ---------------------------------------------------------------- what is listed


def test_images_are_sorted_and_labelled_by_their_folders(folder):
    files = [*sorted(files_below(folder), reverse=True), "README.txt", "test/x.JPEG"]
    splits, classes = find_splits(folder, files, ("train", "val"))
    assert classes == ("ant", "bee", "cat")
    assert len(splits["train"]) == 24 and len(splits["val"]) == 9
    assert splits["train"].labels.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    assert splits["val"].path(4) == folder / "val" / "bee" / "1.JPEG"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["train/a/1.JPEG"], "/val must hold images in folders by class, got none"),
        (["train/a/1.JPEG", "val/b/1.JPEG"], "/val/b must be one of the classes of train"),
        (["train/1.JPEG", "val/a/1.JPEG"], "/train/1.JPEG must lie in a folder named as its class"),
        (["train/a/b/1.JPEG"], "/train/a/b/1.JPEG must lie in a folder named as its class"),
    ],
)
def test_folders_that_do_not_fit_are_refused(files, message):
    with pytest.raises(DataError, match=message):
        find_splits(Path("/set"), files, ("train", "val"))


# ---------------------------------------------------------------- what a view shows


def test_random_parts_are_uniform_and_inside():
    generator = torch.Generator().manual_seed(0)
    width, height, least, most = 400, 300, 0.2, 1.25
    boxes = [random_box(width, height, least, most, generator) for _ in range(4000)]
    left, upper, right, lower = torch.tensor(boxes, dtype=torch.float64).T
    assert left.min() >= 0 and upper.min() >= 0 and right.max() <= width and lower.max() <= height
    w, h = right - left, lower - upper
    share, aspect = w * h / (width * height), w / h
    # Sides are rounded to pixels: 1 of 150 or so.
    assert least * 0.98 < share.min() and share.max() <= 1
    assert 1 / most * 0.98 < aspect.min() and aspect.max() < most * 1.02
    # Parts that are larger than the image are drawn anew, so only smaller ones are uniform: here
    # up to a share of 0.6. Sigma of a quarter of 2,000 uniform numbers or so: 0.01.
    small = share[share < 0.6]
    for k in range(4):
        inside = (small >= 0.2 + 0.1 * k) & (small < 0.3 + 0.1 * k)
        assert inside.double().mean().item() == pytest.approx(0.25, abs=0.04)
    tilt = aspect[share < 0.6].log() / torch.tensor(most).log()
    assert tilt.mean().abs() < 0.05  # sigma 0.013
    # The corner is uniform in what is left of the image.
    free = width - w > 50
    place = left[free] / (width - w[free])
    assert place.mean().item() == pytest.approx(0.5, abs=0.03)  # sigma 0.006
    assert place.var().item() == pytest.approx(1 / 12, abs=0.01)  # sigma 0.0015


@pytest.mark.parametrize(("size", "box"), [((1000, 10), (494, 0, 506, 10)), ((1, 9), (0, 4, 1, 5))])
def test_an_image_without_such_a_part_gives_its_middle(size, box):
    assert random_box(*size, 1.0, 1.25, torch.Generator()) == box


@pytest.mark.parametrize("size", SIZES)
def test_a_random_crop_is_torchvisions_on_the_same_part(size):
    functional = import_torchvision().transforms.functional
    image, mirrored = picture(*size), set()
    for seed in range(8):
        shown = VIEW(image, seeded(seed))
        generator = seeded(seed)
        mirror = torch.rand((), generator=generator).item() < 0.5
        left, upper, right, lower = random_box(*size, 0.1, 1.25, generator)
        box = (upper, left, lower - upper, right - left)
        expected = functional.resized_crop(image, *box, [16, 16])
        expected = functional.hflip(expected) if mirror else expected
        assert np.array_equal(np.asarray(shown), np.asarray(expected))
        mirrored.add(mirror)
    assert mirrored == {False, True}


@pytest.mark.parametrize("size", [*SIZES, (500, 375), (375, 500), (224, 224)])
def test_a_centre_crop_is_torchvisions(size):
    transforms = import_torchvision().transforms
    for side, resized in ((16, 18), (224, 255)):
        both = transforms.Compose([transforms.Resize(resized), transforms.CenterCrop(side)])
        shown = CentreCrop(side, resized)(picture(*size), torch.Generator())
        assert np.array_equal(np.asarray(shown), np.asarray(both(picture(*size))))


# ---------------------------------------------------------------- what comes out of the workers


def test_numbers_do_not_depend_on_the_workers(splits):
    numbers = np.arange(24).reshape(6, 4)
    alone = read(splits["train"], numbers)
    assert [pixels.shape for pixels, _ in alone] == [(4, 16, 16, 3)] * 6
    assert torch.cat([labels for _, labels in alone]).tolist() == splits["train"].labels.tolist()
    for num_workers in (1, 2):
        for a, b in zip(alone, read(splits["train"], numbers, num_workers), strict=True):
            assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])


def test_a_job_of_joblib_has_workers_as_well(splits):
    # Sweeps and experiments run in such jobs, whose processes are of another kind.
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor

    def one_job():
        return [pixels for pixels, _ in read(splits["train"], [[0, 3]], 1)]

    try:
        (found,), *_ = Parallel(n_jobs=2)(delayed(one_job)() for _ in range(2))
    finally:
        get_reusable_executor().shutdown()  # its processes would stay for the next job
    assert torch.equal(found, read(splits["train"], [[0, 3]])[0][0])


def test_a_view_follows_from_the_key_and_the_image(splits):
    whole = read(splits["train"], [[0, 1], [2, 3]])
    again = read(splits["train"], [[3, 0]])[0][0]
    assert torch.equal(again, torch.stack([whole[1][0][1], whole[0][0][0]]))
    for key in ((0, 1), (1, 0)):
        assert not torch.equal(read(splits["train"], [[3, 0]], key=key)[0][0], again)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_reading_leaves_the_global_generators_alone(splits, num_workers):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    read(splits["train"], [[0, 1]], num_workers)
    assert torch.equal(torch.get_rng_state(), before)


def open_files():
    """What the open descriptors of this process are; the listing's own has gone by then."""
    links = list(Path("/proc/self/fd").iterdir())
    return {str(link.readlink()) for link in links if link.is_symlink()}


@pytest.mark.parametrize("whole", [True, False], ids=["read to the end", "dropped"])
def test_workers_end_and_leave_no_file_open(splits, whole):
    read(splits["train"], [[0]], 1)  # what multiprocessing opens once and keeps
    before = open_files()
    batches = read_batches(splits["train"], VIEW, (0, 0), np.arange(24).reshape(12, 2), 1)
    next(batches)
    assert len(multiprocessing.active_children()) == 1
    if whole:
        assert len(list(batches)) == 11
    del batches
    assert multiprocessing.active_children() == []
    end = time.monotonic() + 20  # a queue's thread closes its end of the pipe in its own time
    while not open_files() <= before and time.monotonic() < end:
        gc.collect()
        time.sleep(0.01)
    assert open_files() <= before


def test_a_signal_to_all_leaves_the_workers_to_their_parent(splits):
    """Ctrl-C reaches the workers too, but the parent needs its batch to finish the step."""
    batches = read_batches(splits["train"], VIEW, (0, 0), np.arange(24).reshape(12, 2), 1)
    next(batches)
    (worker,) = multiprocessing.active_children()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(worker.pid, number)
    assert len(list(batches)) == 11


def test_a_worker_that_is_told_to_end_does_so_a_little_later(splits, monkeypatch):
    monkeypatch.setattr(image_folder, "_GRACE_SECONDS", 1)
    batches = read_batches(splits["train"], VIEW, (0, 0), np.arange(24).reshape(12, 2), 1)
    next(batches)
    (worker,) = multiprocessing.active_children()
    with pytest.raises(RuntimeError, match="DataLoader worker"):  # torch says so at any moment
        worker.terminate()
        worker.join(30)
        list(batches)
    worker.join(30)
    assert worker.exitcode == -signal.SIGALRM


def test_gray_images_have_three_equal_channels(splits):
    pixels = np.asarray(read_image(splits["train"].path(5)))
    assert pixels.shape == (50, 33, 3)
    assert (pixels == pixels[:, :, :1]).all()


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "missing"])
def test_a_damaged_file_is_one_line_with_its_name(folder, tmp_path, damage, num_workers):
    path = tmp_path / "train" / "ant" / "0.JPEG"
    path.parent.mkdir(parents=True)
    content = (folder / "train" / "ant" / "0.JPEG").read_bytes()
    kept = {"truncated": content[:-200], "empty": b"", "text": b"no image", "missing": None}[damage]
    if kept is not None:
        path.write_bytes(kept)
    splits, _ = find_splits(tmp_path, ["train/ant/0.JPEG"], ("train",))
    with pytest.raises(DataError) as error:
        read(splits["train"], [[0]], num_workers)
    assert multiprocessing.active_children() == []
    assert str(error.value).startswith(f"{path} must be an image that can be read: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_scale": 0.0}, "min_scale must be > 0 and <= 1, got 0.0"),
        ({"min_scale": 1.5}, "min_scale must be > 0 and <= 1, got 1.5"),
        ({"max_aspect": 0.8}, "max_aspect must be >= 1, got 0.8"),
    ],
)
def test_parts_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        RandomCrop(**{"size": 16, "min_scale": 0.1, "max_aspect": 1.25, **changes})
