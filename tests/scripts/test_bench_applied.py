"""The applied tasks' benchmark runs; what it measures is for `make bench`, not for a test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from runners.records import read_table
from scripts import bench_applied
from scripts.bench_applied import CASES, both_loops

SMOKE = ["scale=smoke"]


@pytest.fixture(autouse=True)
def one_thread():
    # As the command has it; of such small models a second thread would only wait for its turn.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train(name, overrides, folder, num_blocks=2):
    """Train some blocks with each loop; returns Kappa's losses and the plain loop's."""
    kappa, by_hand = both_loops(name, [*SMOKE, *overrides], folder)
    first = kappa.run.step
    for _ in range(num_blocks):
        by_hand()
        kappa()
    assert kappa.run.step == first + num_blocks * kappa.block
    kappa.keeper.flush()
    steps = read_table(kappa.keeper.run_dir, "steps").to_pydict()
    return steps["loss"], by_hand.losses


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("qm9_schnet", []),
        ("matproj_schnet", []),
        ("criteo_dlrm", []),
        # Within a task: what is kept of it is drawn anew.
        ("permuted_mnist_gem", ["task.train_per_task=100"]),
        # Without what is drawn: crops, mirror images and the memory.
        (
            "split_cifar100_lamaml",
            ["task.pad=0", "task.flip=false", "task.replay_size=1", "task.memory_size=1"],
        ),
    ],
)
def test_both_loops_make_the_same_steps(name, overrides, fake_sets, tmp_path):
    ours, plain = train(name, overrides, tmp_path)
    assert len(ours) == 2 * CASES[name].block
    assert plain == pytest.approx(ours, rel=1e-4)


def test_hvamp_loses_as_much_by_hand(fake_sets, tmp_path):
    # Dropout and z are drawn; a step's loss varies by a few percent.
    ours, plain = train("ml20m_hvamp", [], tmp_path)
    assert len(plain) == len(ours)
    assert sum(plain) == pytest.approx(sum(ours), rel=0.1)


@pytest.mark.parametrize("name", ["permuted_mnist_gem", "split_cifar100_lamaml"])
def test_a_stream_is_entered_late_and_goes_on(name, fake_sets, tmp_path):
    overrides = ["task.epochs_per_task=1", "task.num_tasks=7"]
    kappa, by_hand = both_loops(name, [*SMOKE, *overrides], tmp_path)
    assert kappa.task.task_of(kappa.run.step // kappa.run.steps_per_epoch) == 5
    for _ in range(2):
        by_hand()
        kappa()
    # The sixth task has ended, in four steps.
    assert kappa.task.task_of(kappa.run.step // kappa.run.steps_per_epoch) == 6
    assert len(by_hand.losses) == 2 * kappa.block


@pytest.mark.parametrize("name", CASES)
def test_the_command_says_the_ratio(name, fake_sets, capsys):
    assert bench_applied.main(["--quick", "--rounds", "1", "--task", name]) == 0
    assert f"{name}: training step over a plain loop's" in capsys.readouterr().out


def test_a_missed_target_is_said(fake_sets, capsys, monkeypatch):
    monkeypatch.setattr(bench_applied, "STEP_TARGET", 1e-9)
    monkeypatch.setattr(
        bench_applied, "both_loops", lambda name, _, folder: both_loops(name, SMOKE, folder)
    )
    assert bench_applied.main(["--rounds", "1", "--task", "criteo_dlrm"]) == 1
    assert "MISSED" in capsys.readouterr().out


def test_a_missing_set_is_said_with_its_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KAPPA_DATA", str(tmp_path / "nothing"))
    assert bench_applied.main(["--quick", "--task", "qm9_schnet"]) == 2
    said = capsys.readouterr().err
    assert "python -m scripts.prepare_data qm9_3000" in said and said.count("\n") == 1


def test_real_data_are_measured(capsys):
    data_dir = Path(os.environ.get("KAPPA_DATA", "data")).absolute()
    if not (data_dir / "criteo_10k").is_dir():
        pytest.skip("criteo_10k is not there; set KAPPA_DATA to the folder of data sets")
    assert bench_applied.main(["--quick", "--rounds", "1", "--task", "criteo_dlrm"]) == 0
    assert "criteo_dlrm: training step" in capsys.readouterr().out
