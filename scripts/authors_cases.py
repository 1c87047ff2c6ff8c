"""The rows of `compare_authors`: our readings, and steps of the authors' own code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from scripts.authors import KRADAGRAD, NGPLUS, Clone
from scripts.bench_preconditioners import AUTOENCODER, RESNET

PERIOD, BLOCK_SIZE, EPS = 20, 128, 1e-4  # of the KrADagrad authors' three methods
SHAMPOO = "third_party.shampoo.shampoo"

# One makes, for a model and a dtype, what takes a step of theirs from the gradients in place.
Theirs = Callable[[nn.Module, torch.dtype], Callable[[int], None]]


@dataclass(frozen=True)
class Case:
    """One row of the comparison.

    Attributes:
        method: what the row calls it.
        yaml: our side, a name in conf/optimizer, with `options` in the place of its own.
        clone: where the other side comes from.
        theirs: makes a step of the other side.
        samples: gradients are those of a network, whose samples are recorded.
        scale: standard deviation of random gradients.
        double_model: float64 means the parameters too, not the optimizer's own numbers alone.
        model, dtype: of the row.
        bound: on the largest difference.
    """

    method: str
    yaml: str
    options: dict[str, Any]
    clone: Clone
    theirs: Theirs
    samples: bool = False
    scale: float = 1e-2
    double_model: bool = False
    model: str = RESNET
    dtype: torch.dtype = torch.float32
    bound: float = 1e-4


# ---------------------------------------------------------------- their side


def kradagrad_step(module: str, cls: str) -> Theirs:
    """A step of one of the KrADagrad authors' three methods."""

    def make(model: nn.Module, dtype: torch.dtype) -> Callable[[int], None]:
        shampoo = KRADAGRAD.module(SHAMPOO)
        optimizer = getattr(KRADAGRAD.module(module), cls)(
            list(model.parameters()),
            lr=1e-2,
            momentum=0.9,
            hyperparams=shampoo.ShampooHyperParams(
                matrix_eps=EPS,
                preconditioning_compute_steps=PERIOD,
                block_size=BLOCK_SIZE,
                graft_type=shampoo.LayerwiseGrafting.NONE,
                double=dtype == torch.float64,
            ),
        )
        return lambda step: optimizer.step()

    return make


NG_PLUS = {"lr": 0.01, "damping": 0.16, "update_freq": 5, "curvature_momentum": 0.9}
ONLINE = {"lr": 1e-3, "damping": 1e-3, "weight_decay": 1e-4}


def ng_plus_step(model: nn.Module, dtype: torch.dtype) -> Callable[[int], None]:
    """A step of NG+ in front of SGD, as in their training script."""
    layers = NGPLUS.module("resnet_ngplus")
    weights = []
    for module in model.modules():
        for plain, recording in ((nn.Conv2d, layers.Conv2dEx), (nn.Linear, layers.LinearEx)):
            if type(module) is plain:
                module.__class__ = recording
                weights.append(module.weight)
    known = {id(weight) for weight in weights}
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    preconditioner = NGPLUS.module("NGPlus").NGPlus(
        model, NG_PLUS["damping"], NG_PLUS["update_freq"], NG_PLUS["curvature_momentum"]
    )
    groups = [{"params": weights, "weight_decay": 1e-4}, {"params": others, "weight_decay": 0.0}]
    sgd = torch.optim.SGD(groups, lr=NG_PLUS["lr"], momentum=0.9)

    def step(index: int) -> None:
        if index % NG_PLUS["update_freq"] == 0:
            preconditioner.compute_all_covs()
        preconditioner.step()
        sgd.step()

    return step


def online_step(model: nn.Module, dtype: torch.dtype) -> Callable[[int], None]:
    """A step of their later version of NG+."""
    optimizer = NGPLUS.module("online_NGPlus").o_NGPlus(model.parameters(), **ONLINE)
    return lambda step: optimizer.step()


def cases() -> list[Case]:
    """All rows: every method in both dtypes on both models."""
    shared = {"lr": 1e-2, "update_freq": PERIOD, "block_size": BLOCK_SIZE}
    shampoo = Case(
        "Shampoo", "shampoo_authors", shared, KRADAGRAD, kradagrad_step(SHAMPOO, "Shampoo")
    )
    methods = [
        shampoo,
        replace(shampoo, method="Shampoo, gradients of 1", scale=1.0),
        Case(
            "KrADagrad",
            "kradagrad_authors",
            shared,
            KRADAGRAD,
            kradagrad_step("kradagradmm", "KradagradMM"),
        ),
        Case(
            "KrADagrad*",
            "kradagrad_star_authors",
            shared,
            KRADAGRAD,
            kradagrad_step("kradagrad", "KradagradPP"),
        ),
        Case("NGPlus", "ng_plus_authors", NG_PLUS, NGPLUS, ng_plus_step, True, double_model=True),
        Case(
            "NGPlus online",
            "ng_plus_authors_online",
            ONLINE,
            NGPLUS,
            online_step,
            double_model=True,
        ),
    ]
    return [
        replace(case, model=model, dtype=dtype, bound=bound_of(case, dtype))
        for case in methods
        for model in (RESNET, AUTOENCODER)
        for dtype in (torch.float32, torch.float64)
    ]


def bound_of(case: Case, dtype: torch.dtype) -> float:
    """The largest difference that the order of sums explains."""
    if dtype == torch.float32:
        # With gradients of 1 and eps = 1e-4, the statistics of a bias have null spaces where
        # float32's round-off is of the order of eps, and it is raised to -1/2: both sides are 5e-2
        # from float64, and from each other 3e-2 with two threads, 6e-5 with one.
        return 1e-4 if case.scale < 1 else 0.1
    # The KrADagrad authors' double is that of the factors; gradients and parameters stay float32.
    return 1e-10 if case.double_model else 1e-5
