"""The task ImageNet at scale=smoke."""

import hydra
import torch
from hydra.utils import instantiate

from tests.commands import CONF


def compose(*overrides, scale="smoke"):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config", ["task=imagenet_resnet50", f"scale={scale}", *overrides])


def make(*overrides, scale="smoke"):
    return instantiate(compose(*overrides, scale=scale).task)


def ready(sets_dir, *overrides, dtype=torch.float64):
    task = make(f"task.data_dir={sets_dir}", *overrides)
    task.setup("cpu", dtype)
    return task, task.build_model().to(dtype)
