"""Image classification: batches, evaluation, losses, and the real sets where they are."""

import math
import os
from functools import partial
from pathlib import Path

import hydra
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from torch.nn import functional as F

from tasks.base import Target
from tasks.image_classification import ImageClassification
from tasks.models.resnet_cifar import ResNetCIFAR
from tasks.models.tanh_cnn import TanhCNN
from tests.commands import CONF, command

PARAMETERS = {
    "mnist_cnn_small": 322,
    "mnist_cnn_large": 139_370,
    "cifar10_cnn_small": 466,
    "cifar10_cnn_large": 140_906,
    "cifar10_resnet32": 461_882,
    "cifar100_resnet56": 854_804,
}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def resnet(num_classes=10):
    return partial(ResNetCIFAR, 8, num_classes, width=2)


def make(data_dir="unused", **changes):
    options = {
        "seed": 0,
        "data": "cifar10",
        "data_dir": str(data_dir),
        "target": Target("accuracy", "test", "max", 0.5),
        "max_steps": 3,
        "batch_size": 16,
        "evaluate_at": 1,
        "eval_splits": ["train", "test"],
        "model": resnet(),
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.3, 0.4],
        "pad": 4,
        "flip": True,
        "label_smoothing": 0.0,
        "eval_batch_size": 32,
        "eval_train": 40,
        "num_train": 88,
        "num_test": 60,
    }
    return ImageClassification(**{**options, **changes})


@pytest.fixture
def ready(fake_sets):
    """Makes a task on generated images, and its model, in float64."""

    def of(**changes):
        task = make(data_dir=fake_sets, **changes)
        task.setup("cpu", torch.float64)
        return task, task.build_model().double()

    return of


def stored(sets, name, split, kind, count=None):
    return torch.from_numpy(np.load(sets / name / f"{split}_{kind}.npy")[:count])


PLAIN = {"pad": 0, "flip": False}


# ---------------------------------------------------------------- batches


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
    torch.manual_seed(9)
    state = torch.get_rng_state()
    again = list(task.batches(3, start))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(again) == 6 - start
    for batch, expected in zip(again, whole[start:], strict=True):
        assert torch.equal(batch.inputs, expected.inputs)
        assert torch.equal(batch.targets, expected.targets)
        assert (batch.epoch, batch.index) == (3, expected.index)


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


# ---------------------------------------------------------------- losses and evaluation


@pytest.mark.parametrize(("data", "num_classes"), [("cifar10", 10), ("cifar100_20k", 100)])
def test_the_first_loss_is_the_log_of_the_number_of_classes(ready, data, num_classes):
    task, model = ready(data=data, model=resnet(num_classes))
    batch = next(task.batches(0))
    # Xavier's start without normalisation gives logits well below 1.
    assert task.loss(model, batch).item() == pytest.approx(math.log(num_classes), rel=0.1)
    torch.nn.init.zeros_(model.readout.weight)
    assert task.loss(model, batch).item() == pytest.approx(math.log(num_classes), rel=1e-14)
    found = task.evaluate(model, "test")["loss"]
    assert found == pytest.approx(math.log(num_classes), rel=1e-14)


def test_label_smoothing_spreads_the_target_in_training_alone(ready):
    task, model = ready(label_smoothing=0.2)
    batch = next(task.batches(0))
    logs = model(batch.inputs).log_softmax(1)
    wanted = 0.8 * F.one_hot(batch.targets, 10).double() + 0.2 / 10
    expected = -(wanted * logs).sum(1).mean().item()
    assert task.loss(model, batch).item() == pytest.approx(expected, rel=1e-12)
    plain, _ = ready()
    assert task.evaluate(model, "test") == plain.evaluate(model, "test")


def by_hand(model, sets, split, count):
    """Loss and accuracy, one image at a time."""
    images = stored(sets, "cifar10", split, "images", count).double()
    labels = stored(sets, "cifar10", split, "labels", count).long()
    mean, std = (torch.tensor(x, dtype=torch.float64) for x in ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]))
    losses, right = [], 0
    for image, label in zip(images, labels, strict=True):
        logits = model(((image / 255 - mean) / std).permute(2, 0, 1)[None])[0]
        losses.append((logits.logsumexp(0) - logits[label]).item())
        right += int(logits.argmax() == label)
    return math.fsum(losses) / count, right / count


@pytest.mark.parametrize(("split", "count"), [("train", 40), ("test", 60)])
@pytest.mark.parametrize("eval_batch_size", [1, 7, 1000])
def test_evaluation_sees_every_image_once_and_as_it_is(
    ready, fake_sets, split, count, eval_batch_size
):
    task, model = ready(eval_batch_size=eval_batch_size)
    with torch.no_grad():
        loss, accuracy = by_hand(model, fake_sets, split, count)
    found = task.evaluate(model, split)
    assert found["loss"] == pytest.approx(loss, rel=1e-12)
    assert found["accuracy"] == accuracy
    assert found.keys() == {"loss", "accuracy"}


def test_evaluation_leaves_no_trace(ready):
    task, model = ready(model=partial(ResNetCIFAR, 8, 10, "batch", 2))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    found = task.evaluate(model, "test")
    assert task.evaluate(model, "test") == found
    assert model.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    task.backward(model, next(task.batches(0)))
    assert task.evaluate(model, "test") != found  # BatchNorm's statistics have moved


def test_all_training_images_can_be_evaluated(ready):
    task, model = ready(eval_train=None)
    whole = task.evaluate(model, "train")
    other, _ = ready(eval_train=1000)
    assert other.evaluate(model, "train") == whole
    assert ready()[0].evaluate(model, "train") != whole


def test_a_sample_is_an_image(ready):
    """The batch's gradient is the weighted sum of the gradients of its images alone."""
    task, model = ready()
    batch = next(task.batches(0))
    with task.curvature_pass(batch) as info:
        task.backward(model, batch)
    assert (info.num_samples, info.batch_dim) == (16, 0)
    assert info.weights.sum().item() == pytest.approx(1, rel=1e-6)
    parameters = list(model.parameters())
    total = [torch.zeros_like(p) for p in parameters]
    for image, label, weight in zip(batch.inputs, batch.targets, info.weights, strict=True):
        loss = F.cross_entropy(model(image[None]), label[None])
        for t, g in zip(total, torch.autograd.grad(loss, parameters), strict=True):
            t += weight * g
    for t, p in zip(total, parameters, strict=True):
        torch.testing.assert_close(p.grad, t, rtol=1e-9, atol=1e-12)


# ---------------------------------------------------------------- the commands


@pytest.mark.parametrize("task", PARAMETERS)
def test_the_papers_sizes_are_known_without_data(task, tmp_path, monkeypatch):
    monkeypatch.setenv("KAPPA_DATA", str(tmp_path / "nothing"))
    result = command(f"task={task}", "scale=paper", "dry_run=true", f"runs_dir={tmp_path}")
    assert result.code == 0, result.err
    assert f"parameters={PARAMETERS[task]}\n" in result.out
    assert "time unknown" in result.out


def test_papers_sets_and_budgets():
    def at(scale, task):
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            return hydra.compose("config", [f"task={task}", f"scale={scale}"]).task

    for task, data in (("cifar10_resnet32", "cifar10"), ("cifar100_resnet56", "cifar100")):
        config = at("paper", task)
        assert (config.data, config.batch_size, config.max_steps) == (data, 128, 250 * 391)
        assert (config.pad, config.flip) == (4, True)
    assert at("small", "cifar100_resnet56").data == "cifar100_20k"
    for task in PARAMETERS:
        assert at("small", task).num_train is None and at("paper", task).num_test is None


@pytest.mark.parametrize("optimizer", ["ng_plus", "kfac", "kradagrad_star"])
@pytest.mark.parametrize("task", ["cifar10_resnet32", "mnist_cnn_small"])
def test_methods_that_need_samples_run(task, optimizer, sets_dir, tmp_path):
    asked = (f"task={task}", f"optimizer={optimizer}", "scale=smoke", f"runs_dir={tmp_path}")
    result = command(*asked, "task.channels_last=true", sets_dir=sets_dir)
    assert result.code == 0, result.err
    assert "finished" in result.out


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "ptb"}, "data must be one of mnist, cifar10, cifar100, cifar100_20k, got ptb"),
        ({"pad": -1}, "pad must be >= 0, got -1"),
        ({"flip": 1}, "flip must be true or false, got 1"),
        ({"drop_last": "no"}, "drop_last must be true or false, got no"),
        ({"label_smoothing": 1.0}, "label_smoothing must be >= 0 and < 1, got 1.0"),
        ({"eval_batch_size": 0}, "eval_batch_size must be >= 1, got 0"),
        ({"eval_batch_size": None}, "eval_batch_size must be an integer, got None"),
        ({"eval_train": 0}, "eval_train must be >= 1, got 0"),
        ({"num_train": 0}, "num_train must be >= 1, got 0"),
        ({"num_test": 2.5}, "num_test must be an integer, got 2.5"),
        (
            {"mean": [0.1]},
            "mean must have a number for each of the 3 channels of cifar10, got [0.1]",
        ),
        ({"std": [0.1, 0.0, 0.1]}, "std must be > 0, got [0.1, 0.0, 0.1]"),
        ({"eval_splits": ["valid"]}, "split must be one of train, test for ImageClassification, "),
    ],
)
def test_bad_options_are_named(changes, message):
    with pytest.raises(ValueError) as error:
        make(**changes)
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("task", "override", "message"),
    [
        ("cifar10_resnet32", "num_classes=9", "must give 10 logits an image of cifar10, got shape"),
        ("cifar10_resnet32", "depth=9", "depth must be 6 k + 2 with k >= 1, got 9"),
        ("mnist_cnn_small", "image_shape=[3,28,28]", "model must take images of mnist, got: "),
        ("mnist_cnn_small", "image_shape=[1,32,32]", "model must take images of mnist, got: "),
    ],
)
def test_a_model_that_does_not_fit_is_refused_in_one_line(
    task, override, message, sets_dir, tmp_path
):
    runs_dir = tmp_path / "runs"
    asked = (f"task={task}", f"task.model.{override}", "scale=smoke", f"runs_dir={runs_dir}")
    result = command(*asked, sets_dir=sets_dir)
    assert result.code == 2
    assert message in result.err
    assert len(result.err.splitlines()) == 1
    assert not runs_dir.exists()


# ---------------------------------------------------------------- the real sets


@pytest.mark.parametrize(
    ("name", "off"),
    [
        ("mnist_cnn_small", 0.01),
        ("cifar10_cnn_small", 0.01),
        ("cifar100_resnet56", 0.05),  # the code's deviations are another's; 40 % of the images
        ("cifar10_resnet32", 0.2),  # ImageNet's values
    ],
)
def test_images_are_normalised_by_their_own_mean_and_deviation(name, off):
    data_dir = Path(os.environ.get("KAPPA_DATA", "data")).absolute()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("config", [f"task={name}", f"data_dir={data_dir}"])
    if not (data_dir / config.task.data).is_dir():
        pytest.skip(f"{config.task.data} is not there; set KAPPA_DATA to the folder of data sets")
    task = instantiate(config.task)
    task.setup("cpu", torch.float32)
    # Of 10,000 images: their mean is off by about .01 deviations, as pixels of one are alike.
    pixels = task._normalization(task._pixels["train"][:10_000])
    assert pixels.mean((0, 2, 3)).abs().max().item() < off + 0.02
    assert (pixels.std((0, 2, 3)) - 1).abs().max().item() < off + 0.02
