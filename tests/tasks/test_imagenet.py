"""Classification of photographs in folders: loss, batches, evaluation, bad options."""

import itertools
import math

import hydra
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from optimizers.capture.record import find_layers, record_calls
from tests.tasks.small_imagenet import make, ready

# ---------------------------------------------------------------- the loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_each_wrong_class_has_its_share_of_the_smoothed_target(sets_dir, fake_sets, smoothing):
    task, model = ready(sets_dir, f"task.label_smoothing={smoothing}")
    batch = next(task.batches(0))
    target = torch.full((8, 50), smoothing / 49, dtype=torch.float64)
    target[torch.arange(8), batch.targets] = 1 - smoothing
    state = {name: value.clone() for name, value in model.state_dict().items()}
    expected = -(target * model(batch.inputs).log_softmax(1)).sum(1).mean()
    model.load_state_dict(state)
    # Sums of 50 float64 numbers in another order.
    torch.testing.assert_close(task.loss(model, batch), expected, rtol=1e-12, atol=0)


def test_a_read_out_of_zeros_has_the_loss_of_chance(sets_dir, fake_sets):
    task, model = ready(sets_dir)
    nn.init.zeros_(model.fc.weight)
    nn.init.zeros_(model.fc.bias)
    loss = task.loss(model, next(task.batches(0))).item()
    assert loss == pytest.approx(math.log(50), rel=1e-12)
    assert task.evaluate(model, "val")["loss"] == pytest.approx(math.log(50), rel=1e-12)


def test_a_sample_is_an_image(sets_dir, fake_sets):
    task, model = ready(sets_dir)
    model.eval()  # so that images do not share statistics
    batch = next(task.batches(0))
    with task.curvature_pass(batch) as info:
        losses = F.cross_entropy(
            model(batch.inputs), batch.targets, reduction="none", label_smoothing=0.1 * 50 / 49
        )
    assert (info.num_samples, info.batch_dim) == (8, 0)
    # The weights are float32.
    torch.testing.assert_close(
        (info.weights * losses).sum(), task.loss(model, batch), rtol=1e-6, atol=0
    )


def test_samples_that_share_statistics_still_add_up_to_the_gradient(sets_dir, fake_sets):
    """What the losses of all images say of one image's activations is counted as its own."""
    task, model = ready(sets_dir)
    batch = next(task.batches(0))
    for block in (model.layer1[0], model.layer4[0]):
        nn.init.constant_(block.bn3.weight, 0.5)  # it starts at 0, which lets nothing through
    layers = find_layers(model, list(model.parameters()))
    assert len(layers) == 18  # 17 convolutions and the read-out
    with (
        task.curvature_pass(batch) as info,
        record_calls(layers, info.num_samples, info.batch_dim, info.weights.double()) as recording,
    ):
        task.backward(model, batch)
    for layer in layers:
        parts = recording.samples(layer, dtype=torch.float64)
        total = sum(part.gradients().sum(0) for part in parts) / 8
        grads = [p.grad.reshape(layer.shape[0], -1) for p in layer.parameters]
        expected = torch.cat(grads, dim=1)
        # Sums over images and positions in another order.
        torch.testing.assert_close(total, expected, rtol=1e-8, atol=1e-12)


# ---------------------------------------------------------------- the batches


def assert_same_batches(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert (a.epoch, a.index, a.num_samples) == (b.epoch, b.index, b.num_samples)
        assert torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets)


def test_batches_are_a_function_of_seed_and_epoch(sets_dir, fake_sets):
    task, _ = ready(sets_dir)
    whole = list(task.batches(0))
    assert len(whole) == task.steps_per_epoch == 200 // 8
    assert whole[0].inputs.shape == (8, 3, 32, 32) and whole[0].inputs.dtype == torch.float64
    assert torch.cat([b.targets for b in whole]).bincount().tolist() == [4] * 50
    assert_same_batches(whole[19:], task.batches(0, start=19))
    workers, _ = ready(sets_dir, "task.num_workers=2")
    assert_same_batches(whole[19:], workers.batches(0, start=19))
    other, _ = ready(sets_dir, "seed=1")
    for different in (next(task.batches(1)), next(other.batches(0))):
        assert not torch.equal(different.targets, whole[0].targets)


def test_images_that_do_not_fill_a_batch_are_left_out(sets_dir, fake_sets):
    task, _ = ready(sets_dir, "task.batch_size=64")
    assert [b.num_samples for b in task.batches(0)] == [64] * 3


def test_pixels_are_normalised(sets_dir, fake_sets):
    task, _ = ready(sets_dir, "task.eval_val=1")
    (pixels, _), *_ = task._read(task._images["val"], task.views["eval"], (), [np.array([0])])
    plain, _ = ready(sets_dir, "task.mean=[0,0,0]", "task.std=[1,1,1]")
    (share, _), *_ = plain._read(task._images["val"], task.views["eval"], (), [np.array([0])])
    mean, std = (torch.tensor(x).double().view(3, 1, 1) for x in (task.mean, task.std))
    # float32 constants of the test, against float64 ones.
    torch.testing.assert_close(pixels, (share - mean) / std, rtol=1e-5, atol=1e-6)
    assert 0.4 < share.mean() < 0.6 and share.min() >= 0 and share.max() <= 1


# ---------------------------------------------------------------- evaluation


def test_evaluation_is_that_of_each_image_alone(sets_dir, fake_sets):
    task, model = ready(sets_dir, "task.eval_batch_size=7", "task.eval_val=null")
    for batch in itertools.islice(task.batches(0), 3):  # statistics that are not 0 and 1
        model(batch.inputs)
    model.eval()
    loss, nll, top1, top5 = 0.0, 0.0, 0, 0
    images = task._images["val"]
    singles = np.arange(len(images))[:, None]
    for inputs, label in task._read(images, task.views["eval"], (), singles):
        with torch.no_grad():
            scores = model(inputs).log_softmax(1)[0]
        nll -= scores[label].item()
        wrong = (scores.sum() - scores[label]).item()
        loss -= 0.9 * scores[label].item() + 0.1 / 49 * wrong
        better = (scores > scores[label]).sum()
        top1, top5 = top1 + int(better == 0), top5 + int(better < 5)
    metrics = task.evaluate(model, "val")
    assert metrics["loss"] == pytest.approx(loss / 100, rel=1e-9)
    assert metrics["nll"] == pytest.approx(nll / 100, rel=1e-9)
    assert (metrics["accuracy"], metrics["accuracy_top5"]) == (top1 / 100, top5 / 100)
    assert top5 > top1


def test_evaluated_images_are_spread_over_the_classes(sets_dir, fake_sets):
    task, model = ready(sets_dir, "task.eval_train=50", "task.eval_batch_size=50")
    seen = []
    model.register_forward_hook(lambda _, inputs, out: seen.append(inputs[0]))
    task.evaluate(model, "train")
    assert [len(x) for x in seen] == [50]
    images = task._images["train"]
    expected = task._read(images, task.views["eval"], (), [np.arange(0, 200, 4)])
    assert torch.equal(seen[0], next(expected)[0])


# ---------------------------------------------------------------- bad options


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("num_classes=49", "num_classes must be 50, the classes of tiny_imagenet_50, got 49"),
        ("batch_size=201", "batch_size must be <= 200, the training images, got 201"),
    ],
)
def test_options_that_do_not_fit_the_set_are_named(sets_dir, fake_sets, change, message):
    with pytest.raises(ValueError, match=message):
        ready(sets_dir, f"task.{change}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data=cifar10", "data must be one of imagenet, tiny_imagenet_50, got cifar10"),
        ("num_classes=1", "num_classes must be >= 2, got 1"),
        ("image_size=0", "image_size must be >= 1, got 0"),
        ("min_scale=0", "min_scale must be > 0 and <= 1, got 0"),
        ("max_aspect=0.5", "max_aspect must be >= 1, got 0.5"),
        ("eval_resize=0.9", "eval_resize must be >= 1, got 0.9"),
        ("label_smoothing=0.99", "label_smoothing must be >= 0 and <= 0.98, got 0.99"),
        ("eval_val=0", "eval_val must be >= 1, got 0"),
        ("eval_batch_size=0", "eval_batch_size must be >= 1, got 0"),
        ("num_workers=-1", "num_workers must be >= 0, got -1"),
        ("mean=[0.5]", r"mean must have a number for each of the 3 channels, got \[0.5\]"),
        ("std=[1,1,0]", r"std must be > 0, got \[1, 1, 0\]"),
    ],
)
def test_bad_options_are_named(change, message):
    with pytest.raises(hydra.errors.InstantiationException, match=message):
        make(f"task.{change}")
