"""What a run is going to cost on this machine, measured on a throw-away copy of it."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

from torch import nn

from optimizers.telemetry import state_bytes
from runners.settings import Settings
from runners.state import steps_per_epoch
from runners.train import add_gradients, step_batches

WARM_UP_STEPS = 1
TIMED_STEPS = 3


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
    run = _Trial(task, model, settings)
    count = steps_per_epoch(task, settings.accumulate)
    data = step_batches(task, 0, count, settings.accumulate)
    for step in range(WARM_UP_STEPS + TIMED_STEPS):
        if step == WARM_UP_STEPS:
            start = perf_counter()
        _, batches = next(data)
        optimizer.zero_grad()
        add_gradients(run, batches)
        optimizer.step()
    seconds = (perf_counter() - start) / TIMED_STEPS
    task.reset()
    num_parameters, model_bytes = count_parameters(model)
    return Cost(num_parameters, settings.max_steps, model_bytes, state_bytes(optimizer), seconds)


@dataclass
class _Trial:
    """The part of a run that `add_gradients` needs."""

    task: object
    model: nn.Module
    settings: Settings

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
