"""Batches of images in memory: what an epoch holds, how they are drawn and laid out."""

import math
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from tasks.models.tanh_cnn import TanhCNN
from tests.tasks import toy_images
from tests.tasks.batch_checks import assert_continues
from tests.tasks.toy_images import PLAIN, make, stored


@pytest.fixture
def ready(fake_sets):
    return partial(toy_images.ready, fake_sets)


def test_an_epoch_visits_every_image_once(ready, fake_sets):
    task, _ = ready(**PLAIN)
    batches = list(task.batches(0))
    assert [batch.num_samples for batch in batches] == [16] * 5 + [8]
    assert [(batch.epoch, batch.index) for batch in batches] == [(0, i) for i in range(6)]
    assert task.steps_per_epoch == 6
    images = stored(fake_sets, "cifar10", "train", "images", 88).double()
    mean, std = torch.tensor(task.mean).double(), torch.tensor(task.std).double()
    expected = ((images / 255 - mean) / std).permute(0, 3, 1, 2)
    found = torch.cat([batch.inputs for batch in batches])
    labels = torch.cat([batch.targets for batch in batches])
    # Every image differs from every other in its first pixels.
    places = (found[:, None, :, 0, 0] - expected[None, :, :, 0, 0]).abs().sum(2).argmin(1)
    assert sorted(places.tolist()) == list(range(88))
    assert places.tolist() != list(range(88))
    # mean and std are float32 in one of them, and sums are rounded differently.
    torch.testing.assert_close(found, expected[places], rtol=1e-6, atol=1e-6)
    wanted = stored(fake_sets, "cifar10", "train", "labels", 88)
    assert torch.equal(labels, wanted[places].long())


def test_an_augmented_image_is_a_view_of_the_image_with_its_label(ready, fake_sets):
    """Each is looked for among all crops of all images, as they are and mirrored."""
    task, _ = ready(num_train=20, mean=[0, 0, 0], std=[1, 1, 1])
    images = stored(fake_sets, "cifar10", "train", "images", 20)
    labels = stored(fake_sets, "cifar10", "train", "labels", 20)
    padded = F.pad(images, (0, 0, 4, 4, 4, 4))
    seen, views = [], set()
    for batch in task.batches(0):
        pixels = (batch.inputs * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        for image, label in zip(pixels, batch.targets, strict=True):
            found = [
                (number, top, left, side)
                for side, candidate in enumerate((image, image.flip(1)))
                for top in range(9)
                for left in range(9)
                for number in (padded[:, top : top + 32, left : left + 32] == candidate)
                .flatten(1)
                .all(1)
                .nonzero()[:, 0]
                .tolist()
            ]
            ((number, *view),) = found
            assert label == labels[number]
            seen.append(number)
            views.add(tuple(view))
    assert sorted(seen) == list(range(20))
    # 20 draws out of 162 views meet 1.2 times on average.
    assert len(views) >= 15


@pytest.mark.parametrize("start", [0, 1, 3, 5, 6])
def test_batches_resume_anywhere(ready, start):
    task, _ = ready()
    whole = list(task.batches(3))
    assert len(whole) == 6
    assert_continues(task, whole, 3, start)


def test_epochs_steps_and_seeds_differ(ready):
    task, _ = ready()
    labels = torch.cat([batch.targets for batch in task.batches(0)])
    assert not torch.equal(labels, torch.cat([batch.targets for batch in task.batches(1)]))
    other, _ = ready(seed=1)
    assert not torch.equal(labels, torch.cat([batch.targets for batch in other.batches(0)]))


def test_the_same_images_are_seen_differently_in_each_step(ready):
    """With one and the same picture everywhere only crops and mirror images are left to differ."""
    task, _ = ready()
    task._train.images.copy_(task._train.images[:1].clone())
    first, second, *_ = task.batches(0)
    assert not torch.equal(first.inputs, second.inputs)
    assert not torch.equal(first.inputs, next(task.batches(1)).inputs)
    assert len(torch.unique(first.inputs, dim=0)) > 8
    other, _ = ready(seed=1)
    other._train.images.copy_(other._train.images[:1].clone())
    task._train.images.copy_(other._train.images)
    assert not torch.equal(next(other.batches(0)).inputs, next(task.batches(0)).inputs)


def test_the_rest_of_an_epoch_can_be_dropped(ready):
    task, _ = ready(drop_last=True)
    assert task.steps_per_epoch == 5
    assert [batch.num_samples for batch in task.batches(0)] == [16] * 5
    with pytest.raises(ValueError, match=r"batch_size must be <= 88, the training .* got 89"):
        ready(drop_last=True, batch_size=89)
    task, _ = ready(drop_last=False, batch_size=89)
    assert [batch.num_samples for batch in task.batches(0)] == [88]


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_layout_changes_no_value(ready, channels_last):
    task, model = ready(channels_last=channels_last)
    other, _ = ready(channels_last=not channels_last)
    batch = next(task.batches(0))
    assert torch.equal(batch.inputs, next(other.batches(0)).inputs)
    assert batch.inputs.is_contiguous() != channels_last
    assert batch.inputs.is_contiguous(memory_format=torch.channels_last) == channels_last
    task.backward(model, batch)
    assert all(p.grad.is_contiguous() for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_images_take_the_dtype_of_the_model(fake_sets, dtype):
    task = make(data_dir=fake_sets)
    task.setup("cpu", dtype)
    batch = next(task.batches(0))
    assert batch.inputs.dtype == dtype and batch.targets.dtype == torch.int64
    model = task.build_model().to(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.float32):
        assert task.backward(model, batch).isfinite()
        assert math.isfinite(task.evaluate(model, "test")["loss"])


def test_gray_images_have_one_channel(fake_sets):
    changes = {"mean": [0.1], "std": [0.3], "model": partial(TanhCNN, (1, 28, 28), 3, 4, 1, 10)}
    task = make(data_dir=fake_sets, data="mnist", **PLAIN, **changes)
    task.setup("cpu", torch.float32)
    batch = next(task.batches(0))
    assert batch.inputs.shape == (16, 1, 28, 28)
    assert task.loss(task.build_model(), batch).isfinite()
