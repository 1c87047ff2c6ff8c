"""ResNet-50 on folders of photographs: model, loss, batches, evaluation, and whole runs."""

import itertools
import math
import os
import signal
from pathlib import Path

import hydra
import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from torch import nn
from torch.nn import functional as F

from optimizers.capture.record import find_layers, record_calls
from runners.records import read_manifest
from tasks.data.store import DataError
from tasks.models.resnet_imagenet import ResNetImageNet
from tasks.models.torchvision_ops import import_torchvision
from tests.commands import CONF, assert_same_run, command, start, the_run, wait_until


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def compose(*overrides, scale="smoke"):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config", ["task=imagenet_resnet50", f"scale={scale}", *overrides])


def make(*overrides, scale="smoke"):
    return instantiate(compose(*overrides, scale=scale).task)


def ready(sets_dir, *overrides, dtype=torch.float64):
    task = make(f"task.data_dir={sets_dir}", *overrides)
    task.setup("cpu", dtype)
    return task, task.build_model().to(dtype)


# ---------------------------------------------------------------- the model


def test_at_scale_paper_the_model_is_torchvisions():
    task = make(scale="paper")
    model = task.build_model()
    assert sum(p.numel() for p in model.parameters()) == 25_557_032
    torch.manual_seed(task.seed)
    theirs = import_torchvision().models.resnet50(zero_init_residual=True)
    ours, expected = model.state_dict(), theirs.state_dict()
    assert list(ours) == list(expected)
    assert all(torch.equal(ours[name], expected[name]) for name in expected)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for mode in (True, False):
            assert torch.equal(model.train(mode)(images), theirs.train(mode)(images))


def test_a_block_starts_as_its_shortcut():
    torch.manual_seed(0)
    model = ResNetImageNet(10, width=8, num_blocks=(2, 1, 1, 1))
    x = torch.randn(2, 32, 5, 5).relu()
    assert torch.equal(model.layer1[1](x), x)
    weight = model.layer4[0].conv2.weight
    # The variance of 36,864 normal numbers is off by 0.7 % (one sigma).
    assert weight.var().item() == pytest.approx(2 / (9 * 64), rel=0.03)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 0}, "num_classes must be >= 1, got 0"),
        ({"width": 0}, "width must be >= 1, got 0"),
        ({"num_blocks": (3, 4, 6)}, r"num_blocks must be four integers >= 1, got \[3, 4, 6\]"),
        ({"num_blocks": (3, 4, 0, 3)}, r"num_blocks must be four integers >= 1, got \[3, 4, 0, 3"),
    ],
)
def test_sizes_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ResNetImageNet(**{"num_classes": 10, **changes})


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


# ---------------------------------------------------------------- bad input


def damaged(sets_dir, tmp_path, change):
    """A copy of the set whose committed list agrees with what `change` made of it."""
    import shutil

    from tasks.data.store import sha256

    root = tmp_path / "sets"
    shutil.copytree(sets_dir / "tiny_imagenet_50", root / "tiny_imagenet_50")
    change(root / "tiny_imagenet_50")
    files = sorted(path for path in root.rglob("*") if path.is_file())
    lines = [f"{sha256(path)}  {path.relative_to(root).as_posix()}\n" for path in files]
    (root / "checksums.sha256").write_text("".join(lines))
    return root


def test_an_image_that_cannot_be_read_is_one_line_before_the_run(sets_dir, tmp_path):
    def change(folder):
        for path in (folder / "train").rglob("*.JPEG"):
            path.write_bytes(path.read_bytes()[:300])

    root = damaged(sets_dir, tmp_path, change)
    for num_workers in (0, 1):
        result = command(
            "task=imagenet_resnet50",
            "optimizer=sgd",
            "scale=smoke",
            f"task.num_workers={num_workers}",
            f"runs_dir={tmp_path / 'runs'}",
            sets_dir=root,
        )
        assert result.code == 2
        (line,) = result.err.strip().splitlines()
        assert str(root / "tiny_imagenet_50" / "train") in line
        assert "must be an image that can be read" in line
        assert not (tmp_path / "runs").exists()


def test_an_image_that_cannot_be_read_is_one_line_in_the_middle_of_a_run(sets_dir, tmp_path):
    """Of ImageNet only sizes are verified, so that damage is found late."""
    root = damaged(
        sets_dir,
        tmp_path,
        lambda folder: next((folder / "val").rglob("*.JPEG")).write_bytes(b"no image"),
    )
    asked = ("task=imagenet_resnet50", "optimizer=sgd", "scale=smoke", "task.eval_val=null")
    result = command(*asked, f"runs_dir={tmp_path / 'runs'}", sets_dir=root)
    assert result.code == 1
    assert "Traceback" not in result.err + result.out
    said = [x for x in (result.err + result.out).splitlines() if "must be an image that can" in x]
    assert len(said) == 1 and str(root / "tiny_imagenet_50" / "val") in said[0]


def test_a_class_that_training_lacks_is_named(sets_dir, tmp_path):
    from tests.fake_sets import standing_in

    root = damaged(
        sets_dir,
        tmp_path,
        lambda folder: (folder / "val" / "n00000003").rename(folder / "val" / "n99"),
    )
    with standing_in(root), pytest.raises(DataError, match="/val/n99 must be one of the classes"):
        ready(root)


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


# ---------------------------------------------------------------- whole runs


def request(runs_dir, num_workers):
    return (
        "task=imagenet_resnet50",
        "optimizer=nesterov",
        "scale=smoke",
        "max_steps=24",
        "task.batch_size=4",
        "checkpoint.steps=1",
        "checkpoint.keep=true",
        f"task.num_workers={num_workers}",
        f"runs_dir={runs_dir}",
    )


def test_a_run_that_was_cut_ends_with_the_same_bits(tmp_path, sets_dir):
    """With a worker before and none after; the whole run has the same name either way."""
    cut, uncut = tmp_path / "cut", tmp_path / "uncut"
    assert command(*request(uncut, 0), sets_dir=sets_dir).code == 0
    process = start(*request(cut, 1), output=tmp_path / "out", sets_dir=sets_dir)
    wait_until(lambda: any(cut.glob("*/*/*/checkpoint.pt")), process)
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    said = (tmp_path / "out").read_text()
    assert process.exitcode == 130 and "Traceback" not in said, said
    assert read_manifest(the_run(cut))["status"] == "interrupted"
    result = command(*request(cut, 0), sets_dir=sets_dir)
    assert result.code == 0 and "going on from step" in result.err
    assert the_run(cut).name == the_run(uncut).name
    assert_same_run(the_run(cut), the_run(uncut))


@pytest.fixture
def real_dir():
    folder = os.environ.get("KAPPA_DATA", "")
    if not (Path(folder) / "tiny_imagenet_50" / "train").is_dir():
        pytest.skip("needs tiny_imagenet_50 under KAPPA_DATA")
    return folder


def test_the_real_photographs(real_dir):
    task = make(f"task.data_dir={real_dir}", "task.batch_size=32")
    task.setup("cpu", torch.float32)
    assert {split: len(images) for split, images in task._images.items()} == {
        "train": 2000,
        "val": 500,
    }
    batch = next(task.batches(0))
    # Normalised by ImageNet's statistics, of which these 50 classes are a part.
    assert abs(batch.inputs.mean().item()) < 0.5
    assert batch.inputs.std().item() == pytest.approx(1, abs=0.3)
    metrics = task.evaluate(task.build_model(), "val")
    assert metrics["loss"] == pytest.approx(math.log(50), abs=0.5)
