"""Time whole commands: the start of a small run, and the grid of GGT's Fig. 2.

python -m scripts.bench_start [--rounds 7] [--no-grid]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from scripts.bench_ggt import report

ROOT = Path(__file__).resolve().parent.parent
START_TARGET = 3.0
GRID_TARGET_SECONDS = 300.0
TORCH = "import torch; torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))])"


def seconds(command: list[str], folder: str) -> float:
    """Wall-clock seconds of a command that keeps its records in `folder`."""
    start = perf_counter()
    environment = {**os.environ, "KAPPA_RUNS": folder}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    return perf_counter() - start


def bench_start(num_rounds: int) -> bool:
    """Compare a run of a few steps with importing torch and making an optimizer."""
    ours, torch_alone = [], []
    for _ in range(num_rounds):
        torch_alone.append(seconds([sys.executable, "-c", TORCH], "."))
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "run.py", "task=logistic", "optimizer=sgd", "scale=smoke"]
            ours.append(seconds(command, folder))
    mine, theirs = statistics.median(ours), statistics.median(torch_alone)
    return report(
        "run.py task=logistic optimizer=sgd scale=smoke over importing torch",
        f"{mine:.2f} s, torch {theirs:.2f} s",
        mine / theirs,
        START_TARGET,
    )


def bench_grid() -> bool:
    """Time the whole of experiment=ggt_fig2, from nothing."""
    with tempfile.TemporaryDirectory() as folder:
        took = seconds([sys.executable, "run.py", "experiment=ggt_fig2"], folder)
    return report(
        "experiment=ggt_fig2, search and final runs, over 5 minutes",
        f"{took:.0f} s",
        took / GRID_TARGET_SECONDS,
        1.0,
    )


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-grid", action="store_true", help="leave out the experiment")
    options = parser.parse_args(argv)
    passed = bench_start(options.rounds)
    if not options.no_grid:
        passed &= bench_grid()
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
