"""Checkpoints: whole or not at all, without code in them, and due when they should be."""

import os
import pickle
import random

import numpy as np
import pytest
import torch

from runners import checkpoint
from tests.commands import assert_same

STATE = {
    "step": 3,
    "model": {"w": torch.tensor([0.1, float("nan")], dtype=torch.float64)},
    "half": torch.tensor([1.5], dtype=torch.bfloat16),
    "watch": [None, 2, float("inf"), -0.0],
    "name": "x",
}


def test_what_is_saved_is_loaded_bit_for_bit(tmp_path):
    assert checkpoint.load(tmp_path) is None
    checkpoint.save(tmp_path, STATE)
    assert_same(checkpoint.load(tmp_path), STATE)
    checkpoint.save(tmp_path, {**STATE, "step": 4})
    assert checkpoint.load(tmp_path)["step"] == 4
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]
    checkpoint.remove(tmp_path)
    checkpoint.remove(tmp_path)  # none: nothing to do
    assert checkpoint.load(tmp_path) is None


def test_code_in_a_checkpoint_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "made"),)

    torch.save({"step": Evil()}, tmp_path / "checkpoint.pt")
    with pytest.raises(checkpoint.CheckpointError, match="cannot be read"):
        checkpoint.load(tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(checkpoint.CheckpointError, match="cannot be read"):
        checkpoint.load(tmp_path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_damaged_checkpoint_is_named(keep, tmp_path):
    checkpoint.save(tmp_path, STATE)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(checkpoint.CheckpointError) as error:
        checkpoint.load(tmp_path)
    assert str(path) in str(error.value)
    assert "delete it to start again" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_failed_save_leaves_the_one_before(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, STATE)

    def fill(state, file):
        file.write(b"half")
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0")  # noqa: B904  what torch.save does

    monkeypatch.setattr(torch, "save", fill)
    with pytest.raises(OSError, match="No space left on device") as error:
        checkpoint.save(tmp_path, {"step": 9})
    assert error.value.filename == str(tmp_path / "checkpoint.pt")
    assert_same(checkpoint.load(tmp_path), STATE)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def draw():
    return (
        [random.random() for _ in range(3)],
        random.gauss(0, 1),
        np.random.rand(3).tolist(),  # noqa: NPY002  the global generator is what is meant
        np.random.randn(),  # noqa: NPY002
        torch.rand(3).tolist(),
    )


def test_generators_go_on_where_they_were(tmp_path):
    checkpoint.seed_rng(5)
    draw()  # leaves a second Gaussian waiting in Python's and NumPy's generators
    checkpoint.save(tmp_path, {"rng": checkpoint.rng_state()})
    expected = draw()
    draw()
    checkpoint.restore_rng(checkpoint.load(tmp_path)["rng"])
    assert draw() == expected


def test_seeds_set_every_generator():
    def seeded(seed):
        checkpoint.seed_rng(seed)
        return draw()

    assert seeded(1) == seeded(1)
    for one, other in zip(seeded(1), seeded(2), strict=True):
        assert one != other
    seeded(2**40)  # more than NumPy's 32 bits


def test_checkpoints_are_due_by_steps_or_by_time(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(checkpoint, "perf_counter", lambda: now[0])
    by_steps = checkpoint.Timer(seconds=0.0, steps=5)
    assert [step for step in range(1, 12) if by_steps.due(step)] == [5, 10]
    by_time = checkpoint.Timer(seconds=60.0, steps=None)
    now[0] += 59
    assert not by_time.due(1)
    now[0] += 1
    assert by_time.due(2)
    # One that took 10 s to write: not before 200 s have gone, so that it costs at most 5 %.
    by_time.written(10.0)
    now[0] += 199
    assert not by_time.due(3)
    now[0] += 1
    assert by_time.due(4)
