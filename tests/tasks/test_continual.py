"""Streams of tasks: what each has, when it is trained on, what is measured, what is refused."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from runners.records import read_table
from tasks.data.store import sha256
from tests.commands import assert_same, command, the_run
from tests.fake_sets import CHECKSUMS, write_images
from tests.tasks.batch_checks import assert_refused
from tests.tasks.continual_tasks import MAKERS, after, gem, lamaml, ready

BOTH = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def stored(sets, name, split, kind):
    return torch.from_numpy(np.load(sets / name / f"{split}_{kind}.npy"))


# ---------------------------------------------------------------- what a task is


def test_a_task_permutes_the_first_images(fake_sets):
    task, _ = ready(gem, fake_sets)
    images = stored(fake_sets, "mnist", "train", "images")[:12].double().flatten(1)
    labels = stored(fake_sets, "mnist", "train", "labels")[:12]
    for number in range(3):
        order = task.permutation(number)
        assert torch.equal(order.sort().values, torch.arange(784))
        assert not torch.equal(order, torch.arange(784))
        wanted = ((images / 255 - 0.1307) / 0.3081)[:, order]
        found = {}
        for batch in task.batches(number):
            for row, label in zip(batch.inputs, batch.targets.tolist(), strict=True):
                index = int((wanted - row).abs().amax(1).argmin())
                # One multiplication and one addition, in another order.
                torch.testing.assert_close(row, wanted[index], rtol=1e-12, atol=1e-12)
                found[index] = label
        assert found == dict(enumerate(labels.tolist()))


def test_tasks_differ_and_hang_on_the_instance_alone():
    orders = [gem(instance_seed=seed).permutation(t) for seed in (7, 8) for t in range(3)]
    for index, order in enumerate(orders):
        assert not any(torch.equal(order, other) for other in orders[:index])
    assert torch.equal(gem(seed=5).permutation(1), orders[1])
    places = lamaml()._places
    assert torch.equal(lamaml(seed=5)._places, places)
    assert not torch.equal(lamaml(instance_seed=8)._places, places)


def test_classes_are_divided(fake_sets):
    task, _ = ready(lamaml, fake_sets, num_tasks=20)
    labels = stored(fake_sets, "cifar100_20k", "train", "labels").long()
    classes = [set(labels[own].tolist()) for own in task._members["train"]]
    assert all(len(own) == 5 for own in classes)
    assert set.union(*classes) == set(range(100))
    assert sum(map(len, task._members["train"])) == len(labels)
    for number, own in enumerate(task._members["train"]):
        assert torch.equal(own, own.sort().values)
        # The same class, the same output; another class, another.
        assert (task.task_numbers(labels[own]) == number).all()
        pairs = set(zip(labels[own].tolist(), task.targets(labels[own]).tolist(), strict=True))
        assert sorted(output for _, output in pairs) == [0, 1, 2, 3, 4]


def test_every_epoch_has_the_batches_of_the_smallest_task(fake_sets):
    task, _ = ready(lamaml, fake_sets, epochs_per_task=2)
    sizes = [len(own) for own in task._members["train"]]
    assert len(set(sizes)) > 1
    assert task.steps_per_epoch == min(sizes) // 4
    for epoch in range(8):
        # What comes after the last epoch belongs to the last task.
        number = min(epoch // 2, 2)
        batches = list(task.batches(epoch))
        assert len(batches) == task.steps_per_epoch
        assert all((batch.inputs[1] == number).all() for batch in batches)
    first, second = ([b.targets for b in task.batches(epoch)] for epoch in (0, 1))
    assert not all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_training_images_are_cropped_and_mirrored_others_not(fake_sets):
    plain, _ = ready(lamaml, fake_sets)
    task, _ = ready(lamaml, fake_sets, pad=4, flip=True)
    batch, as_is = next(task.batches(0)), next(plain.batches(0))
    assert torch.equal(batch.targets, as_is.targets)
    assert not torch.equal(batch.inputs[0], as_is.inputs[0])
    model = task.build_model().double()
    assert task.evaluate(model, "train") == plain.evaluate(model, "train")


# ---------------------------------------------------------------- what is measured


@BOTH
@pytest.mark.parametrize("split", ["train", "test"])
def test_the_measure_is_that_of_every_task(make, split, fake_sets):
    task, model = ready(make, fake_sets, train_per_task=8)
    losses, right = [], []
    with torch.no_grad():
        for number, own in enumerate(task._used[split]):
            pixels, labels = task._pixels[split][own], task._labels[split][own]
            logits = task.logits(model, task.inputs(pixels, labels, number))
            losses.append(F.cross_entropy(logits, task.targets(labels), reduction="none"))
            right.append((logits.argmax(1) == task.targets(labels)).double())
    metrics = task.evaluate(model, split)
    # Sums of at most 60 terms, in another order.
    assert metrics["loss"] == pytest.approx(torch.cat(losses).mean().item(), rel=1e-12)
    assert metrics["accuracy"] == pytest.approx(torch.cat(right).mean().item(), rel=1e-12)
    assert [key for key in metrics if "/" in key] == [f"accuracy/task_0{t}" for t in range(3)]
    for number, own in enumerate(right):
        assert metrics[f"accuracy/task_0{number}"] == pytest.approx(own.mean().item(), rel=1e-12)


def test_evaluations_are_recorded_for_every_task(tmp_path, sets_dir):
    asked = ("task=permuted_mnist_gem", "scale=smoke", "task.evaluate_at=[4]", "max_steps=8")
    result = command(*asked, f"runs_dir={tmp_path}", sets_dir=sets_dir)
    assert result.code == 0, result
    rows = read_table(the_run(tmp_path), "evals").to_pylist()
    found = {(row["step"], row["metric"]) for row in rows if row["split"] == "test"}
    names = ["accuracy", "loss", *(f"accuracy/task_0{t}" for t in range(3))]
    assert found == {(step, name) for step in (0, 4, 8) for name in names}


@BOTH
def test_the_trivial_predictor_knows_frequencies(make, fake_sets):
    task, _ = ready(make, fake_sets)
    right, count = 0, 0
    for number in range(3):
        seen = task.targets(task._labels["train"][task._used["train"][number]]).tolist()
        wanted = task.targets(task._labels["test"][task._used["test"][number]]).tolist()
        most = max(range(10), key=seen.count)
        right, count = right + wanted.count(most), count + len(wanted)
    facts = task.facts()
    assert facts["trivial"] == right / count
    assert facts["chance"] == 1 / task.num_classes


# ---------------------------------------------------------------- state


@BOTH
def test_the_state_goes_from_task_to_task(make, fake_sets):
    task, model = ready(make, fake_sets)
    batch = next(task.batches(1))
    after(task, model, 0)
    task.backward(model, batch)
    other, _ = ready(make, fake_sets)
    empty = other.state_dict()
    other.load_state_dict(task.state_dict())
    assert_same(other.state_dict(), task.state_dict())
    for each in (task, other):
        after(each, model, 1)
    assert_same(other.state_dict(), task.state_dict())
    grads = []
    for each in (task, other):
        model.zero_grad()
        each.backward(model, next(each.batches(2)))
        grads.append([p.grad for p in model.parameters()])
    assert_same(*grads)
    task.load_state_dict(empty)
    assert_same(task.state_dict(), empty)
    other.reset()
    assert_same(other.state_dict(), empty)


@pytest.mark.parametrize(
    ("make", "size", "grown"),
    [(gem, {"memory_per_task": 6}, [6, 12]), (lamaml, {"memory_size": 40}, None)],
    ids=MAKERS,
)
def test_the_memory_grows_when_a_task_ends(make, size, grown, fake_sets):
    task, model = ready(make, fake_sets, epochs_per_task=2, **size)
    sizes = []
    for epoch in range(8):
        task.after_epoch(model, epoch)
        memory = task._memory if make is gem else [task._memory]
        sizes.append(sum(map(len, memory)))
    first, second = grown or (len(task._used["train"][0]), 40)
    # Nothing of the last task: none comes after it.
    assert sizes == [0, first, first, second, second, second, second, second]


# ---------------------------------------------------------------- refusals


def test_a_task_without_images_is_one_line(tmp_path):
    folder = tmp_path / "sets"
    write_images(folder / "cifar100_20k", (32, 32, 3), num_classes=5)
    files = sorted(path for path in folder.rglob("*.npy"))
    lines = [f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / CHECKSUMS).write_text("".join(lines))
    # 5 of 100 classes are there: whichever these are, most of 50 tasks have none of them.
    asked = ("task=split_cifar100_lamaml", "scale=smoke", "task.train_per_task=null")
    more = ("task.num_tasks=50", "task.classes_per_task=2")
    result = command(*asked, *more, f"runs_dir={tmp_path / 'runs'}", sets_dir=folder)
    assert result.code == 2
    assert len(result.err.splitlines()) == 1
    where = folder / "cifar100_20k" / "train_labels.npy"
    assert result.err.startswith(f"run.py: {where} has no image of task ")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_tasks": 0}, "num_tasks must be >= 1, got 0"),
        ({"epochs_per_task": 0}, "epochs_per_task must be >= 1, got 0"),
        ({"instance_seed": -1}, "instance_seed must be >= 0, got -1"),
        ({"pad": -1}, "pad must be >= 0, got -1"),
        ({"flip": 1}, "flip must be true or false, got 1"),
        ({"std": [0.0]}, "std must be > 0, got [0.0]"),
        ({"widths": [784]}, "widths must be two or more integers >= 1, pixels first and classes "
         "last, got [784]"),
        ({"widths": [700, 5, 10]}, "widths must go from 784 to 10 for mnist, got [700, 5, 10]"),
        ({"memory_per_task": 0}, "memory_per_task must be >= 1, got 0"),
        ({"memory_of": "x"}, "memory_of must be one of trained, task, got x"),
        ({"strength": -0.5}, "strength must be >= 0, got -0.5"),
        ({"ridge": -1.0}, "ridge must be >= 0, got -1.0"),
    ],
)  # fmt: skip
def test_options_out_of_range(changes, message):
    assert_refused(gem, changes, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_tasks": 21}, "num_tasks * classes_per_task must be <= 100, the classes of "
         "cifar100_20k, got 21 * 5"),
        ({"classes_per_task": 1}, "classes_per_task must be >= 2, got 1"),
        ({"width": 0}, "width must be >= 1, got 0"),
        ({"num_inner_updates": 0}, "num_inner_updates must be >= 1, got 0"),
        ({"second_order": None}, "second_order must be true or false, got None"),
        ({"learned_lr": 0.1}, "learned_lr must be true or false, got 0.1"),
        ({"clip": 0}, "clip must be > 0, got 0"),
        ({"alpha_init": -0.1}, "alpha_init must be >= 0, got -0.1"),
        ({"lr_alpha": -0.1}, "lr_alpha must be >= 0, got -0.1"),
        ({"memory_size": 0}, "memory_size must be >= 1, got 0"),
        ({"replay_size": 0}, "replay_size must be >= 1, got 0"),
    ],
)  # fmt: skip
def test_options_of_lamaml_out_of_range(changes, message):
    assert_refused(lamaml, changes, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_per_task": 641}, "train_per_task must be <= 640, the images of task 0, got 641"),
        ({"test_per_task": 161}, "test_per_task must be <= 160, the images of task 0, got 161"),
        ({"batch_size": 13}, "batch_size must be <= 12, the training images of the smallest task, "
         "got 13"),
    ],
)  # fmt: skip
def test_more_images_than_there_are(changes, message, fake_sets):
    assert_refused(lambda **c: ready(gem, fake_sets, **c), changes, message)


@pytest.mark.parametrize("optimizer", ["kfac", "ng_plus"])
@pytest.mark.parametrize("task", ["permuted_mnist_gem", "split_cifar100_lamaml"])
def test_optimizers_that_need_samples_are_refused_by_name(task, optimizer, tmp_path, sets_dir):
    asked = (
        f"task={task}",
        f"optimizer={optimizer}",
        "scale=smoke",
        f"runs_dir={tmp_path / 'runs'}",
    )
    result = command(*asked, sets_dir=sets_dir)
    assert result.code == 2
    assert len(result.err.splitlines()) == 1
    assert "the task must give per-sample information for this optimizer, got" in result.err
    assert not (tmp_path / "runs").exists()


def test_too_many_tasks_end_a_command_in_one_line(tmp_path, sets_dir):
    asked = ("task=split_cifar100_lamaml", "scale=smoke", "task.num_tasks=21")
    result = command(*asked, f"runs_dir={tmp_path / 'runs'}", sets_dir=sets_dir)
    assert result.code == 2
    assert len(result.err.splitlines()) == 1
    assert "num_tasks * classes_per_task must be <= 100" in result.err
