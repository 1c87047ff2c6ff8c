"""Time the training step of the applied tasks against plain torch loops.

    python -m scripts.bench_applied [--quick] [--threads 1] [--rounds 15] [--task NAME ...]

Kappa's own loop, with records being written, and a loop written by hand (`scripts.plain_loops`)
over the same model and data take turns, a block of steps each, in one process; ratios are of
medians. The optimizer is SGD, whose step is the cheapest.

Of the continual tasks the steps are those of a later task: both loops begin when `TASKS_BEFORE`
tasks have ended, with their images in memory but with parameters that have not been trained on
them, and go through the stream from there. GEM's first task is left out: without any memory a
step is an MLP on ten images that takes .4 ms, to which Kappa's loop adds a tenth and more.

--quick takes the models of scale=smoke, of which any loop is the larger part, and no targets. Exit
status 1 if a target is missed, 2 if a data set is missing.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from scripts import plain_loops
from scripts.bench_tasks import Kappa, bench_step
from tasks.data.store import DataError

STEP_TARGET = 1.05  # times a plain loop's step
TASKS_BEFORE = 5  # of twenty


@dataclass(frozen=True)
class Case:
    """What is measured of a task.

    Args:
        by_hand: makes the plain loop's step.
        block: steps in a block; a multiple of 10, as every tenth is recorded in more detail.
        lr: of SGD, with which no loss gets out of hand.
        streamed: its data are a stream of tasks.
    """

    by_hand: Callable[[Kappa], plain_loops.Step]
    block: int
    lr: float
    streamed: bool = False


CASES = {
    "qm9_schnet": Case(plain_loops.schnet, 10, 1e-5),
    "matproj_schnet": Case(plain_loops.schnet, 10, 1e-5),
    "criteo_dlrm": Case(plain_loops.dlrm, 20, 0.1),
    "ml20m_hvamp": Case(plain_loops.hvamp, 10, 1e-4),
    "permuted_mnist_gem": Case(plain_loops.gem, 10, 5e-3, streamed=True),
    "split_cifar100_lamaml": Case(plain_loops.lamaml, 10, 1e-3, streamed=True),
}


class ByHand:
    """A plain loop, of which each call trains one block of steps; `losses` has one for each."""

    def __init__(self, step: plain_loops.Step, block: int) -> None:
        self.step = step
        self.block = block
        self.losses: list[float] = []

    def __call__(self) -> None:
        for _ in range(self.block):
            self.losses.append(self.step())


def both_loops(name: str, overrides: list[str], folder: Path) -> tuple[Kappa, ByHand]:
    """Kappa's loop and the plain one of a task, at the same step.

    Raises:
        DataError: if its data set is missing or damaged.
    """
    case = CASES[name]
    overrides = [f"task={name}", "optimizer=sgd", f"optimizer.lr={case.lr}", *overrides]
    kappa = Kappa(overrides, case.block, folder, contextlib.nullcontext)
    if case.streamed:
        before = min(TASKS_BEFORE, kappa.task.num_tasks - 1)
        kappa.skip(before * kappa.task.epochs_per_task)
    return kappa, ByHand(case.by_hand(kappa), case.block)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny models: a smoke test")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--task", nargs="+", choices=CASES, default=list(CASES), metavar="NAME")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    overrides = ["scale=smoke"] if options.quick else []
    target = None if options.quick else STEP_TARGET
    status = 0
    for name in options.task:
        with tempfile.TemporaryDirectory() as folder:
            try:
                kappa, by_hand = both_loops(name, overrides, Path(folder))
            except DataError as error:  # the others may be there
                print(error, file=sys.stderr)
                status = 2
                continue
            passed, _ = bench_step(name, kappa, by_hand, options.rounds, target)
        status = max(status, int(not passed))
    return status


if __name__ == "__main__":
    sys.exit(main())
