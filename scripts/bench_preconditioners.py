"""Time the steps of preconditioned optimizers, ours and others', on the papers' networks.

    python -m scripts.bench_preconditioners [--device cuda] [--rounds 5] [--out results/bench]

Every contender has the same random gradients of a network's shapes, float32, roots every 20 steps
and blocks of 128. The contenders take turns of one such period, after one period that is not
counted; a step's amortised time is the median over the turns of the mean of a turn, and a ratio is
one of these medians over another. Optimizers of other packages come with `pip install -e .[peers]`,
the KrADagrad authors' with KAPPA_AUTHORS=<clone of https://github.com/jonathanmei/kradagrad>.
Measure on a quiet machine: work beside it slows steps of many small kernels several times over.
Exit status 1 if a target is missed, or cannot be measured for want of the other side.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch
from torch import nn

from optimizers import (
    GGT,
    LARS,
    AdagradBMA,
    AdamNormGrad,
    GGTHardWindow,
    KrADagrad,
    KrADagradStar,
    Shampoo,
)
from optimizers.common.partition import Layout
from optimizers.linalg.window import LowRankWindow
from scripts import bench_peers
from scripts.bench_report import Row, Target, describe_machine, judge, table, write_rows
from scripts.bench_steps import Clock, Contender, Parts, time_in_turns
from tasks.models.autoencoder import Autoencoder
from tasks.models.resnet_cifar import ResNetCIFAR
from tasks.models.tanh_cnn import TanhCNN

PERIOD = 20
BLOCK_SIZE = 128
FEWEST_ROUNDS = 3  # 60 steps that are counted

RESNET = "ResNet-32 (no BN)"
AUTOENCODER = "MNIST autoencoder"
CNN = "tanh CNN"
MODELS: dict[str, Callable[[], nn.Module]] = {
    RESNET: lambda: ResNetCIFAR(32, 10),
    AUTOENCODER: lambda: Autoencoder((784, 1000, 500, 250, 30)),
    CNN: lambda: TanhCNN((1, 28, 28), 32, 4, 4, 10),
}

SGD, ADAM, ADAGRAD = "torch SGD", "torch Adam", "torch Adagrad"
STARS = {"spectral": 1.6, "trace": 1.6, "frobenius": 2.0}  # rule of t -> times our Shampoo's step
TARGETS = (
    Target(RESNET, "Shampoo", bench_peers.SCALABLE_SHAMPOO, 0.2),
    Target(AUTOENCODER, "Shampoo", bench_peers.SCALABLE_SHAMPOO, 0.28),
    *(
        Target(model, f"KrADagradStar, {rule}", other, limit)
        for model in (RESNET, AUTOENCODER)
        for rule, ratio in STARS.items()
        for other, limit in (("Shampoo", ratio), (bench_peers.AUTHORS_KRADAGRAD_STAR, 0.75))
    ),
    Target(CNN, "AdagradBMA", ADAGRAD, 1.5),
)


def kronecker(name: str, cls: type[torch.optim.Optimizer], **options: Any) -> Contender:
    """One of our optimizers with a factor a mode."""
    return Contender(
        name,
        lambda parameters: cls(
            parameters, lr=1e-3, update_freq=PERIOD, block_size=BLOCK_SIZE, **options
        ),
        {"statistics": [(cls, "_accumulate")], "roots": [(cls, "_refresh_roots")]},
    )


def plain(
    name: str, cls: type[torch.optim.Optimizer], parts: Parts | None = None, **options: Any
) -> Contender:
    """An optimizer without blocks; its step is not divided unless `parts` are given."""
    return Contender(name, lambda parameters: cls(parameters, lr=1e-3, **options), parts or {})


def windowed(name: str, cls: type[torch.optim.Optimizer]) -> Contender:
    """GGT with a window that is full after the warm-up, as each other length is after its own."""
    parts = {"statistics": [(LowRankWindow, "push")], "roots": [(cls, "_coefficients")]}
    return plain(f"{name}, window {PERIOD}", cls, parts, window=PERIOD)


def contenders(model: str, device: torch.device) -> tuple[list[Contender], dict[str, str]]:
    """Who takes part on a model; and of those that cannot, name -> why."""
    found = [
        plain(SGD, torch.optim.SGD, momentum=0.9),
        plain(ADAM, torch.optim.Adam),
        plain(ADAGRAD, torch.optim.Adagrad),
        plain(
            "AdagradBMA",
            AdagradBMA,
            {
                "statistics": [(Layout, "gather"), (Layout, "block_sums")],
                "roots": [(AdagradBMA, "_renew_root")],
            },
        ),
        plain("LARS", LARS),
        plain("AdamNormGrad", AdamNormGrad),
        windowed("GGT", GGT),
        windowed("GGTHardWindow", GGTHardWindow),
    ]
    if model == CNN:
        return found, {}
    found += [
        kronecker("Shampoo", Shampoo),
        *(kronecker(f"KrADagradStar, {rule}", KrADagradStar, t_rule=rule) for rule in STARS),
        kronecker("KrADagrad", KrADagrad),
    ]
    if device.type == "cuda":
        found += [
            kronecker(f"{cls.__name__}, bfloat16 application", cls, apply_dtype="bfloat16")
            for cls in (Shampoo, KrADagradStar, KrADagrad)
        ]
    others, absent = bench_peers.peers(PERIOD, BLOCK_SIZE)
    return found + others, absent


def bench(
    model: str, device: torch.device, num_rounds: int, clock: Clock, wanted: Sequence[str]
) -> tuple[list[Row], dict[str, str]]:
    """Time the contenders on one model's shapes; returns lines and who was absent.

    Args:
        wanted: parts of the names of those that take part, besides SGD; empty: all.
    """
    found, absent = contenders(model, device)
    taking_part = [
        contender
        for contender in found
        if contender.name == SGD or is_wanted(contender.name, wanted)
    ]
    torch.manual_seed(0)
    timings = time_in_turns(
        taking_part,
        MODELS[model]().to(device),
        period=PERIOD,
        num_warmup=PERIOD,
        num_rounds=num_rounds,
        clock=clock,
    )
    base = timings[SGD].amortised
    rows = [Row(model, name, timing, timing.amortised / base) for name, timing in timings.items()]
    return rows, absent


def is_wanted(name: str, wanted: Sequence[str]) -> bool:
    """Whether a contender's name has one of the parts asked for, or none is."""
    return not wanted or any(part in name for part in wanted)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", choices=MODELS, action="append", help="default: all")
    parser.add_argument(
        "--optimizer", action="append", default=[], help="part of a name; default: all"
    )
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="one thread and the CPU's seconds: less telling, but usable on a busy machine",
    )
    parser.add_argument("--out", type=Path, help="folder for <device>.csv and .md")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    options = parse(arguments)
    if options.rounds < FEWEST_ROUNDS:
        print(f"--rounds must be >= {FEWEST_ROUNDS}, got {options.rounds}", file=sys.stderr)
        return 2
    torch.set_num_threads(1 if options.cpu_time else options.threads)
    clock = process_time if options.cpu_time else perf_counter
    kind = "CPU seconds" if options.cpu_time else "wall-clock seconds"
    lines = [
        f"{kind}; {describe_machine(options.device)}",
        "",
        f"step: amortised, the median over {options.rounds} turns of the mean of {PERIOD} steps,",
        f"one renewal of the roots among them, after {PERIOD} steps that are not counted;",
        "worst: the median over the turns of the slowest step",
    ]
    print(*lines, sep="\n")
    rows: list[Row] = []
    absent: dict[str, str] = {}
    for model in options.model or MODELS:
        found, missing = bench(model, options.device, options.rounds, clock, options.optimizer)
        num_parameters = sum(parameter.numel() for parameter in MODELS[model]().parameters())
        title = f"{model}, {num_parameters:,} parameters; load {os.getloadavg()[0]:.1f}"
        part = ["", title, "", *table(found)]
        print("\n".join(part), flush=True)
        lines += part
        rows += found
        absent |= missing
    targets = [
        target
        for target in TARGETS
        if all(is_wanted(name, options.optimizer) for name in (target.optimizer, target.other))
    ]
    verdicts, passed = judge(targets, rows, absent)
    print("", *verdicts, sep="\n")
    if options.out is not None:
        lines += ["", *(f"- {verdict}" for verdict in verdicts)]
        write_rows(rows, options.out / f"{options.device.type}.csv")
        (options.out / f"{options.device.type}.md").write_text("\n".join(lines) + "\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
