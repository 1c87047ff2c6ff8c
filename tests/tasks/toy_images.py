"""Image classification by a tiny network on generated images."""

from functools import partial

import numpy as np
import torch

from tasks.base import Target
from tasks.image_classification import ImageClassification
from tasks.models.resnet_cifar import ResNetCIFAR

PLAIN = {"pad": 0, "flip": False}  # images as they are


def resnet(num_classes=10):
    return partial(ResNetCIFAR, 8, num_classes, width=2)


def make(data_dir="unused", **changes):
    options = {
        "seed": 0,
        "data": "cifar10",
        "data_dir": str(data_dir),
        "target": Target("accuracy", "test", "max", 0.5),
        "max_steps": 3,
        "batch_size": 16,
        "evaluate_at": 1,
        "eval_splits": ["train", "test"],
        "model": resnet(),
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.3, 0.4],
        "pad": 4,
        "flip": True,
        "label_smoothing": 0.0,
        "eval_batch_size": 32,
        "eval_train": 40,
        "num_train": 88,
        "num_test": 60,
    }
    return ImageClassification(**{**options, **changes})


def ready(fake_sets, **changes):
    """The task, set up, and its model, in float64."""
    task = make(data_dir=fake_sets, **changes)
    task.setup("cpu", torch.float64)
    return task, task.build_model().double()


def stored(sets, name, split, kind, count=None):
    return torch.from_numpy(np.load(sets / name / f"{split}_{kind}.npy")[:count])
