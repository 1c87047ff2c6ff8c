"""Time a GGT step against reading its window, and against torchzero's GGT where that is installed.

    python -m scripts.bench_ggt [--quick] [--threads 2] [--rounds 9]

All ratios are of medians of calls that take turns in one process, so that other load falls on
both sides alike. Exit status 1 if a ratio misses its target.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from optimizers import GGT, FullMatrixAdagrad, state_bytes
from runners.environment import hardware

WINDOW = 100
STEP_TARGET = 1.7  # times two plain reductions over the window, d = 5,000,000
TORCHZERO_TARGET = 0.06  # times torchzero's step, d = 1,000,000
MEMORY_TARGET = 0.05  # resident growth off `state_bytes`, either way
SMALL_STEP_TARGET = 120e-6  # seconds a step of full-matrix AdaGrad at d = 10


def medians(calls: dict[str, Callable[[], object]], num_rounds: int) -> dict[str, float]:
    """Median seconds of each call; the calls take turns, and a first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(num_rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def parameter(d: int) -> Tensor:
    """Make one parameter of d values with a gradient."""
    x = torch.zeros(d, requires_grad=True)
    x.grad = torch.randn(d)
    return x


def filled(d: int, **options: object) -> tuple[GGT, Tensor]:
    """Make a GGT whose window is full of random vectors, and its parameter."""
    x = parameter(d)
    optimizer = GGT([x], window=WINDOW, **options)
    optimizer.step()
    state = optimizer.state["window"]
    state["rows"].normal_()
    # The Gram matrix of independent normal vectors, up to noise that timing does not see.
    state["gram"].copy_(d * torch.eye(WINDOW))
    state["count"] = WINDOW
    return optimizer, x


def bench_step(d: int, num_rounds: int) -> bool:
    """Compare `step` with two reads of the window, for each kind of window."""
    passed = True
    kinds = {
        "momentum in the window": {},
        "gradients in the window": {"window_source": "gradient"},
        "bfloat16 window": {"window_dtype": "bfloat16"},
    }
    for name, options in kinds.items():
        optimizer, _ = filled(d, **options)
        rows = optimizer.state["window"]["rows"]
        found = medians(
            {"reads": lambda rows=rows: (rows.sum(), rows.sum()), "step": optimizer.step},
            num_rounds,
        )
        ratio = found["step"] / found["reads"]
        # The target is stated for the default window; the other two are for information.
        target = STEP_TARGET if not options else None
        passed &= report(
            f"GGT step, d={d:,}, window {WINDOW}, {name}",
            f"{found['step'] * 1e3:.1f} ms, two reads {found['reads'] * 1e3:.1f} ms",
            ratio,
            target,
        )
        del optimizer, rows
        gc.collect()
    return passed


def bench_torchzero(d: int, num_rounds: int) -> bool:
    """Compare with torchzero's GGT, both with full windows."""
    try:
        import torchzero
    except ImportError as error:  # itself, or a package that it needs
        print(f"torchzero: not installed ({error}), comparison left out")
        return True
    ours, _ = filled(d)
    x = parameter(d)
    module = torchzero.m.GGT(history_size=WINDOW)
    theirs = torchzero.Optimizer([x], module, torchzero.m.LR(1e-3))
    for _ in range(WINDOW + 1):
        x.grad.normal_()
        theirs.step()
    found = medians({"ours": ours.step, "theirs": theirs.step}, num_rounds)
    return report(
        f"GGT step over torchzero's, d={d:,}, window {WINDOW}",
        f"{found['ours'] * 1e3:.1f} ms, torchzero {found['theirs'] * 1e3:.1f} ms",
        found["ours"] / found["theirs"],
        TORCHZERO_TARGET,
    )


def bench_memory(d: int) -> bool:
    """Compare the growth of resident memory with `state_bytes`."""
    filled(1000)  # loads what the first optimizer of a process loads
    gc.collect()
    x = parameter(d)
    before = resident_bytes()
    optimizer = GGT([x], window=WINDOW)
    for _ in range(WINDOW + 1):
        optimizer.step()
    grown, stated = resident_bytes() - before, state_bytes(optimizer)
    return report(
        f"resident memory off state_bytes, d={d:,}",
        f"{grown / 1e6:.0f} MB, stated {stated / 1e6:.0f} MB",
        abs(grown / stated - 1),
        MEMORY_TARGET,
    )


def bench_small(num_rounds: int) -> bool:
    """Time full-matrix AdaGrad and SGD at d = 10 on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    full = FullMatrixAdagrad([parameter(10)], lr=1e-3)
    sgd = torch.optim.SGD([parameter(10)], lr=1e-3)
    found = medians({"full": full.step, "sgd": sgd.step}, 200 * num_rounds)
    torch.set_num_threads(threads)
    return report(
        "full-matrix AdaGrad step, d=10, one thread, over 120 us",
        f"{found['full'] * 1e6:.0f} us, torch SGD {found['sgd'] * 1e6:.0f} us",
        found["full"] / SMALL_STEP_TARGET,
        1.0,
    )


def resident_bytes() -> int:
    """Resident memory of this process (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def report(name: str, detail: str, ratio: float, target: float | None) -> bool:
    """Print one line and return whether the target is met."""
    passed = target is None or ratio <= target
    verdict = "" if target is None else f" (target {target:g}: {'met' if passed else 'MISSED'})"
    print(f"{name}: {ratio:.3f}{verdict}; {detail}", flush=True)
    return passed


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="shrink d fifty times: a smoke test")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    shrink = 50 if options.quick else 1
    machine = ", ".join(f"{name} {value}" for name, value in hardware().items())
    print(f"{machine}, {options.threads} threads, torch {torch.__version__}")
    # Memory first: freed blocks of other benches would hide growth.
    results = [bench_memory(1_000_000 // shrink)] if Path("/proc/self/statm").exists() else []
    results += [
        bench_small(options.rounds),
        bench_step(5_000_000 // shrink, options.rounds),
        bench_torchzero(1_000_000 // shrink, options.rounds),
    ]
    # Small windows sit in cache and small processes in their allocator: no targets there.
    return 0 if options.quick or all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
