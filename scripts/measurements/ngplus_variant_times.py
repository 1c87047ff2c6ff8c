"""Seconds of a step of each form of NG+ [Yang et al. 2021, sections 2.3 and 3]."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from optimizers import NGPlus, NGPlusAuthors
from scripts.measurements import kit

WIDTHS = (784, 200, 50, 10, 50, 200, 784)  # as in the experiment ngplus_variants
BATCH, FREQUENCY = 100, 10
FORMS: dict[str, dict[str, object]] = {
    "ng_plus": {},
    "ng_plus_momentum": {"beta2": 0.9},
    "ng_plus_minibatch": {"statistic": "minibatch", "beta2": 0.95, "gamma": 0.05},
    "ng_plus_online": {"statistic": "minibatch", "beta2": 1.0, "initial": 1.0, "radius": 100.0},
    "ng_plus_low_rank": {"method": "low_rank"},
    "ng_plus_sketched": {"method": "low_rank", "sketch_size": 64},
    "ng_plus_block": {"block_size": 128},
}


def variants() -> list[dict[str, object]]:
    """Seconds of a training step of an autoencoder, mean over ten of which one renews all.

    case: the method, as in ngplus_variants; SGD and Adam beside. On one batch of noise.
    """
    x = kit.gaussian(BATCH, 784, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    common = {"lr": 1e-6, "damping": 1.0, "update_freq": FREQUENCY}
    makers: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
        "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9),
        "adam": lambda model: torch.optim.Adam(model.parameters(), lr=1e-6),
        "ng_plus_authors": lambda model: NGPlusAuthors(
            model.parameters(), model=model, lr=1e-6, update_freq=FREQUENCY
        ),
    }
    for name, options in FORMS.items():
        makers[name] = lambda model, options=options: NGPlus(
            model.parameters(), model=model, **common, **options
        )
    functions = {name: stepper(make, x) for name, make in makers.items()}
    return kit.in_turns(functions, turns=9, calls=FREQUENCY)


def stepper(
    make: Callable[[nn.Module], torch.optim.Optimizer], x: torch.Tensor
) -> Callable[[], None]:
    """One training step, as a function."""
    layers: list[nn.Module] = []
    for n, m in pairwise(WIDTHS):
        layers += [nn.Linear(n, m), nn.ReLU()]
    model = nn.Sequential(*layers[:-1])
    optimizer = make(model)
    weights = torch.full((len(x),), 1 / len(x))

    def step() -> None:
        optimizer.zero_grad()
        if hasattr(optimizer, "wants_samples") and optimizer.wants_samples():
            with optimizer.record(num_samples=len(x), batch_dim=0, weights=weights):
                F.mse_loss(model(x), x).backward()
        else:
            F.mse_loss(model(x), x).backward()
        optimizer.step()

    return step


TIMED = {"ngplus_variant_times": variants}
