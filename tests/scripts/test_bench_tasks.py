"""The tasks' benchmark runs; what it measures is for `make bench`, not for a test."""

from __future__ import annotations

import pytest

from runners.records import read_table
from scripts import bench_tasks


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(bench_tasks, "NUM_IMAGES", {"train": 100, "test": 20})
    monkeypatch.setattr(bench_tasks, "NUM_SYMBOLS", 400)


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [
        ("cifar10_resnet32", bench_tasks.images_by_hand),
        ("ptb_lstm", bench_tasks.text_by_hand),
    ],
)
def test_both_loops_train_block_by_block(name, by_hand, tmp_path):
    overrides = [f"task={name}", "optimizer=sgd", "scale=smoke"]
    kappa = bench_tasks.Kappa(overrides, 7, tmp_path)
    for _ in range(3):
        kappa()
    assert kappa.run.step == 21
    kappa.keeper.flush()
    assert len(read_table(kappa.keeper.run_dir, "steps")) == 21
    assert len(read_table(kappa.keeper.run_dir, "evals")) == 0
    weight = next(kappa.run.model.parameters())
    before = weight.detach().clone()
    block = by_hand(kappa)
    for _ in range(3):
        block()
    assert weight.equal(before)  # the loops have models of their own


def test_the_pipeline_is_held_against_its_targets(tmp_path, capsys):
    overrides = ["task=cifar10_resnet32", "optimizer=sgd", "scale=smoke"]
    kappa = bench_tasks.Kappa(overrides, 2, tmp_path)
    bench_tasks.bench_pipeline(kappa, 1e9, rounds=1)
    assert (
        "input pipeline over a training step: 0.000 (target 0.05: met)" in capsys.readouterr().out
    )
    assert not bench_tasks.bench_pipeline(kappa, 1e-9, rounds=1)
