"""Time the training loop against a bare hand-written one, with and without W&B offline.

    python -m scripts.bench_loop [--steps 1500] [--rounds 3]

A model of 50,000 parameters whose step takes about 5 ms on one thread. Kappa's loop writes its
records, with a norm of the gradient each step; the bare loop keeps its losses in a list. The loops
take turns in one process, and ratios are of medians. Starting W&B, about a second once a run, is
printed beside and is not part of the loop.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import torch
from torch import nn

from optimizers import build, describe_groups
from runners.job import Job
from runners.keeper import Keeper
from runners.lifecycle import build_run
from runners.records import RecordWriter
from runners.schedules import Schedule
from runners.settings import Place, Settings
from runners.tracking import NullTracker, WandbTracker
from runners.train import train
from scripts.bench_ggt import report
from tasks.base import Batch, Target, Task

BARE_TARGET = 1.05
WANDB_TARGET = 1.15
CLOCK_TARGET = 0.05
BATCH = 1400


class Regression(Task):
    """A made-up regression with an MLP of about 50,000 parameters."""

    def __init__(self, max_steps: int):
        super().__init__(
            seed=0,
            data="synthetic",
            target=Target("loss", "train", "min", 0.0),
            max_steps=max_steps,
            batch_size=BATCH,
            evaluate_at=1,
            eval_splits=["train"],
        )

    def make_model(self) -> nn.Module:
        return nn.Sequential(
            nn.Linear(64, 192), nn.Tanh(), nn.Linear(192, 180), nn.Tanh(), nn.Linear(180, 10)
        )

    def setup(self, device, dtype) -> None:
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(BATCH, 64, generator=generator).to(device, dtype)
        self.targets = torch.randn(BATCH, 10, generator=generator).to(device, dtype)

    @property
    def steps_per_epoch(self) -> int:
        return 100

    def batches(self, epoch: int, start: int = 0):
        for index in range(start, self.steps_per_epoch):
            yield Batch(self.inputs, self.targets, epoch, index, BATCH)

    def loss(self, model, batch):
        return nn.functional.mse_loss(model(batch.inputs), batch.targets)

    def measure(self, model, split):
        return {"loss": nn.functional.mse_loss(model(self.inputs), self.targets).item()}

    def data_hash(self) -> str:
        return ""

    def facts(self) -> dict[str, float]:
        return {}


def make_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return build(model, torch.optim.SGD, lr=1e-3)


def bare(num_steps: int) -> tuple[float, float]:
    """Seconds of a hand-written loop; twice, since all of it is training."""
    task = Regression(num_steps)
    task.setup("cpu", torch.float32)
    model = task.build_model()
    optimizer = make_optimizer(model)
    losses = []
    start = perf_counter()
    for _ in range(num_steps):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(task.inputs), task.targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    seconds = perf_counter() - start
    return seconds, seconds


def kappa(num_steps: int, tracker) -> tuple[float, float, float]:
    """Seconds of Kappa's loop with its records written, its `train_seconds`, and its start."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(0, "float32", "cpu", num_steps, 1, 0.0, 10, progress="none")
        task = Regression(num_steps)
        place = Place(Path(folder), "regression", "sgd", "bench", "full")
        job = Job(
            task=task,
            make_optimizer=make_optimizer,
            optimizer_version=0,
            schedule=Schedule({}),
            probe=None,
            tracker=tracker,
            settings=settings,
            place=place,
            config={"task": {"seed": 0}},
            describe_groups=describe_groups,
            quiet=True,
        )
        task.setup("cpu", torch.float32)
        run_dir = place.run_dir("bench")
        run_dir.mkdir(parents=True)
        run = build_run(job, None)
        run.writer = RecordWriter(run_dir)
        keeper = Keeper(job, run, "bench", run_dir)
        start = perf_counter()
        keeper.begin()
        begun = perf_counter()
        status = train(run, keeper)
        keeper.end(status)
        seconds = perf_counter() - begun
        keeper.close(status, "")
    return seconds, run.clock.seconds, begun - start


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    bare(50)  # first-call costs of torch are nobody's
    kinds = {
        "bare": lambda: (*bare(options.steps), 0.0),
        "none": lambda: kappa(options.steps, NullTracker()),
        "wandb": lambda: kappa(options.steps, WandbTracker(mode="offline")),
    }
    found = {kind: [] for kind in kinds}
    for _ in range(options.rounds):
        for kind, call in kinds.items():
            found[kind].append(call())
    wall, clock, start = (
        {kind: statistics.median(row[i] for row in rows) for kind, rows in found.items()}
        for i in range(3)
    )
    base = wall["bare"]
    note = f"{base / options.steps * 1e3:.2f} ms a bare step"
    passed = True
    for kind, target in (("none", BARE_TARGET), ("wandb", WANDB_TARGET)):
        passed &= report(f"loop over a bare loop, tracking {kind}", note, wall[kind] / base, target)
        off = abs(clock[kind] / base - 1)
        passed &= report(
            f"train_seconds off the bare loop, tracking {kind}", note, off, CLOCK_TARGET
        )
        print(f"  started in {start[kind]:.2f} s, once a run")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
