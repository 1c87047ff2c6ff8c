"""Whole runs on photographs in folders, damaged ones among them, and the real ones."""

import math
import os
import signal
from pathlib import Path

import pytest
import torch

from runners.records import read_manifest
from tasks.data.store import DataError
from tests.commands import assert_same_run, command, start, the_run, wait_until
from tests.tasks.small_imagenet import make, ready

# ---------------------------------------------------------------- damaged files


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
