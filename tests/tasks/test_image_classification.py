"""Image classification: losses, evaluation, commands, and the real sets where they are."""

import math
import os
from functools import partial
from pathlib import Path

import hydra
import pytest
import torch
from hydra.utils import instantiate
from torch.nn import functional as F

from tasks.models.resnet_cifar import ResNetCIFAR
from tests.commands import CONF, command
from tests.tasks import toy_images
from tests.tasks.toy_images import make, resnet, stored

PARAMETERS = {
    "mnist_cnn_small": 322,
    "mnist_cnn_large": 139_370,
    "cifar10_cnn_small": 466,
    "cifar10_cnn_large": 140_906,
    "cifar10_resnet32": 461_882,
    "cifar100_resnet56": 854_804,
}


@pytest.fixture
def ready(fake_sets):
    return partial(toy_images.ready, fake_sets)


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
