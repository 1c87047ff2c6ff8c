"""Every task's YAML composes, alone and with what each scale changes, and instantiates."""

import contextlib
import functools
from pathlib import Path

import hydra
import pytest
import torch
from hydra.utils import instantiate

from tasks.base import Target, Task

CONF = Path(__file__).parents[2] / "conf"
NAMES = sorted(path.stem for path in (CONF / "task").glob("*.yaml"))
SCALES = ("smoke", "small", "paper")
# Gigabytes, which the tests build without values.
LARGE = {("criteo_dlrm", "paper")}


@functools.cache
def compose(name, scale):
    overrides = [f"task={name}", f"scale={scale}", "seed=5", "data_dir=data"]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config", overrides).task


def test_there_are_tasks():
    assert {"barrier", "logistic", "ptb_lstm", "quadratic"} <= set(NAMES)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", NAMES)
def test_the_task_instantiates_without_data(name, scale):
    task = instantiate(compose(name, scale))
    assert isinstance(task, Task)
    assert isinstance(task.target, Target)
    assert task.seed == 5
    assert isinstance(task.numerics_version, int)
    assert task.target.split in task.eval_splits
    with torch.device("meta") if (name, scale) in LARGE else contextlib.nullcontext():
        first, second = task.build_model(), instantiate(compose(name, scale)).build_model()
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert a.dtype == torch.float32
        assert a.is_meta or torch.equal(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_every_scale_change_is_for_a_task(name):
    for scale in SCALES:
        folder = CONF / "scale" / scale / "task"
        assert {path.stem for path in folder.glob("*.yaml")} <= set(NAMES)


def test_only_smoke_evaluates_a_slice():
    chars = {scale: compose("ptb_lstm", scale).eval_chars for scale in SCALES}
    assert chars["smoke"] > 0
    assert chars["small"] is None
    assert chars["paper"] is None


def test_the_papers_budgets_and_sizes():
    for name, steps in (("logistic", 1000), ("barrier", 2000), ("quadratic", 250)):
        for scale in ("small", "paper"):
            assert compose(name, scale).max_steps == steps
    for name in ("logistic", "barrier"):
        config = compose(name, "paper")
        assert (config.num_samples, config.dim, config.condition) == (1000, 10, 1e4)
    model = instantiate(compose("ptb_lstm", "paper")).build_model()
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == pytest.approx(5e6, rel=0.1)
