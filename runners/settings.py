"""Typed settings of a run: what the loop and its surroundings receive instead of a config."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

PRECISIONS = {
    "float32": torch.float32,
    "float64": torch.float64,
    "bf16_autocast": torch.float32,  # weights stay float32; the forward pass runs under autocast
}


def _require(condition: bool, name: str, expected: str, value: object) -> None:
    if not condition:
        raise ValueError(f"{name} must be {expected}, got {value!r}")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(frozen=True)
class Settings:
    """Settings of one run.

    The first block makes the run what it is; the second is about where and how it is made. Of
    that only the thread count can change a sum's last digit, so a checkpoint carries it.

    Attributes:
        seed: seed of weights, batches and noise, >= 0.
        precision: "float32", "float64" or "bf16_autocast".
        device: a torch device.
        max_steps: number of optimizer steps, >= 1.
        accumulate: micro-batches whose mean gradient makes one step, >= 1.
        grad_clip: largest global gradient norm; 0: no clipping.
        spectra_every: steps between spectra; 0: none.
        num_threads: torch's intra-operation threads.
        timing: "shared", or "exclusive" to run alone on this machine.
        checkpoint_seconds: least time between checkpoints, in seconds.
        checkpoint_steps: steps between checkpoints instead; None: by time.
        keep_checkpoint: keep the last checkpoint of a finished run.
        force: make a finished run again.
        progress: "auto", "bar" or "none".
    Raises:
        ValueError: for a value that is not allowed, naming it and what is.
    """

    seed: int
    precision: str
    device: str
    max_steps: int
    accumulate: int
    grad_clip: float
    spectra_every: int

    num_threads: int = 1
    concurrent_workers: int = 1
    timing: str = "shared"
    checkpoint_seconds: float = 60.0
    checkpoint_steps: int | None = None
    keep_checkpoint: bool = False
    force: bool = False
    progress: str = "auto"

    def __post_init__(self):
        for name, least in (("seed", 0), ("max_steps", 1), ("accumulate", 1), ("spectra_every", 0)):
            value = getattr(self, name)
            _require(_is_int(value) and value >= least, name, f"an integer >= {least}", value)
        _require(
            _is_int(self.num_threads) and self.num_threads >= 1,
            "num_threads",
            "an integer >= 1",
            self.num_threads,
        )
        _require(self.precision in PRECISIONS, "precision", one_of(PRECISIONS), self.precision)
        _require(
            isinstance(self.grad_clip, int | float) and self.grad_clip >= 0,
            "grad_clip",
            "a number >= 0 or null",
            self.grad_clip,
        )
        _require(
            isinstance(self.checkpoint_seconds, int | float) and self.checkpoint_seconds >= 0,
            "checkpoint.seconds",
            "a number >= 0",
            self.checkpoint_seconds,
        )
        steps = self.checkpoint_steps
        _require(
            steps is None or (_is_int(steps) and steps >= 1),
            "checkpoint.steps",
            "an integer >= 1 or null",
            steps,
        )
        timings = ("shared", "exclusive")
        _require(self.timing in timings, "timing", one_of(timings), self.timing)
        bars = ("auto", "bar", "none")
        _require(self.progress in bars, "progress", one_of(bars), self.progress)
        seconds, steps = self.checkpoint_seconds, self.checkpoint_steps
        _require(
            isinstance(seconds, int | float) and seconds >= 0,
            "checkpoint.seconds",
            "a number >= 0",
            seconds,
        )
        _require(
            steps is None or (_is_int(steps) and steps >= 1),
            "checkpoint.steps",
            "an integer >= 1 or null",
            steps,
        )
        for name, value in (("checkpoint.keep", self.keep_checkpoint), ("force", self.force)):
            _require(isinstance(value, bool), name, "true or false", value)
        check_device(self.device)

    @property
    def dtype(self) -> torch.dtype:
        """Floating dtype of the model's parameters and of the data."""
        return PRECISIONS[self.precision]


def one_of(names) -> str:
    """The allowed names, for a message."""
    return "one of " + ", ".join(names)


def check_device(name: str) -> None:
    """Refuse a device that does not exist here.

    Raises:
        ValueError: naming the device and what is available.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise ValueError(f"device must be cpu, cuda or cuda:N, got {name!r}") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices"
        )


@dataclass(frozen=True)
class Place:
    """Where a run belongs: its names, its folder and what it is part of.

    Attributes:
        runs_dir: root of the records.
        task, optimizer: the choices' names, the folders of the run.
        scale, budget: names of the scale and the budget.
        sweep, experiment: what started the run, for grouping; None if neither.
    """

    runs_dir: Path
    task: str
    optimizer: str
    scale: str
    budget: str
    sweep: str | None = None
    experiment: str | None = None

    def run_dir(self, run_id: str) -> Path:
        return self.runs_dir / self.task / self.optimizer / run_id


@dataclass(frozen=True)
class Outcome:
    """What came of a job, as plain data.

    Attributes:
        status: a record status, or "skipped" (was there already), "busy" (another process is
            making it) or "invalid" (a user's mistake; nothing was left behind).
        reason: one line, for everything but a finished run.
        metric, value: the task's target metric and its best value.
    """

    status: str
    task: str
    optimizer: str
    run_id: str = ""
    run_dir: str = ""
    reason: str = ""
    metric: str = ""
    value: float | None = None
    last: float | None = None
    record_status: str = ""
    overrides: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        from dataclasses import asdict

        return asdict(self)

    @classmethod
    def bare(cls, status: str, task: str, optimizer: str, reason: str) -> dict[str, Any]:
        """The outcome of what has no run, as plain data."""
        return cls(status, task, optimizer, reason=reason).as_dict()
