"""Tasks and optimizers that exist for tests only: what they do is known exactly."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tasks.base import Batch, Target, Task


class Toy(Task):
    """Least squares from random inputs; notes the batches it has given.

    Args:
        num_batches: batches in an epoch.
        evaluate_seconds, backward_seconds: how long an evaluation or a pass sleeps.
        scores: values of the metric "score", one an evaluation; None: the first weight itself.
        stop_at: pass at which a signal is sent to this process; None: never.
    """

    def __init__(
        self,
        *,
        num_batches: int = 4,
        evaluate_seconds: float = 0.0,
        backward_seconds: float = 0.0,
        scores: list[float] | None = None,
        stop_at: int | None = None,
        **common: Any,
    ) -> None:
        defaults = {
            "seed": 0,
            "data": "synthetic",
            "target": Target("score", "train", "min", 0.0),
            "max_steps": 10,
            "batch_size": 5,
            "evaluate_at": 2,
            "eval_splits": ["train"],
        }
        super().__init__(**{**defaults, **common})
        self.num_batches = num_batches
        self.evaluate_seconds = evaluate_seconds
        self.backward_seconds = backward_seconds
        self.scores = scores
        self.stop_at = stop_at
        self.seen: list[Tensor] = []
        self.starts: list[Tensor] = []
        self.epochs_ended: list[int] = []
        self.num_evaluations = 0

    def data_hash(self) -> str:
        return ""

    def make_model(self) -> nn.Module:
        return nn.Linear(3, 1)

    def setup(self, device, dtype) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        size = (self.num_batches, self.batch_size, 3)
        self._inputs = torch.randn(size, generator=generator, dtype=dtype)

    @property
    def steps_per_epoch(self) -> int:
        return self.num_batches

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for index in range(start, self.num_batches):
            inputs = self._inputs[index] + epoch
            yield Batch(inputs, inputs.sum(1, keepdim=True), epoch, index, self.batch_size)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        self.seen.append(batch.inputs)
        if not self.starts:
            self.starts = [p.detach().clone() for p in model.parameters()]
        if len(self.seen) == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(self.backward_seconds)
        return (model(batch.inputs) - batch.targets).square().mean()

    def measure(self, model: nn.Module, split: str) -> dict[str, float]:
        time.sleep(self.evaluate_seconds)
        value = float(model.weight[0, 0])
        if self.scores is not None:
            value = self.scores[min(self.num_evaluations, len(self.scores) - 1)]
        self.num_evaluations += 1
        return {"score": value}

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        self.epochs_ended.append(epoch)


class Noisy(torch.optim.SGD):
    """Draws from every global generator in each step, and lets what it drew into the update."""

    def step(self, closure=None):
        drawn = torch.rand(7).sum().item() + random.random() + np.random.rand()  # noqa: NPY002
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data -= group["lr"] * 1e-3 * drawn
        return super().step(closure)


class Crashing(torch.optim.SGD):
    """Raises in its third step."""

    def __init__(self, params, **options):
        super().__init__(params, **options)
        self.count = 0

    def step(self, closure=None):
        self.count += 1
        if self.count == 3:
            raise RuntimeError("the toy has broken")
        return super().step(closure)


class Logged(torch.optim.SGD):
    """Appends a line to the file that KAPPA_RUNS/made names each time one is made."""

    def __init__(self, params, **options):
        super().__init__(params, **options)
        with (Path(os.environ["KAPPA_RUNS"]) / "made").open("a") as file:
            file.write(f"{os.getpid()}\n")


class Searching(torch.optim.SGD):
    """SGD that asks for the loss elsewhere first, and wants all answers to agree here."""

    needs_closure = True

    def step(self, closure=None):
        parameters = [p for group in self.param_groups for p in group["params"]]
        grads = [p.grad.clone() for p in parameters]
        first, second = closure(), closure()
        if not torch.equal(first, second):
            raise RuntimeError("the same point must have the same loss")
        if not all(torch.equal(p.grad, g) for p, g in zip(parameters, grads, strict=True)):
            raise RuntimeError("the gradient must be that of the step's own pass")
        with torch.enable_grad():
            loss = closure(backward=False)
            again = torch.autograd.grad(loss, parameters)
        if not all(torch.allclose(a, b, rtol=1e-9) for a, b in zip(again, grads, strict=True)):
            raise RuntimeError("the graph must be that of the same loss")
        with torch.no_grad():
            before = [p.clone() for p in parameters]
            for p in parameters:
                p.add_(1)
            if closure(backward=False) == first:
                raise RuntimeError("another point must have another loss")
            for p, value in zip(parameters, before, strict=True):
                p.copy_(value)
        return super().step()
