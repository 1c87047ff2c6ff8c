"""Seconds of an epoch of Shampoo, KrADagrad* and KrADagrad (KrADagrad paper, Table 1)."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import nn

from optimizers import KrADagrad, KrADagradStar, Shampoo
from scripts.measurements import kit
from tasks.models.resnet_cifar import ResNetCIFAR

BATCH_SIZE = 128
MODELS = {"cifar10": (32, 10), "cifar100": (56, 100)}  # depth and classes
# Steps of a turn by the steps between roots: a whole period, or a few where each is alike.
STEPS = {20: 20, 1: 2}
NUM_TURNS = 5
# As the authors' code: eps 1e-4, blocks of 128, updates scaled to the gradient's norm but for
# KrADagrad's, which computes the roots of a tensor's first block alone.
METHODS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "shampoo": lambda params, every: Shampoo(
        params, lr=1e-3, floor=1e-4, initial_scale=1e-4, damping=1e-8, graft="sgd",
        root_schedule="multiples", update_freq=every,
    ),
    "kradagrad_star": lambda params, every: KrADagradStar(
        params, lr=1e-3, initial_scale=1e4, t_rule="trace_dim", root_shift=1e-8, graft="sgd",
        root_schedule="multiples", update_freq=every,
    ),
    "kradagrad": lambda params, every: KrADagrad(
        params, lr=1e-3, damping=1e-4, root_shift=1e-8, schedule="square_root_whole",
        first_block_only=True, update_freq=every,
    ),
}  # fmt: skip


def epoch_times() -> list[dict]:
    """Seconds of an iteration and of its optimizer's step, the mean over a turn's steps.

    data: "cifar10" (ResNet-32) or "cifar100" (ResNet-56), without normalisation, batches of 128;
    every: steps between roots. part "step": the optimizer's alone; "iteration": with a forward and
    a backward pass on a batch of noise, which are the same for all methods: they are timed first,
    in as many turns, and the time of a turn is added to each method's of that number. An epoch of
    any number of iterations has the same ratios.
    """
    rows = []
    for data, (depth, num_classes) in MODELS.items():
        torch.manual_seed(0)
        model = ResNetCIFAR(depth, num_classes)
        images = torch.randn(BATCH_SIZE, 3, 32, 32)
        labels = torch.randint(0, num_classes, (BATCH_SIZE,))

        def both(model=model, images=images, labels=labels) -> None:
            model.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()

        both()
        passes = {row["seed"]: row["value"] for row in kit.in_turns({"": both}, NUM_TURNS)}
        for every, num_steps in STEPS.items():
            named = {name: _steps(model, make, every) for name, make in METHODS.items()}
            for row in kit.in_turns(named, NUM_TURNS, calls=num_steps):
                labelled = {**row, "data": data, "every": every}
                rows.append({**labelled, "part": "step"})
                seconds = row["value"] + passes[row["seed"]]
                rows.append({**labelled, "part": "iteration", "value": seconds})
    return rows


def _steps(
    model: nn.Module, make: Callable[..., torch.optim.Optimizer], every: int
) -> Callable[[], None]:
    """The step of an optimizer over a copy of the model's parameters.

    Gradients are noise, another one in each of five steps: factors of one gradient alone would be
    of low rank, and their decompositions quicker.
    """
    copies = [nn.Parameter(parameter.detach().clone()) for parameter in model.parameters()]
    generator = torch.Generator().manual_seed(0)
    noise = [
        [0.1 * torch.randn(copy.shape, generator=generator) for copy in copies] for _ in range(5)
    ]
    optimizer, turns = make(copies, every), itertools.cycle(noise)

    def step() -> None:
        for copy, gradient in zip(copies, next(turns), strict=True):
            copy.grad = gradient
        optimizer.step()

    return step


TIMED = {"kradagrad_epoch_times": epoch_times}
