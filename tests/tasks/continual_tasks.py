"""Small tasks of both kinds of continual learning, on generated images."""

import torch

from tasks.base import Target
from tasks.permuted_mnist_gem import PermutedMNISTGEM
from tasks.split_cifar100_lamaml import SplitCIFAR100LaMAML

COMMON = {
    "seed": 0,
    "instance_seed": 7,
    "target": Target("accuracy", "test", "max", 0.9),
    "max_steps": 8,
    "batch_size": 4,
    "evaluate_at": 1,
    "eval_splits": ["test"],
    "num_tasks": 3,
    "epochs_per_task": 1,
    "eval_batch_size": 16,
    "pad": 0,
    "flip": False,
}
GEM = {
    **COMMON,
    "data": "mnist",
    "mean": [0.1307],
    "std": [0.3081],
    "train_per_task": 12,
    "test_per_task": 20,
    "widths": [784, 5, 10],
    "memory_per_task": 6,
    "memory_of": "task",
    "strength": 0.5,
    "ridge": 1e-3,
}
LAMAML = {
    **COMMON,
    "data": "cifar100_20k",
    "mean": [0.5, 0.4, 0.3],
    "std": [0.2, 0.3, 0.4],
    "train_per_task": None,
    "test_per_task": None,
    "classes_per_task": 5,
    "width": 3,
    "hidden": 6,
    "num_inner_updates": 2,
    "second_order": True,
    "clip": 1.0,
    "alpha_init": 0.1,
    "lr_alpha": 0.25,
    "learned_lr": False,
    "memory_size": 10,
    "replay_size": 4,
}


def gem(data_dir="unused", **changes):
    return PermutedMNISTGEM(**{**GEM, "data_dir": str(data_dir), **changes})


def lamaml(data_dir="unused", **changes):
    return SplitCIFAR100LaMAML(**{**LAMAML, "data_dir": str(data_dir), **changes})


MAKERS = {"gem": gem, "lamaml": lamaml}


def ready(make, data_dir, **changes):
    """The task, set up, and its model, in float64."""
    task = make(data_dir, **changes)
    task.setup("cpu", torch.float64)
    return task, task.build_model().double()


def after(task, model, *epochs):
    """The task when these epochs have ended."""
    for epoch in epochs:
        task.after_epoch(model, epoch)
    return task


def gradients(task, model, batch):
    """What backward fills in, from nothing."""
    model.zero_grad()
    loss = task.backward(model, batch)
    return loss, [p.grad.clone() for p in model.parameters()]
