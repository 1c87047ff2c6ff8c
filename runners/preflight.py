"""What a run is going to cost on this machine, measured on a throw-away copy of it."""

from __future__ import annotations

import itertools
import statistics
import sys
from dataclasses import dataclass

import torch
from torch import nn

from optimizers.telemetry import state_bytes
from runners.averaging import check_average
from runners.clock import Clock
from runners.job import Job
from runners.layers import require_layers
from runners.messages import first_line
from runners.settings import Outcome, Settings
from runners.state import steps_per_epoch
from runners.train import add_gradients, seed_step, step_batches, update
from tasks.data.store import DataError

# An optimizer reaches its steady cost only when its window is full, so the trial goes on for some
# time; its median is that of its later half.
LEAST_STEPS, MOST_STEPS = 4, 200
TRIAL_SECONDS = 2.0


@dataclass(frozen=True)
class Cost:
    """Sizes in bytes and times in seconds; None where the data is missing, so nothing could run."""

    num_parameters: int
    max_steps: int
    model_bytes: int
    optimizer_bytes: int | None
    step_seconds: float | None

    def line(self) -> str:
        """One line for the console."""
        if self.step_seconds is None:
            time, state = "time unknown", "optimizer state unknown"
        else:
            total = self.step_seconds * self.max_steps
            time = f"{self.step_seconds * 1e3:.3g} ms a step, about {duration(total)} of training"
            state = f"optimizer state {size(self.optimizer_bytes)}"
        return (
            f"{self.num_parameters:,} parameters, {self.max_steps:,} steps, {time}; "
            f"memory: model and gradient {size(2 * self.model_bytes)}, {state}"
        )


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Number of trainable parameters, and their size in bytes."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return sum(p.numel() for p in parameters), sum(p.numel() * p.element_size() for p in parameters)


def measure(task, make_optimizer, settings: Settings) -> Cost:
    """Time a few steps on a throw-away model; `task` must be set up, and is reset afterwards."""
    model = task.build_model().to(settings.device, settings.dtype)
    optimizer = make_optimizer(model)
    require_layers(optimizer)
    run = _Trial(task, model, optimizer, settings)
    count = steps_per_epoch(task, settings.accumulate)
    data = step_batches(task, 0, count, settings.accumulate)
    clock = Clock(synchronize=torch.cuda.synchronize if settings.device != "cpu" else None)
    ends: list[float] = []
    for step in range(min(MOST_STEPS, settings.max_steps)):
        with clock:
            seed_step(settings.seed, step)
            _, batches = next(data)
            optimizer.zero_grad()
            carried = task.state_dict()
            add_gradients(run, batches)
            update(run, batches, carried)
            run.step = step + 1
        ends.append(clock.seconds)
        if step + 1 >= LEAST_STEPS and clock.seconds > TRIAL_SECONDS:
            break
    task.reset()
    later = [b - a for a, b in itertools.pairwise([0.0, *ends])][len(ends) // 2 :]
    num_parameters, model_bytes = count_parameters(model)
    return Cost(
        num_parameters,
        settings.max_steps,
        model_bytes,
        state_bytes(optimizer),
        statistics.median(later),
    )


def dry_run(job: Job) -> Outcome:
    """Say what a run would cost, and stop."""
    settings = job.settings
    check_average(job.task, settings.max_steps)
    try:
        torch.set_num_threads(settings.num_threads)
        job.task.setup(settings.device, settings.dtype)
        cost = measure(job.task, job.make_optimizer, settings)
    except DataError as error:
        print(first_line(error), file=sys.stderr)
        # Nothing is computed with it, so that a model beyond the memory can be counted too.
        with torch.device("meta"):
            model = job.task.build_model().to(settings.dtype)
        require_layers(job.make_optimizer(model))  # a bad hyperparameter is an error here too
        num_parameters, model_bytes = count_parameters(model)
        cost = Cost(num_parameters, settings.max_steps, model_bytes, None, None)
    print(cost.line())
    print(f"parameters={cost.num_parameters}")
    place = job.place
    return Outcome("skipped", place.task, place.optimizer, job.run_id)


@dataclass
class _Trial:
    """The part of a run that one step of training needs."""

    task: object
    model: nn.Module
    optimizer: torch.optim.Optimizer
    settings: Settings
    step: int = 0

    def __post_init__(self):
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]


def size(num_bytes: int) -> str:
    """A size a person can read."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.3g} {unit}"
    return f"{num_bytes} B"


def duration(seconds: float) -> str:
    """A time a person can read."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"
