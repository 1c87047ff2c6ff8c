"""A run between its start and its end, and how it is put into a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from runners.checkpoint import restore_rng, rng_state
from runners.clock import Clock
from runners.records import RecordWriter
from runners.settings import Settings


@dataclass
class Run:
    """Everything that a run consists of, between its start and its end."""

    task: Any
    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Any
    settings: Settings
    clock: Clock
    writer: RecordWriter | None = None  # given when everything else is found to be right
    probe: Any = None
    step: int = 0
    best: float | None = None
    best_step: int = 0
    last: float | None = None
    evaluations_since_best: int = 0
    averaged: AveragedModel | None = None
    eval_steps: frozenset[int] = field(default_factory=frozenset)
    eval_clock: Clock = field(default_factory=Clock)
    remembered: list[torch.Tensor] | None = None  # parameters before a step

    def __post_init__(self):
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.steps_per_epoch = steps_per_epoch(self.task, self.settings.accumulate)
        self.eval_steps = evaluation_steps(self.task.evaluate_at, self.settings.max_steps)
        if self.task.average_last:
            self.averaged = AveragedModel(self.model)

    def state_dict(self) -> dict[str, Any]:
        """Everything the run needs to go on bit for bit: tensors and plain values.

        `num_parts` is the number of record parts that this state vouches for, so rows have to be
        written before it is taken.
        """
        return {
            "step": self.step,
            "num_parts": self.writer.num_parts,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "task": self.task.state_dict(),
            "probe": self.probe.state_dict() if self.probe is not None else {},
            "averaged": self.averaged.state_dict() if self.averaged is not None else {},
            "rng": rng_state(),
            "num_threads": torch.get_num_threads(),
            "train_seconds": self.clock.seconds,
            "eval_seconds": self.eval_clock.seconds,
            "watch": [self.best, self.best_step, self.last, self.evaluations_since_best],
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Put the run where `state_dict` found it."""
        torch.set_num_threads(saved["num_threads"])  # the number of threads changes sums
        self.step = saved["step"]
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.schedule.load_state_dict(saved["schedule"])
        self.task.load_state_dict(saved["task"])
        if self.probe is not None:
            self.probe.load_state_dict(saved["probe"])
        if self.averaged is not None:
            self.averaged.load_state_dict(saved["averaged"])
        restore_rng(saved["rng"])
        self.clock.seconds = saved["train_seconds"]
        self.eval_clock.seconds = saved.get("eval_seconds", 0.0)  # older checkpoints lack it
        self.best, self.best_step, self.last, self.evaluations_since_best = saved["watch"]


def steps_per_epoch(task, accumulate: int) -> int:
    """Updates in an epoch of `accumulate` batches each; a rest of the epoch is not used.

    Raises:
        ValueError: if an epoch has fewer batches than one update takes.
    """
    if accumulate > task.steps_per_epoch:
        raise ValueError(
            f"accumulate must be <= {task.steps_per_epoch}, the batches in an epoch, "
            f"got {accumulate}"
        )
    return task.steps_per_epoch // accumulate


def evaluation_steps(evaluate_at: int | tuple[int, ...], max_steps: int) -> frozenset[int]:
    """Steps before which a run is evaluated; the last evaluation, at `max_steps`, is separate."""
    if isinstance(evaluate_at, int):
        steps = {round(max_steps * k / evaluate_at) for k in range(evaluate_at)}
    else:
        steps = {0, *evaluate_at}
    return frozenset(step for step in steps if step < max_steps)
