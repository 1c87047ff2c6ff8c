"""A run on images that is stopped within an epoch ends with the bits of one that is not."""

import os
import signal

import pytest

from runners.records import read_manifest
from tasks.image_classification import ImageClassification
from tests.commands import assert_same_run, command, the_run

# An epoch has 6 steps, so that the run is stopped after the third step of the second.
STOP = (1, 2)
STEPS_DONE = 9


@pytest.mark.parametrize(
    "task", ["cifar10_resnet32", "cifar100_resnet56", "cifar10_shakeshake", "mnist_cnn_large"]
)
def test_stopped_within_an_epoch(task, tmp_path, sets_dir, monkeypatch):
    def asked(name):
        return (
            f"task={task}",
            "optimizer=adam",
            "scale=smoke",
            "task.batch_size=8",
            "task.num_train=44",
            "max_steps=20",
            "checkpoint.keep=true",
            f"runs_dir={tmp_path / name}",
        )

    assert command(*asked("uncut"), sets_dir=sets_dir).code == 0
    trial_over, stopped = [], []
    plain = ImageClassification.loss

    def loss(self, model, batch):
        if trial_over and not stopped and (batch.epoch, batch.index) == STOP:
            stopped.append(True)
            os.kill(os.getpid(), signal.SIGINT)
        return plain(self, model, batch)

    # The trial before a run, which measures its cost, ends with `reset`.
    monkeypatch.setattr(ImageClassification, "reset", lambda self: trial_over.append(True))
    monkeypatch.setattr(ImageClassification, "loss", loss)
    assert command(*asked("cut"), sets_dir=sets_dir).code == 130
    assert read_manifest(the_run(tmp_path / "cut"))["steps_done"] == STEPS_DONE
    result = command(*asked("cut"), sets_dir=sets_dir)
    assert result.code == 0
    assert f"going on from step {STEPS_DONE}" in result.err
    assert_same_run(the_run(tmp_path / "cut"), the_run(tmp_path / "uncut"))
